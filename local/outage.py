"""`python -m local broker down | up`: an outage of a running stack's broker, to see what a service does."""

import sys
from http.client import HTTPConnection, HTTPException

from local.ports import LOOPBACK

TIMEOUT_S = 5.0


def set_broker(state: str, port: int) -> int:
    """Starts or ends the outage. Returns the exit status."""
    connection = HTTPConnection(LOOPBACK, port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", f"/_local/broker/{state}")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        print(f"error: there is no local stack on port {port}: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    if status != 200:
        print(f"error: what listens on port {port} is no local stack", file=sys.stderr)
        return 1
    print(f"the broker on port {port} is {state}")
    return 0

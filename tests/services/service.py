"""A service in Python: calls the provider's API every 0.1 s, and prints the seconds and the status of each call.

python service.py PROVIDER CONNECTION URL SECONDS
"""

import sys
import time

import requests

from token_broker_client import BrokerAuth, TokenBrokerError

provider, connection, url, seconds = sys.argv[1:]
session = requests.Session()
session.trust_env = False
session.auth = BrokerAuth(provider, connection)
end_at = time.monotonic() + float(seconds)
while time.monotonic() < end_at:
    started = time.monotonic()
    try:
        result = str(session.get(url, timeout=30).status_code)
    except (requests.RequestException, TokenBrokerError) as error:
        result = f"{type(error).__name__}: {error}"
    sys.stdout.write(f"{time.monotonic() - started:.3f} {result}\n")
    time.sleep(0.1)

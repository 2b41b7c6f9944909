"""Who may ask: a program of this user on this machine. Not a web page in a browser, and nothing that a proxy forwards.

A Unix socket with mode 0600 admits this user's programs only. A port on 127.0.0.1 admits every program, so there the
request must carry the agent's password, which stands in a file with mode 0600. A web page can reach either port or,
through a proxy, the socket: the headers that only browsers and proxies send are refused. A page whose host name was
made to lead to 127.0.0.1 (DNS rebinding) sends its own name as Host.
"""

import hmac
from collections.abc import Iterable
from email.message import Message
from typing import Final

from token_broker_cli.agent.responses import AgentProblem

PASSWORD_HEADER: Final = "X-Agent-Password"  # noqa: S105  # a name
LOCAL_NAMES: Final = ("localhost", "127.0.0.1")
# Only browsers and proxies send these. Node.js's fetch sends Sec-Fetch-Mode, but not Sec-Fetch-Site as browsers do.
FOREIGN: Final = frozenset({"origin", "referer", "sec-fetch-site", "forwarded", "via"})
FOREIGN_PREFIX: Final = "x-forwarded-"


class Door:
    """Admits requests. `port`: the one on 127.0.0.1; None for a Unix socket."""

    def __init__(self, port: int | None, password: str | None) -> None:
        self._hosts = frozenset(name if port is None else f"{name}:{port}" for name in LOCAL_NAMES)
        self._password = None if password is None else password.encode()

    def check(self, headers: "Message[str, str]") -> None:
        """Raises AgentProblem unless the request may pass."""
        if found := _foreign(headers.keys()):
            raise AgentProblem(403, "not_local", f"A program on this machine sends no {found} header.")
        if [host.lower() for host in headers.get_all("Host", [])] not in ([host] for host in self._hosts):
            raise AgentProblem(403, "not_local", f"The Host header must be {' or '.join(sorted(self._hosts))}.")
        if self._password is not None:
            sent = headers.get_all(PASSWORD_HEADER, [])
            if len(sent) != 1 or not hmac.compare_digest(sent[0].encode(errors="replace"), self._password):
                raise AgentProblem(403, "wrong_password", f"The header {PASSWORD_HEADER} is missing or wrong.")


def _foreign(names: Iterable[str]) -> str | None:
    """The first header that only browsers and proxies send."""
    return next((name for name in names if name.lower() in FOREIGN or name.lower().startswith(FOREIGN_PREFIX)), None)

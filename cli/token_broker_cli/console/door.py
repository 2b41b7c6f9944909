"""Who may come in. A single-use link opens a session; every request shows it; every change proves where it comes from.

The browser holds the session's cookie and no page can read it. A page of another site can neither read the console
(Host, same origin) nor act in it (SameSite, Origin, CSRF token).
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Final
from urllib.parse import urlsplit

from token_broker_cli.console.messages import Denied, Request

OPEN_PATH: Final = "/open"
LINK_LIFE_S: Final = 60.0
IDLE_S: Final = 3_600.0
SESSION_LIFE_S: Final = 12 * 3_600.0
# More people than use one console. The oldest session makes room.
MAX_SESSIONS: Final = 16
FETCHED_BY_US: Final = ("same-origin", "none")


@dataclass
class Session:
    """One browser that came in. `csrf_token` is in each of its forms. `notices`: what its next page says."""

    csrf_token: str = field(repr=False)
    began_at: float
    used_at: float
    notices: list[str] = field(default_factory=list)

    def take_notices(self) -> list[str]:
        """The notices, once."""
        taken = self.notices
        self.notices = []
        return taken


class Door:
    """The console's door. `origin`: http://127.0.0.1:PORT, the only one that it answers to."""

    def __init__(self, origin: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.origin = origin
        parts = urlsplit(origin)
        self.host = parts.netloc
        # Browsers send a cookie to every port of a host. The name keeps two consoles apart.
        self.cookie_name = f"token_broker_console_{parts.port}"
        self._clock = clock
        self._lock = Lock()
        self._code: tuple[str, float] | None = None
        self._sessions: dict[str, Session] = {}

    def new_link(self) -> str:
        """A link that opens one session, within 60 s. It ends the link before."""
        code = secrets.token_urlsafe(32)
        with self._lock:
            self._code = (code, self._clock() + LINK_LIFE_S)
        return f"{self.origin}{OPEN_PATH}?code={code}"

    def open(self, code: str) -> str:
        """Exchanges a link's code for a session. Returns the Set-Cookie header. Raises Denied."""
        with self._lock:
            known = self._code
            now = self._clock()
            if known is None or now > known[1] or not _equal(code, known[0]):
                raise Denied(403, "This link was used already, or it is older than 60 seconds.", NEW_LINK)
            self._code = None
            value = secrets.token_urlsafe(32)
            while len(self._sessions) >= MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[_digest(value)] = Session(secrets.token_urlsafe(32), began_at=now, used_at=now)
        return f"{self.cookie_name}={value}; HttpOnly; SameSite=Strict; Path=/"

    def check_host(self, request: Request) -> None:
        """Raises Denied unless the request names this console: a foreign name can lead to 127.0.0.1 too."""
        if request.header("Host") != self.host:
            raise Denied(403, f"This console answers to {self.host} only.")

    def session(self, request: Request) -> Session:
        """The session of the request's cookie. Raises Denied."""
        if request.header("Sec-Fetch-Site") not in (None, *FETCHED_BY_US):
            raise Denied(403, "Another page has sent this request.")
        key = _digest(request.cookie(self.cookie_name) or "")
        now = self._clock()
        with self._lock:
            found = self._sessions.get(key)
            if found and (now - found.used_at > IDLE_S or now - found.began_at > SESSION_LIFE_S):
                del self._sessions[key]
                found = None
            if found is None:
                raise Denied(401, "This browser has no session here.", NEW_LINK)
            found.used_at = now
        return found

    def check_change(self, request: Request, session: Session) -> None:
        """Raises Denied unless a form of this session sent the request."""
        if request.header("Origin") != self.origin:
            raise Denied(403, "A change must come from the console's own pages.")
        if not _equal(request.form.get("csrf_token", ""), session.csrf_token):
            raise Denied(403, "The form is not one of this session.", "Go back, load the page anew and try again.")


NEW_LINK: Final = (
    "A link works once, for 60 seconds. For a new one, press Enter in the terminal where the console runs,"
    " or start `token-broker console` again."
)


def _equal(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), known.encode())


def _digest(value: str) -> str:
    """What is kept of a cookie's value. Comparing digests takes the same time for every guess."""
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()

"""Catches the redirect of a consent: a page on 127.0.0.1 to which the vendor sends the person's browser."""

import queue
from typing import Final

from token_broker_cli.console.messages import Request, Response
from token_broker_cli.console.server import LOOPBACK, Server, listen

PATH: Final = "/consent"
# More than one person's browser sends. Whoever else finds the port cannot fill the memory.
MOST_WAITING: Final = 16
PAGE: Final = (
    b'<!doctype html><html lang="en"><meta charset="utf-8"><title>Token broker</title>'
    b"<p>You can close this page. The terminal shows how it goes on.</html>\n"
)
HEADERS: Final = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),  # the address holds the code
    ("X-Content-Type-Options", "nosniff"),
)


class RedirectCatcher:
    """Listens on a free port until it is closed. Its page repeats nothing of the request, and nothing is logged.

    Any program on this machine can send it a URL: the broker says which one belongs to the consent.
    """

    def __init__(self) -> None:
        self._caught: queue.Queue[str] = queue.Queue(MOST_WAITING)
        listener = listen(0)
        self.redirect_uri: str = f"http://{LOOPBACK}:{listener.getsockname()[1]}{PATH}"
        self._server = Server(listener, self._respond)

    def wait(self, seconds: float) -> str | None:
        """The next URL that a browser was sent to; None if none comes in time."""
        try:
            return self._caught.get(timeout=max(seconds, 0))
        except queue.Empty:
            return None

    def close(self) -> None:
        """Frees the port. Idempotent."""
        self._server.close()

    def _respond(self, request: Request) -> Response:
        if request.method != "GET" or request.path != PATH or not request.query:
            return Response(404, PAGE, headers=HEADERS)
        try:
            self._caught.put_nowait(f"{self.redirect_uri}?{request.query}")
        except queue.Full:
            return Response(503, PAGE, headers=HEADERS)
        return Response(200, PAGE, headers=HEADERS)

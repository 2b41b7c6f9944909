"""A provider's API on loopback that answers as it is told and keeps what came, Authorization included."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from local.front import Front, Gateway
from local.ports import listen
from local.sigv4 import LOCAL, ReceivedRequest

Reply = tuple[int, dict[str, str], bytes]
OK: Reply = (200, {}, b"ok")
REFUSED: Reply = (401, {}, b"")


@dataclass(frozen=True)
class Came:
    """One request as it arrived."""

    method: str
    path: str
    headers: Any
    body: bytes

    @property
    def token(self) -> str | None:
        """The token that it carries, whichever way."""
        key: str | None = self.headers.get("apiKey")
        return key or str(self.headers.get("Authorization", "")).removeprefix("Bearer ") or None


class Api(Gateway):
    """`reply` says what each request gets; `came` holds them. A context of `serve_api` is listening."""

    def __init__(self) -> None:
        super().__init__([], verifier=None, gateway_responses={}, stage="", unsigned_caller=LOCAL)
        self.came: list[Came] = []
        self.reply: Callable[[Came], Reply] = lambda _: OK
        self._front = Front(listen(0), self)
        self.url = self._front.url

    def answer(self, request: ReceivedRequest) -> tuple[int, list[tuple[str, str]], bytes]:
        came = Came(request.method, request.path, request.headers, request.body)
        self.came.append(came)
        status, headers, body = self.reply(came)
        return status, list(headers.items()), body

    def close(self) -> None:
        self._front.close()

    @property
    def tokens(self) -> list[str | None]:
        """The token of each request."""
        return [came.token for came in self.came]

    def refuse_tokens(self, *tokens: str) -> None:
        """These get a 401, and so does a request without a token."""
        self.reply = lambda came: REFUSED if came.token in (None, *tokens) else OK


def redirect(location: str, status: int = 307) -> Reply:
    return status, {"Location": location}, b""

"""A provider's API on loopback. The test sets its responses and reads its requests, Authorization included."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from local.front import Front, Gateway
from local.ports import listen
from local.sigv4 import LOCAL, ReceivedRequest

ApiResponse = tuple[int, dict[str, str], bytes]
OK: ApiResponse = (200, {}, b"ok")
UNAUTHORIZED: ApiResponse = (401, {}, b"")


@dataclass(frozen=True)
class ApiRequest:
    """One request that the API received."""

    method: str
    path: str
    headers: Any
    body: bytes

    @property
    def token(self) -> str | None:
        """The token in whichever header."""
        key: str | None = self.headers.get("apiKey")
        return key or str(self.headers.get("Authorization", "")).removeprefix("Bearer ") or None


class Api(Gateway):
    """Listens until `close`. `response_to` makes the response to each request; `requests` holds them."""

    def __init__(self) -> None:
        super().__init__([], verifier=None, gateway_responses={}, stage="", unsigned_caller=LOCAL)
        self.requests: list[ApiRequest] = []
        self.response_to: Callable[[ApiRequest], ApiResponse] = lambda _: OK
        self._front = Front(listen(0), self)
        self.url = self._front.url

    def respond(self, request: ReceivedRequest) -> tuple[int, list[tuple[str, str]], bytes]:
        api_request = ApiRequest(request.method, request.path, request.headers, request.body)
        self.requests.append(api_request)
        status, headers, body = self.response_to(api_request)
        return status, list(headers.items()), body

    def close(self) -> None:
        self._front.close()

    @property
    def tokens(self) -> list[str | None]:
        """The token of each request."""
        return [request.token for request in self.requests]

    def reject_tokens(self, *tokens: str) -> None:
        """Responds with 401 to these tokens and to a request without one."""
        self.response_to = lambda request: UNAUTHORIZED if request.token in (None, *tokens) else OK


def redirect(location: str, status: int = 307) -> ApiResponse:
    return status, {"Location": location}, b""

"""`HttpxAuth`: puts a connection's token on each request of httpx, with its sync and async clients."""

from collections.abc import AsyncGenerator, Generator
from typing import Any, Final

import anyio.to_thread
import httpx

from token_broker_client.connection_auth import ConnectionAuth, carries_token, may_replay
from token_broker_client.tokens import Token

MAX_REDIRECTS: Final = 5
Origin = tuple[str, str, int | None]


class HttpxAuth(ConnectionAuth, httpx.Auth):
    """An auth for httpx. `BrokerAuth(…)` is one, too, if httpx was imported before.

    httpx would send a header other than Authorization along to any host that a redirect names. So this auth takes that
    header off. After a redirect within the same origin it repeats the last request with the header.
    """

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """For httpx.Client."""
        flow = _AuthFlow(self, request)
        flow.use(self.token())
        while True:
            response = yield flow.request
            if response.is_error and self.needs_body:
                response.read()
            flow.receive(response)
            if flow.rejected:
                flow.use(self.replacement(flow.rejected))
            if not flow.send_again:
                return

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """For httpx.AsyncClient. The broker is asked in a thread, and only if no token is cached."""
        flow = _AuthFlow(self, request)
        flow.use(self.kept() or await anyio.to_thread.run_sync(self.token, abandon_on_cancel=True))
        while True:
            response = yield flow.request
            if response.is_error and self.needs_body:
                await response.aread()
            flow.receive(response)
            if flow.rejected:
                flow.use(await anyio.to_thread.run_sync(self.replacement, flow.rejected, abandon_on_cancel=True))
            if not flow.send_again:
                return


class _AuthFlow:
    """Decides what to send next, and sends nothing itself. `request` is sent; `receive` takes the response."""

    def __init__(self, auth: ConnectionAuth, request: httpx.Request) -> None:
        self.request = request
        self.rejected: Token | None = None  # replace this token before sending again
        self.send_again = False
        self._auth = auth
        self._body = _Body(request.stream)
        self._origin = _origin(request.url)
        self._token: Token | None = None
        self._replays = 0
        self._redirects = 0

    def use(self, token: Token | None) -> None:
        """Puts the token on the request. None: there is no other token, so nothing is sent again."""
        self.rejected = None
        if token is None:
            return
        self.send_again = not self._replays or self._body.rewind(self.request.stream)
        if self.send_again:
            self._token = token
            self.request.headers = _TokenHeaders(self.request.headers, token)

    def receive(self, response: httpx.Response) -> None:
        """Takes the response, after the client has followed its redirects."""
        self.send_again = False
        token = self._token
        request = response.request
        hops = [hop.request for hop in (*response.history, response)]
        if token is None or any(_origin(hop.url) != self._origin for hop in hops):
            return
        if not carries_token(request.headers, token):
            self._repeat_with_header(response, token)
        elif may_replay(self._replays, token) and self._auth.rejects(response):
            self._replays += 1
            self.request = request
            self.rejected = token

    def _repeat_with_header(self, response: httpx.Response, token: Token) -> None:
        """A redirect within the origin has lost its header: sends its last request again."""
        self._redirects += 1
        request = response.request
        if self._redirects <= MAX_REDIRECTS and self._body.rewind(request.stream):
            self.request = request
            self.send_again = True
            request.headers = _TokenHeaders(request.headers, token)


class _Body:
    """Rewinds the files that a request's body is read from. httpx keeps them in attributes of its streams."""

    def __init__(self, stream: object) -> None:
        self._stream = stream
        fields = getattr(stream, "fields", None)  # of a form
        files: list[Any] = [getattr(stream, "_stream", None)]
        if fields is not None:
            files = [file for file in (getattr(it, "file", b"") for it in fields) if not isinstance(file, bytes | str)]
        self._starts: list[tuple[Any, int]] | None
        try:
            self._starts = [(file, file.tell()) for file in files]
        except (AttributeError, OSError):
            self._starts = None

    def rewind(self, stream: object) -> bool:
        """Whether the stream, which is this body or a redirect's, can be sent again. This body is then at its start."""
        if isinstance(stream, httpx.ByteStream):
            return True
        if stream is not self._stream or self._starts is None:
            return False
        try:
            for file, start in self._starts:
                file.seek(start)
        except (AttributeError, OSError):
            return False
        return True


class _TokenHeaders(httpx.Headers):
    """Headers with a token's. A copy of them has none of the token's headers but Authorization.

    httpx makes the request that follows a redirect from a copy. It removes Authorization itself if the origin changes.
    Any other header would go to whatever host the redirect names.
    """

    def __init__(self, headers: httpx.Headers, token: Token) -> None:
        super().__init__(headers)
        self._not_copied = httpx.Headers()
        for name, value in token.headers.items():
            self.pop(name, None)
            is_copied = name.lower() == "authorization"
            (self if is_copied else self._not_copied)[name] = value

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """What is sent."""
        return [*super().raw, *self._not_copied.raw]

    def __getitem__(self, key: str) -> str:
        return self._not_copied[key] if key in self._not_copied else super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        return key in self._not_copied or super().__contains__(key)


def _origin(url: httpx.URL) -> Origin:
    ports = {"http": 80, "https": 443}
    return url.scheme, url.host, url.port or ports.get(url.scheme)

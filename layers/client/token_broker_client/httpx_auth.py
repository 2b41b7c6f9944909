"""`HttpxAuth`: BrokerAuth as an auth of httpx, for its sync and its async clients."""

from collections.abc import AsyncGenerator, Generator
from typing import Final

import anyio.to_thread
import httpx

from token_broker_client.auth import BrokerAuth, carries, is_about_the_token
from token_broker_client.tokens import Token

MOST_REDIRECTS: Final = 5
Origin = tuple[str, str, int | None]


class HttpxAuth(BrokerAuth, httpx.Auth):
    """What `BrokerAuth(…)` makes where httpx is imported: see there.

    A client that follows redirects gets a header other than Authorization to the next address of the same origin by one
    more request, because httpx itself would take it along to any host.
    """

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """For httpx.Client."""
        course = _Course(request)
        course.take(self.token())
        while True:
            course.answered((yield course.request))
            if course.refused:
                course.take(self.replacement(course.refused))
            if not course.goes_on:
                return

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """For httpx.AsyncClient: the broker is asked in a thread, and only if there is no kept token."""
        course = _Course(request)
        course.take(self.kept() or await anyio.to_thread.run_sync(self.token, abandon_on_cancel=True))
        while True:
            course.answered((yield course.request))
            if course.refused:
                course.take(await anyio.to_thread.run_sync(self.replacement, course.refused, abandon_on_cancel=True))
            if not course.goes_on:
                return


class _Course:
    """What comes next for a request, without doing any of it: `request` is sent, `answered` with what came back."""

    def __init__(self, request: httpx.Request) -> None:
        self.request = request
        self.refused: Token | None = None  # to be replaced before anything is sent again
        self.goes_on = False  # whether `request` is to be sent (again)
        self._origin = _origin(request.url)
        self._token: Token | None = None
        self._replayed = False
        self._redirects = 0

    def take(self, token: Token | None) -> None:
        """Puts the token on the request. None: there is no other one, so nothing is sent again."""
        self.refused = None
        if token is None:
            return
        self.goes_on = not self._replayed or isinstance(self.request.stream, httpx.ByteStream)
        if self.goes_on:
            self._token = token
            self.request.headers = _OfOneHop(self.request.headers, token)

    def answered(self, response: httpx.Response) -> None:
        """Looks at what came, after the client followed its redirects."""
        self.goes_on = False
        token, request = self._token, response.request
        hops = [hop.request for hop in (*response.history, response)]
        if token is None or any(_origin(hop.url) != self._origin for hop in hops):
            return
        if not carries(request.headers, token):
            self._follow(response, token)
        elif response.status_code == 401 and not self._replayed:
            self._replayed = is_about_the_token(response.headers)
            if self._replayed:
                self.request, self.refused = request, token

    def _follow(self, response: httpx.Response, token: Token) -> None:
        """A redirect within the origin has lost its header: once more from there."""
        self._redirects += 1
        request = response.request
        if self._redirects <= MOST_REDIRECTS and isinstance(request.stream, httpx.ByteStream):
            self.request, self.goes_on = request, True
            request.headers = _OfOneHop(request.headers, token)


class _OfOneHop(httpx.Headers):
    """Headers with a token's, which a copy of them has not, but for Authorization.

    httpx makes the request that follows a redirect from a copy. From that it takes Authorization away itself if the
    origin changes, and nothing else: another header would go to whatever host the redirect names.
    """

    def __init__(self, headers: httpx.Headers, token: Token) -> None:
        super().__init__(headers)
        self._own = httpx.Headers()
        for name, value in token.headers.items():
            self.pop(name, None)
            (self if name.lower() == "authorization" else self._own)[name] = value

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """What is sent."""
        return [*super().raw, *self._own.raw]

    def __getitem__(self, key: str) -> str:
        return self._own[key] if key in self._own else super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        return key in self._own or super().__contains__(key)


def _origin(url: httpx.URL) -> Origin:
    ports = {"http": 80, "https": 443}
    return url.scheme, url.host, url.port or ports.get(url.scheme)

"""`BrokerAuth`: puts a connection's token on each request, and replaces a token that the provider's API rejects."""

import sys
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast
from urllib.parse import urljoin, urlsplit

from urllib3.util import parse_url

from token_broker_client.connection_auth import ConnectionAuth, carries_token, may_replay
from token_broker_client.tokens import Token

if TYPE_CHECKING:
    from requests import PreparedRequest, Response
    from requests.auth import AuthBase
else:
    try:
        from requests.auth import AuthBase
    except ImportError:  # a service that has httpx only
        AuthBase = object

AnyRequest = TypeVar("AnyRequest")
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class BrokerAuth(ConnectionAuth, AuthBase):
    """An auth for requests and for httpx (sync and async). Puts the token's headers on each request.

        session = requests.Session()
        session.auth = BrokerAuth("unidy", "eu-main", scope="users:read")

    If the provider's API responds with 401 to a request that carried this token, the token is reported to the broker
    once, and the request is sent again once with another token (twice only as `may_replay` says), provided that its
    body is bytes, text, or a file or a form that can seek. `is_rejected` replaces the rule of the 401. The headers
    follow a redirect within the same origin, and never to another one.

    A request raises what `TokenBroker.token` raises.

    For httpx, import httpx before you make the object. httpx accepts its own kind of auth only, and this module does
    not import httpx for services without it. If you cannot, use `token_broker_client.httpx_auth.HttpxAuth`.
    """

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Once httpx is imported, the object is an auth of httpx as well."""
        if cls is BrokerAuth and sys.modules.get("httpx"):
            return cast("Self", super().__new__(_auth_for_both()))
        return super().__new__(cls)

    def __call__(self, request: AnyRequest) -> AnyRequest:
        """requests calls this with each prepared request."""
        if not hasattr(request, "register_hook"):
            raise TypeError("for httpx: import httpx before BrokerAuth is made, or use httpx_auth.HttpxAuth")
        prepared = cast("PreparedRequest", request)
        sent = _SentRequest(self, self.token(), prepared)
        prepared.headers.update(sent.token.headers)
        prepared.register_hook("response", sent.on_response)  # type: ignore[no-untyped-call]  # requests does not type it
        return request


@cache
def _auth_for_both() -> type[BrokerAuth]:
    """BrokerAuth as an auth of requests and of httpx."""
    from token_broker_client.httpx_auth import HttpxAuth

    class BrokerAuthForBoth(BrokerAuth, HttpxAuth):
        def __reduce__(self) -> tuple[Any, ...]:
            """Pickled as BrokerAuth: the process that unpickles it may have no httpx."""
            return BrokerAuth.__new__, (BrokerAuth,), self.__dict__

    return BrokerAuthForBoth


class _SentRequest:
    """A request that requests sends, with its redirects: they carry the same hook."""

    def __init__(self, auth: BrokerAuth, token: Token, request: "PreparedRequest") -> None:
        self.token = token
        self._auth = auth
        self._first = request
        self._origin = origin(request.url or "")
        self._replays = 0

    def on_response(self, response: "Response", **kwargs: Any) -> "Response":
        """requests' hook for each response. It runs before requests makes a redirect from `response.request`."""
        request = response.request
        # Code that prepares a request can send it several times, each time with a token and with one replay.
        if request is self._first:
            self._replays = 0
        else:
            self._first.headers.update(self.token.headers)
        if not carries_token(request.headers, self.token) or origin(request.url or "") != self._origin:
            return response
        while may_replay(self._replays, self.token) and self._auth.rejects(response):
            replayed = self._replay(request, response, kwargs)
            if replayed is None:
                break
            response = replayed
        if response.is_redirect and not self._stays_at_origin(response):
            for name in self.token.headers:
                request.headers.pop(name, None)
        return response

    def _replay(self, request: "PreparedRequest", response: "Response", kwargs: dict[str, Any]) -> "Response | None":
        """The response to the request with another token; None if that is not sent. As in requests' HTTPDigestAuth."""
        self._replays += 1
        token = self._auth.replacement(self.token)
        connection = getattr(response, "connection", None)
        if token is None or connection is None or not _rewind_body(request):
            return None
        self.token = token
        _ = response.content  # read to its end, so that the connection can be used again
        response.close()
        request.headers.update(token.headers)
        sent = request.copy()
        replayed = cast("Response", connection.send(sent, **kwargs))
        replayed.history += [*response.history, response]
        replayed.request = sent
        return replayed

    def _stays_at_origin(self, response: "Response") -> bool:
        """Whether the redirect leads to the origin that the token was sent to."""
        from requests.sessions import SessionRedirectMixin
        from requests.utils import requote_uri

        try:
            target = SessionRedirectMixin().get_redirect_target(response) or ""
            return origin(urljoin(response.url, requote_uri(target))) == self._origin
        except ValueError:
            return False


def _rewind_body(request: "PreparedRequest") -> bool:
    """Sets the body back to its start. False if it cannot be sent again."""
    from requests.exceptions import UnrewindableBodyError
    from requests.utils import rewind_body

    body: Any = request.body
    if body is None or isinstance(body, bytes | bytearray | str):
        return True
    try:
        rewind_body(request)
    except UnrewindableBodyError:
        return False
    return True


def origin(url: str) -> tuple[object, ...]:
    """Scheme, host and port of a URL. If urllib and urllib3 read the URL differently, the result equals no other.

    Versions of requests differ in which of the two they pick the connection by.
    """
    one = urlsplit(url)
    other = parse_url(url)
    readings = [(one.scheme, one.hostname, one.port), (other.scheme or "", other.host, other.port)]
    first, second = [(scheme, host, port or DEFAULT_PORTS.get(scheme)) for scheme, host, port in readings]
    return first if first == second else (object(),)

"""`BrokerAuth`: a connection's token on every request, and its replacement when the provider's API refuses it."""

import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast
from urllib.parse import urljoin, urlsplit

from urllib3.util import parse_url

from token_broker_client.client import shared_broker
from token_broker_client.source import TokenSource
from token_broker_client.tokens import Token

if TYPE_CHECKING:
    from requests import PreparedRequest, Response
    from requests.auth import AuthBase
else:
    try:
        from requests.auth import AuthBase
    except ImportError:  # only httpx is there
        AuthBase = object

AnyRequest = TypeVar("AnyRequest")
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
BEARER_ERROR: Final = re.compile(r'\bbearer\b.*?\berror\s*=\s*"?([a-z_]+)', re.IGNORECASE)


class BrokerAuth(AuthBase):
    """Auth for requests and for httpx (sync and async): puts the token's headers on each request.

        session = requests.Session()
        session.auth = BrokerAuth("unidy", "eu-main", scope="users:read")

    A 401 of the provider's API to this very token, from where it was sent, reports the token to the broker once and
    sends the request again once with its successor, if its body can be sent again: requests, bytes or a file that can
    seek; httpx, anything but a stream. The headers follow a redirect within the origin and never to another.

    `url`: the broker's, None for TOKEN_BROKER_URL; all auths of a URL share kept tokens and connections. `broker`: a
    TokenBroker of your own instead. Nothing is read or asked before the first request. The request raises what
    `TokenBroker.token` raises.

    For httpx, import httpx before making the object: httpx takes its own kind of auth only, and this module does not
    import it for those who have no use for it. Where that cannot be, use `token_broker_client.httpx_auth.HttpxAuth`.
    """

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """An object that httpx takes as well, once there is an httpx."""
        if cls is BrokerAuth and sys.modules.get("httpx"):
            from token_broker_client.httpx_auth import HttpxAuth

            return cast("Self", super().__new__(HttpxAuth))
        return super().__new__(cls)

    def __init__(
        self,
        provider: str,
        connection: str,
        *,
        scope: str | None = None,
        min_ttl: int | None = None,
        url: str | None = None,
        broker: TokenSource | None = None,
    ) -> None:
        """`scope`, `min_ttl`: as for `TokenBroker.token`."""
        self._name = provider, connection
        self._scope = scope
        self._min_ttl = min_ttl
        self._url = url
        self._broker = broker

    def token(self) -> Token:
        """The token that the next request carries; also its `api_base_url`. Raises TokenBrokerError."""
        return self._source().token(*self._name, scope=self._scope, min_ttl=self._min_ttl)

    def kept(self) -> Token | None:
        """The same, if it is there without asking the broker."""
        return self._source().kept(*self._name, scope=self._scope, min_ttl=self._min_ttl)

    def replacement(self, refused: Token) -> Token | None:
        """See `TokenSource.replacement`."""
        return self._source().replacement(refused, scope=self._scope, min_ttl=self._min_ttl)

    def __call__(self, request: AnyRequest) -> AnyRequest:
        """What requests calls with the request that it has prepared."""
        if not hasattr(request, "register_hook"):
            raise TypeError("for httpx: import httpx before BrokerAuth is made, or use httpx_auth.HttpxAuth")
        prepared = cast("PreparedRequest", request)
        sent = _Sent(self, self.token(), prepared)
        prepared.headers.update(sent.token.headers)
        prepared.register_hook("response", sent.after)  # type: ignore[no-untyped-call]  # requests does not type it
        return request

    def __repr__(self) -> str:
        scope = "" if self._scope is None else f", scope={self._scope!r}"
        return f"BrokerAuth({self._name[0]!r}, {self._name[1]!r}{scope})"

    def _source(self) -> TokenSource:
        return self._broker or shared_broker(self._url)


class _Sent:
    """A request on its way through requests, its redirects included: they take this hook along."""

    def __init__(self, auth: BrokerAuth, token: Token, request: "PreparedRequest") -> None:
        self.token = token
        self._auth = auth
        self._first = request
        self._origin = origins(request.url or "")
        self._replayed = False

    def after(self, response: "Response", **kwargs: Any) -> "Response":
        """requests' hook on each response, before it follows a redirect: that is made from `response.request`."""
        request = response.request
        # The first may be sent several times by whoever prepared it: each time with a token, and with a replay.
        if request is self._first:
            self._replayed = False
        else:
            self._first.headers.update(self.token.headers)
        if not carries(request.headers, self.token) or origins(request.url or "") != self._origin:
            return response
        if response.status_code == 401 and not self._replayed and is_about_the_token(response.headers):
            response = self._again(response, kwargs)
        if response.is_redirect and not self._stays(response):
            for name in self.token.headers:
                request.headers.pop(name, None)
        return response

    def _again(self, response: "Response", kwargs: dict[str, Any]) -> "Response":
        """The answer to the request with another token, or the one there was. As requests' HTTPDigestAuth does it."""
        self._replayed = True
        token = self._auth.replacement(self.token)
        connection = getattr(response, "connection", None)
        if token is None or connection is None or not _rewound(response.request):
            return response
        self.token = token
        _ = response.content  # read to its end, so that the connection can be used again
        response.close()
        response.request.headers.update(token.headers)
        request = response.request.copy()
        answer = cast("Response", connection.send(request, **kwargs))
        answer.history.append(response)
        answer.request = request
        return answer

    def _stays(self, response: "Response") -> bool:
        """Whether the redirect stays at the origin that the token was sent to."""
        from requests.sessions import SessionRedirectMixin
        from requests.utils import requote_uri

        try:
            target = SessionRedirectMixin().get_redirect_target(response) or ""
            return origins(urljoin(response.url, requote_uri(target))) == self._origin
        except ValueError:
            return False


def _rewound(request: "PreparedRequest") -> bool:
    """Whether the body can be sent again; if so, it is at its beginning."""
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


def origins(url: str) -> tuple[object, ...]:
    """Scheme, host and port of a URL as both of its readers see it: a URL that they see differently equals none.

    requests picks the connection by the one reading or the other, by version.
    """
    one, other = urlsplit(url), parse_url(url)
    readings = [(one.scheme, one.hostname, one.port), (other.scheme or "", other.host, other.port)]
    origin, same = [(scheme, host, port or DEFAULT_PORTS.get(scheme)) for scheme, host, port in readings]
    return origin if origin == same else (object(),)


def carries(headers: Mapping[str, Any], token: Token) -> bool:
    """Whether a request went out with the token."""
    return all(headers.get(name) == value for name, value in token.headers.items())


def is_about_the_token(headers: Mapping[str, str]) -> bool:
    """Whether a 401 says that the token is not valid, by its WWW-Authenticate header (RFC 6750 section 3).

    Without a reason it does; "insufficient_scope" and "invalid_request" are no matter of this token's validity.
    """
    reason = BEARER_ERROR.search(headers.get("WWW-Authenticate") or "")
    return reason is None or reason.group(1).lower() == "invalid_token"

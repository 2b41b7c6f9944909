"""What the auths for requests and for httpx share: a connection, its token, and when a response rejects the token."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from token_broker_client.client import shared_broker
from token_broker_client.source import TokenSource
from token_broker_client.tokens import Token

BEARER_ERROR: Final = re.compile(r'\bbearer\b.*?\berror\s*=\s*"?([a-z_]+)', re.IGNORECASE)


class ApiResponse(Protocol):
    """A response of requests or httpx, as far as a rejected token can be read from it."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...


def rejects_token(response: ApiResponse) -> bool:
    """Whether the token is not valid any more: a 401, unless its WWW-Authenticate header gives another reason.

    "insufficient_scope" and "invalid_request" do not mean that the token is not valid (RFC 6750 section 3).
    """
    error = BEARER_ERROR.search(response.headers.get("WWW-Authenticate") or "")
    return response.status_code == 401 and (error is None or error.group(1).lower() == "invalid_token")


def may_replay(replays: int, token: Token) -> bool:
    """Whether a request whose token was rejected may be sent again, after so many replays.

    Once. Once more if the broker had the token before the report, because the provider may have revoked that one, too.
    """
    return replays == 0 or (replays == 1 and token.source != "provider")


class ConnectionAuth:
    """The token of one connection. Sends nothing before the first request."""

    def __init__(
        self,
        provider: str,
        connection: str,
        *,
        scope: str | None = None,
        min_ttl: int | None = None,
        url: str | None = None,
        broker: TokenSource | None = None,
        is_rejected: Callable[[Any], bool] = rejects_token,
    ) -> None:
        """`scope`, `min_ttl`: see `TokenBroker.token`. `url`: the broker's (None: TOKEN_BROKER_URL).

        All auths of one URL share cached tokens and connections. `broker`: your own TokenBroker instead of a URL.
        `is_rejected`: for an API that does not respond with 401 when a token is not valid any more. It gets each
        response with status 400 or above, its body included, and says whether the token was rejected.
        """
        self._name = provider, connection
        self._scope = scope
        self._min_ttl = min_ttl
        self._url = url
        self._broker = broker
        self._is_rejected = is_rejected

    def token(self) -> Token:
        """The token that the next request carries. It has the `api_base_url`, too. Raises TokenBrokerError."""
        return self._source().token(*self._name, scope=self._scope, min_ttl=self._min_ttl)

    def kept(self) -> Token | None:
        """The same, if it is cached; else None."""
        return self._source().kept(*self._name, scope=self._scope, min_ttl=self._min_ttl)

    def replacement(self, rejected: Token) -> Token | None:
        """See `TokenSource.replacement`."""
        return self._source().replacement(rejected, scope=self._scope, min_ttl=self._min_ttl)

    @property
    def needs_body(self) -> bool:
        """Whether `is_rejected` may read the response's body."""
        return self._is_rejected is not rejects_token

    def rejects(self, response: ApiResponse) -> bool:
        """Whether the API says that the token of the request is not valid any more."""
        return response.status_code >= 400 and self._is_rejected(response)

    def __repr__(self) -> str:
        scope = "" if self._scope is None else f", scope={self._scope!r}"
        return f"BrokerAuth({self._name[0]!r}, {self._name[1]!r}{scope})"

    def _source(self) -> TokenSource:
        return self._broker or shared_broker(self._url)


def carries_token(headers: Mapping[str, Any], token: Token) -> bool:
    """Whether a request was sent with the token."""
    return all(headers.get(name) == value for name, value in token.headers.items())

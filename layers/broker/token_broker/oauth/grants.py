"""The grants, in one registry.

A flow is a generator. It yields an HttpRequest, is sent the HttpResponse or thrown a TransportError, and returns an
IssuedToken. It raises GrantFailed where no token came. A code or refresh token that was sent is never sent again.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from token_broker.core.failures import ExchangeFailure
from token_broker.core.names import scope_items, split_scope
from token_broker.core.providers import DEFAULT_PORTS, Grant
from token_broker.oauth.exchange import HttpRequest, HttpResponse, OutcomeUnknown, Unreachable, UnreadableResponse
from token_broker.oauth.outcomes import ExchangeResult, Step, TransportFailure, classify
from token_broker.oauth.requests import GrantRequest, connect_request, refresh_request, token_request
from token_broker.oauth.responses import (
    IssuedRefreshToken,
    IssuedToken,
    UnusableResponse,
    error_code,
    has_retry_after,
    read_token,
    refresh_token_in,
    response_object,
    retry_after,
)

Flow = Generator[HttpRequest, HttpResponse, IssuedToken]


class GrantFailed(Exception):
    """No token came, and what that means.

    `nothing_sent`: no credential left the broker (set by the sender). `status`: of the provider's response; 0 without a
    complete one. `refresh_token`: a new one that came all the same.
    """

    def __init__(
        self,
        failure: ExchangeFailure,
        *,
        nothing_sent: bool = False,
        status: int = 0,
        refresh_token: IssuedRefreshToken | None = None,
    ) -> None:
        super().__init__(failure.detail)
        self.failure = failure
        self.nothing_sent = nothing_sent
        self.status = status
        self.refresh_token = refresh_token

    @property
    def is_complete_error(self) -> bool:
        """Whether the provider said that it did nothing: an error in a whole response, and no fault of its own."""
        if 200 <= self.status < 300:
            return self.failure.provider_error is not None
        return 300 <= self.status < 500


def one_request(request: GrantRequest) -> Flow:
    """One token request. Its fields are those of the grant and of the provider's file."""
    step: Step = "login" if request.provider.grant.counts_logins else "token"
    return (yield from _exchange(request, step, token_request(request)))


def authorization_code(request: GrantRequest) -> Flow:
    """RFC 6749 section 4.1, server to server. The redirect is read, not followed. A refused code gets one new one."""
    try:
        return (yield from _connect_and_exchange(request))
    except GrantFailed as failed:
        if not failed.failure.restart:
            raise
    return (yield from _connect_and_exchange(request))


def refresh_token(request: GrantRequest) -> Flow:
    """RFC 6749 section 6, with the refresh token of a person's consent. Nothing else is tried if it is refused.

    A response without a refresh token means that the old one stays valid.
    """
    assert request.refresh_token is not None, request.provider.slug  # noqa: S101  # who starts it has one
    return (yield from _exchange(request, "consent", token_request(request)))


JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
GRANTS: Mapping[str, Grant] = MappingProxyType(
    {
        grant.name: grant
        for grant in (
            # RFC 6749 section 4.4
            Grant(
                "client_credentials",
                one_request,
                fields={"grant_type": "client_credentials", "scope": "{scope}"},
            ),
            # RFC 6749 section 4.3
            Grant(
                "password",
                one_request,
                fields={
                    "grant_type": "password",
                    "username": "{secret:username}",
                    "password": "{secret:password}",
                    "scope": "{scope}",
                },
                credentials=("username", "password"),
                counts_logins=True,
            ),
            # RFC 7523 section 2.1
            Grant(
                "jwt_bearer",
                one_request,
                fields={"grant_type": JWT_BEARER, "assertion": "{assertion}", "scope": "{scope}"},
            ),
            # RFC 6749 section 4.1
            Grant(
                "authorization_code",
                authorization_code,
                fields={"grant_type": "authorization_code", "code": "{code}", "redirect_uri": "{redirect_uri}"},
                connect_query={
                    "client_id": "{secret:client_id}",
                    "redirect_uri": "{redirect_uri}",
                    "response_type": "code",
                    "scope": "{scope}",
                },
                credentials=("client_id",),
            ),
            # RFC 6749 section 6, beginning with the refresh token of a person's consent
            Grant(
                "refresh_token",
                refresh_token,
                fields={"grant_type": "refresh_token", "refresh_token": "{refresh_token}"},
                credentials=("client_id",),
                needs_consent=True,
            ),
            # Not OAuth: credentials for a token.
            Grant(
                "login", one_request, credentials_as_fields=True, is_oauth=False, has_scopes=False, counts_logins=True
            ),
        )
    }
)


def token_flow(request: GrantRequest) -> Flow:
    """The provider's grant. With a refresh token, RFC 6749 section 6 first, then the grant if that was refused.

    A response without a refresh token keeps the old one, as the section says. A grant that needs consent has no other
    way.
    """
    grant = request.provider.grant
    if request.refresh_token is not None and grant.refreshes_keys:
        try:
            issued = yield from _exchange(request, "refresh", refresh_request(request))
            return replace(issued, refresh_token=issued.refresh_token or request.refresh_token)
        except GrantFailed as failed:
            if not failed.failure.restart:
                raise
    flow: Flow = grant.flow(request)
    return (yield from flow)


def _connect_and_exchange(request: GrantRequest) -> Flow:
    code = yield from _connect(request)
    return (yield from _exchange(request, "code", token_request(request, code=code)))


def _connect(request: GrantRequest) -> Generator[HttpRequest, HttpResponse, str]:
    """The code in connect's redirect."""
    response = yield from sent(request, "connect", connect_request(request))
    result = _result(request, "connect", response)
    if not 300 <= response.status < 400:
        raise _failed(replace(result, unusable="connect did not redirect"))
    location = response.headers.get("location", "")
    if not leads_to(location, request.redirect_uri):
        raise _failed(replace(result, wrong_redirect=True))
    query = dict(redirect_query(location))
    if query.get("code"):
        return query["code"]
    if query.get("error"):
        raise _failed(replace(result, error=error_code({"error": query["error"]}, request.response)))
    raise _failed(replace(result, unusable="the redirect carries no code"))


def leads_to(location: str, redirect_uri: str) -> bool:
    """Whether a redirect goes to the registered URI: same scheme, host, port and path."""
    try:
        return _destination(location) == _destination(redirect_uri)
    except ValueError:
        return False


def _destination(url: str) -> tuple[str, str | None, int | None, str]:
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, parts.hostname, parts.port or DEFAULT_PORTS.get(scheme), parts.path or "/"


def redirect_query(location: str) -> list[tuple[str, str]]:
    """The query of a redirect. Values are unquoted once and not as a form: a raw + in a code is a plus."""
    pairs = (part.partition("=") for part in urlsplit(location).query.split("&") if part)
    return [(unquote(name), unquote(value)) for name, _, value in pairs]


def _exchange(request: GrantRequest, step: Step, http_request: HttpRequest) -> Flow:
    response = yield from sent(request, step, http_request)
    return issued_token(request, step, response)


def issued_token(request: GrantRequest, step: Step, response: HttpResponse) -> IssuedToken:
    """The token in a response. Raises GrantFailed where there is none."""
    result = _result(request, step, response)
    if not 200 <= response.status < 300:
        raise _failed(result)
    try:
        issued = read_token(response, request.response)
        _check_not_wider(request, issued)
    except UnusableResponse as unusable:
        failed = _failed(replace(result, unusable=str(unusable)))
    else:
        # A response can hold a token and an error. The error counts.
        if classify(result) is None:
            return issued
        failed = _failed(result)
    failed.refresh_token = refresh_token_in(response, request.response, request.now)
    raise failed


def _check_not_wider(request: GrantRequest, issued: IssuedToken) -> None:
    everything = request.provider.scope.everything
    requested = scope_items(request.scope)
    granted = split_scope(issued.scope or "")
    if everything in granted and requested and everything not in requested:
        raise UnusableResponse("it is valid for every scope, but narrower ones were requested")


def sent(
    request: GrantRequest, step: Step, http_request: HttpRequest
) -> Generator[HttpRequest, HttpResponse, HttpResponse]:
    """Sends one request. Raises GrantFailed where no complete response came."""
    transport: TransportFailure = "unreachable"
    try:
        return (yield http_request)
    except Unreachable as error:
        if error.bad_certificate:
            transport = "bad_certificate"
        elif error.private_address:
            transport = "private_address"
        raise _failed(ExchangeResult(step, transport=transport, worked_before=request.worked_before)) from None
    except OutcomeUnknown as error:
        transport = "unreadable" if isinstance(error, UnreadableResponse) else "unknown"
        raise _failed(ExchangeResult(step, transport=transport, worked_before=request.worked_before)) from None


def _result(request: GrantRequest, step: Step, response: HttpResponse) -> ExchangeResult:
    return ExchangeResult(
        step=step,
        status=response.status,
        error=error_code(response_object(response), request.response),
        retry_after=retry_after(response.headers, request.now),
        has_retry_after=has_retry_after(response.headers),
        html="html" in response.headers.get("content-type", "").lower(),
        worked_before=request.worked_before,
    )


def _failed(result: ExchangeResult) -> GrantFailed:
    failure = classify(result)
    assert failure is not None, result  # noqa: S101  # every caller has ruled success out
    return GrantFailed(failure, status=result.status)

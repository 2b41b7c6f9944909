"""The grants: generators that yield a request, are sent the response or thrown a TransportError, and return a token.

Each raises Refusal with what `classify` made of the exchange. A code or refresh token that went out is not sent again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from urllib.parse import quote_plus, unquote, urlencode, urlsplit

from token_broker.core.credentials import Credentials
from token_broker.core.exchange import HttpRequest, HttpResponse, OutcomeUnknown, Unreachable
from token_broker.core.failures import Seen, Step, Transport, Verdict, classify
from token_broker.core.names import scope_items
from token_broker.core.providers import Endpoints, Provider
from token_broker.core.replies import Issued, Unusable, error_code, read_object, read_token, retry_after

Flow = Generator[HttpRequest, HttpResponse, Issued]


@dataclass(frozen=True, slots=True)
class Order:
    """All that a grant needs. `proven`: these credentials worked before. `now`: for a Retry-After that is a date."""

    provider: Provider
    endpoints: Endpoints
    credentials: Credentials
    client_auth: str
    method: str
    encoding: str
    scope: str
    now: datetime
    params: Mapping[str, str] = field(default_factory=dict)
    redirect_uri: str = ""
    refresh_token: str | None = field(default=None, repr=False)
    proven: bool = False


class Refusal(Exception):
    """No token, and what that means. `nothing_left`: not a byte of credentials went out (set by who sends)."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.detail)
        self.verdict = verdict
        self.nothing_left = False


def flow_for(order: Order) -> Flow:
    """The provider's grant as a flow; with a refresh token, the refresh first and the grant anew if that is refused."""
    if order.provider.grant == "login":
        return login(order)
    if order.provider.grant == "authorization_code":
        return refresh_or(order, authorization_code(order))
    return refresh_or(order, client_credentials(order))


def client_credentials(order: Order) -> Flow:
    """RFC 6749 section 4.4."""
    request = token_request(order, {"grant_type": "client_credentials", **_scope_field(order), **order.params})
    return (yield from _exchange(order, "token", request))


def authorization_code(order: Order) -> Flow:
    """RFC 6749 section 4.1, server to server: the redirect is read, not followed. A refused code gets one new one."""
    try:
        return (yield from _connect_and_exchange(order))
    except Refusal as refusal:
        if not refusal.verdict.restart:
            raise
    return (yield from _connect_and_exchange(order))


def refresh_or(order: Order, anew: Flow) -> Flow:
    """RFC 6749 section 6, then `anew` if the refresh token is refused. An answer without a refresh token keeps the old
    one, as the section says."""
    if order.refresh_token is None:
        return (yield from anew)
    fields = {"grant_type": "refresh_token", "refresh_token": order.refresh_token}
    try:
        issued = yield from _exchange(order, "refresh", token_request(order, fields))
        return replace(issued, refresh_token=issued.refresh_token or order.refresh_token)
    except Refusal as refusal:
        if not refusal.verdict.restart:
            raise
    return (yield from anew)


def login(order: Order) -> Flow:
    """Unicommerce's authToken: username and password in the query of a GET, or as a JSON body of a POST. Not OAuth."""
    values, headers = order.credentials.values, dict(order.provider.request_headers)
    pairs = tuple((name, values[name]) for name in order.provider.credentials)
    if order.method == "GET":
        request = HttpRequest("GET", order.endpoints.token, query=pairs, headers=headers)
    else:
        request = HttpRequest("POST", order.endpoints.token, headers=headers, body=json.dumps(dict(pairs)).encode())
    return (yield from _exchange(order, "login", request))


def revocation(order: Order, token: str) -> HttpRequest | None:
    """RFC 7009 section 2.1; None where the provider or these credentials cannot revoke."""
    if order.endpoints.revocation is None or order.credentials.values.get("client_secret") is None:
        return None
    request = token_request(order, {"token": token})
    return replace(request, url=order.endpoints.revocation)


def token_request(order: Order, fields: Mapping[str, str]) -> HttpRequest:
    """A POST to the token endpoint with exactly one client authentication.

    `basic` percent-encodes id and secret before base64 (RFC 6749 section 2.3.1); `basic-raw` does not, for servers that
    do not decode; `form` and `json` put them into a body of that encoding.
    """
    body, headers, encoding = (
        dict(fields),
        {"Accept": "application/json", **order.provider.request_headers},
        order.encoding,
    )
    client_id, secret = order.credentials.client_id, order.credentials.client_secret
    if order.client_auth in ("form", "json"):
        encoding = order.client_auth
        body["client_id"] = client_id
        if secret is not None:
            body["client_secret"] = secret
    elif order.client_auth == "none":
        body["client_id"] = client_id
    else:
        pair = f"{client_id}:{secret or ''}"
        if order.client_auth == "basic":
            pair = f"{quote_plus(client_id, safe='')}:{quote_plus(secret or '', safe='')}"
        headers["Authorization"] = f"Basic {base64.b64encode(_basic_bytes(pair, order.provider)).decode()}"
    if encoding == "json":
        return HttpRequest(
            "POST",
            order.endpoints.token,
            headers={**headers, "Content-Type": "application/json"},
            body=json.dumps(body).encode(),
        )
    return HttpRequest(
        "POST",
        order.endpoints.token,
        headers={**headers, "Content-Type": "application/x-www-form-urlencoded"},
        body=urlencode(body).encode(),
    )


def _basic_bytes(pair: str, provider: Provider) -> bytes:
    try:
        return pair.encode(provider.basic_charset)
    except UnicodeEncodeError:
        # Outside ISO-8859-1 there is no right answer (RFC 7617 section 2.1 prefers UTF-8); the server will say.
        return pair.encode()


def _connect_and_exchange(order: Order) -> Flow:
    code = yield from _connect(order)
    fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": order.redirect_uri}
    return (yield from _exchange(order, "code", token_request(order, fields)))


def _connect(order: Order) -> Generator[HttpRequest, HttpResponse, str]:
    query = (
        ("client_id", order.credentials.client_id),
        ("redirect_uri", order.redirect_uri),
        ("response_type", "code"),
        *_scope_field(order).items(),
    )
    request = HttpRequest("GET", order.endpoints.connect or "", query=query)
    response = yield from _sent(order, "connect", request)
    seen = _seen(order, "connect", response)
    if 300 <= response.status < 400:
        location = response.headers.get("location", "")
        answer = _redirect_answer(location) if leads_to(location, order.redirect_uri) else None
        if answer is None:
            seen = replace(seen, elsewhere=True)
        elif answer.get("code"):
            return answer["code"]
        elif answer.get("error"):
            seen = replace(seen, error=error_code({"error": answer["error"]}))
        else:
            seen = replace(seen, unusable="the redirect carries no code")
    else:
        seen = replace(seen, unusable="connect did not redirect")
    raise _refusal(seen)


def leads_to(location: str, redirect_uri: str) -> bool:
    """Whether a redirect goes to the registered URI: same scheme, host, port and path."""
    try:
        left, right = urlsplit(location), urlsplit(redirect_uri)
        return (left.scheme.lower(), left.hostname, left.port or _PORTS.get(left.scheme.lower()), left.path or "/") == (
            right.scheme.lower(),
            right.hostname,
            right.port or _PORTS.get(right.scheme.lower()),
            right.path or "/",
        )
    except ValueError:
        return False


_PORTS = {"https": 443, "http": 80}


def _redirect_answer(location: str) -> dict[str, str]:
    """The query of a redirect, each value unquoted exactly once and not as a form: a raw + in a code is a plus."""
    pairs = (part.partition("=") for part in urlsplit(location).query.split("&") if part)
    return {unquote(name): unquote(value) for name, _, value in pairs}


def _scope_field(order: Order) -> dict[str, str]:
    return {"scope": order.scope} if order.scope else {}


def _exchange(order: Order, step: Step, request: HttpRequest) -> Flow:
    response = yield from _sent(order, step, request)
    seen = _seen(order, step, response)
    if not 200 <= response.status < 300:
        raise _refusal(seen)
    try:
        issued = read_token(response, order.provider)
        _check_not_wider(order, issued)
    except Unusable as reason:
        raise _refusal(replace(seen, unusable=str(reason))) from None
    # An error beside a token outweighs it.
    if classify(seen) is not None:
        raise _refusal(seen)
    return issued


def _check_not_wider(order: Order, issued: Issued) -> None:
    everything = order.provider.scope.everything
    asked, granted = scope_items(order.scope), scope_items(issued.scope or "")
    if everything in granted and asked and everything not in asked:
        raise Unusable("it was issued for everything, which was not asked for")


def _sent(order: Order, step: Step, request: HttpRequest) -> Generator[HttpRequest, HttpResponse, HttpResponse]:
    try:
        return (yield request)
    except Unreachable as error:
        transport: Transport = "unreachable"
        if error.bad_certificate or error.refused_address:
            transport = "bad_certificate" if error.bad_certificate else "refused_address"
        raise _refusal(Seen(step, transport=transport, proven=order.proven)) from None
    except OutcomeUnknown:
        raise _refusal(Seen(step, transport="unknown", proven=order.proven)) from None


def _seen(order: Order, step: Step, response: HttpResponse) -> Seen:
    return Seen(
        step=step,
        status=response.status,
        error=error_code(read_object(response)),
        retry_after=retry_after(response.headers, order.now),
        has_retry_after="retry-after" in response.headers,
        html="html" in response.headers.get("content-type", "").lower(),
        proven=order.proven,
    )


def _refusal(seen: Seen) -> Refusal:
    verdict = classify(seen)
    assert verdict is not None, seen  # noqa: S101  # every caller has ruled success out
    return Refusal(verdict)

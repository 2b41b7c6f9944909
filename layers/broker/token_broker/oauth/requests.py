"""The requests that a grant sends: token request, connect, login, revocation."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode

from token_broker.core.connections import Connection
from token_broker.core.credentials import Credentials
from token_broker.core.providers import Endpoints, Provider, ResponseSpec
from token_broker.oauth.exchange import HttpRequest


@dataclass(frozen=True, slots=True)
class GrantRequest:
    """All that a grant needs. `now` resolves a Retry-After that is a date.

    `response`: how to read the token's response. `worked_before`: the provider accepted these credentials before.
    """

    provider: Provider
    endpoints: Endpoints
    credentials: Credentials
    client_auth: str
    method: str
    encoding: str
    client_id_in_body: bool
    scope: str
    response: ResponseSpec
    now: datetime
    params: Mapping[str, Any] = field(default_factory=dict)
    redirect_uri: str = ""
    refresh_token: str | None = field(default=None, repr=False)
    worked_before: bool = False

    @property
    def scope_field(self) -> dict[str, str]:
        return {"scope": self.scope.replace(" ", self.provider.scope.separator)} if self.scope else {}


def grant_request_for(connection: Connection, credentials: Credentials, scope: str, now: datetime) -> GrantRequest:
    """What a grant or a revocation of this connection needs."""
    provider, options = connection.provider, connection.options
    return GrantRequest(
        provider=provider,
        endpoints=connection.endpoints,
        credentials=credentials,
        client_auth=connection.client_auth,
        method=options.get("method") or provider.method,
        encoding=options.get("encoding") or provider.encoding,
        client_id_in_body=connection.client_id_in_body,
        scope=scope,
        response=connection.response,
        now=now,
        params=options.get("params") or {},
        redirect_uri=options.get("redirect_uri") or "",
    )


def token_request(request: GrantRequest, fields: Mapping[str, Any]) -> HttpRequest:
    """A POST to the token endpoint with exactly one client authentication.

    `basic` percent-encodes id and secret before base64 (RFC 6749 section 2.3.1). `basic-raw` does not, for servers that
    do not decode. `form` and `json` put them into a body of that encoding. With `client_id_in_body` the id stands in
    the body too.
    """
    return _authenticated_post(request, request.endpoints.token, fields)


def _authenticated_post(request: GrantRequest, url: str, fields: Mapping[str, Any]) -> HttpRequest:
    body = dict(fields)
    headers = {"Accept": "application/json", **request.provider.request_headers}
    encoding = request.encoding
    client_id, client_secret = request.credentials.client_id, request.credentials.client_secret
    if request.client_auth in ("form", "json"):
        encoding = request.client_auth
        body["client_id"] = client_id
        if client_secret is not None:
            body["client_secret"] = client_secret
    elif request.client_auth == "none":
        body["client_id"] = client_id
    else:
        headers["Authorization"] = _basic_authorization(request)
        if request.client_id_in_body:
            body["client_id"] = client_id
    content_type, encoded = _encoded(body, encoding)
    return _http_request("POST", url, headers={**headers, "Content-Type": content_type}, body=encoded)


def _http_request(
    method: str,
    url: str,
    query: tuple[tuple[str, str], ...] = (),
    *,
    headers: Mapping[str, str],
    body: bytes | None = None,
) -> HttpRequest:
    """A request to an endpoint. The query of its URL (Azure AD B2C's `?p=policy`) comes first."""
    address, _, own_query = url.partition("?")
    own_pairs = tuple(parse_qsl(own_query, keep_blank_values=True))
    return HttpRequest(method, address, query=own_pairs + query, headers=headers, body=body)


def connect_request(request: GrantRequest) -> HttpRequest:
    """RFC 6749 section 4.1.1, sent by the broker instead of a browser."""
    query = (
        ("client_id", request.credentials.client_id),
        ("redirect_uri", request.redirect_uri),
        ("response_type", "code"),
        *request.scope_field.items(),
    )
    return _http_request("GET", request.endpoints.connect or "", query, headers={})


def login_request(request: GrantRequest) -> HttpRequest:
    """The credentials in the query of a GET, or as the JSON body of a POST. Not OAuth."""
    fields = {name: request.credentials.values[name] for name in request.provider.credentials}
    headers = dict(request.provider.request_headers)
    if request.method == "GET":
        return _http_request("GET", request.endpoints.token, tuple(fields.items()), headers=headers)
    return _http_request("POST", request.endpoints.token, headers=headers, body=json.dumps(fields).encode())


def revocation_request(request: GrantRequest, token: str) -> HttpRequest | None:
    """RFC 7009 section 2.1. None where the provider or these credentials cannot revoke."""
    if request.endpoints.revocation is None or request.credentials.values.get("client_secret") is None:
        return None
    return _authenticated_post(request, request.endpoints.revocation, {"token": token})


def _encoded(body: Mapping[str, Any], encoding: str) -> tuple[str, bytes]:
    """A body and its content type. A list is a repeated field of a form (RFC 8707 section 2.1)."""
    if encoding == "json":
        return "application/json", json.dumps(body).encode()
    pairs = [
        (name, _form_text(item))
        for name, value in body.items()
        for item in (value if isinstance(value, list) else [value])
    ]
    return "application/x-www-form-urlencoded", urlencode(pairs).encode()


def _form_text(value: Any) -> str:
    """Text as it is; numbers and booleans as JSON writes them."""
    return value if isinstance(value, str) else json.dumps(value)


def _basic_authorization(request: GrantRequest) -> str:
    client_id, client_secret = request.credentials.client_id, request.credentials.client_secret or ""
    if request.client_auth == "basic":
        client_id, client_secret = quote_plus(client_id, safe=""), quote_plus(client_secret, safe="")
    pair = f"{client_id}:{client_secret}"
    try:
        encoded = pair.encode(request.provider.basic_charset)
    except UnicodeEncodeError:
        # ISO-8859-1 cannot hold these characters. RFC 7617 section 2.1 prefers UTF-8.
        encoded = pair.encode()
    return f"Basic {base64.b64encode(encoded).decode()}"

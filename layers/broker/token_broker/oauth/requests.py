"""The requests that a grant or a consent sends: token request, connect, code exchange, device flow, revocation."""

from __future__ import annotations

import base64
import hmac
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit

from token_broker.core.connections import Connection
from token_broker.core.credentials import Credentials
from token_broker.core.providers import ConsentSpec, Endpoints, Provider, ResponseSpec, SignatureSpec
from token_broker.core.templates import (
    SECRET,
    Template,
    as_text,
    expand_fields,
    header_value,
    templates_in,
    whole_number,
)
from token_broker.errors import ConnectionMisconfigured
from token_broker.oauth.assertions import NewAssertion
from token_broker.oauth.exchange import HttpRequest, quoted_query

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"  # RFC 8628 section 3.4
CLIENT_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523 section 2.2


@dataclass(frozen=True, slots=True)
class GrantRequest:
    """All that a grant needs. `now` resolves a Retry-After that is a date.

    `options`: the settings that only this provider has. `method`, `fields_in`: of the token request. `params`: fields
    that the settings add. `response`: how to read the token's response. `worked_before`: the provider accepted these
    credentials before. `new_assertion`: for a provider that takes assertions. Each is sent once.
    """

    provider: Provider
    endpoints: Endpoints
    credentials: Credentials
    options: Mapping[str, Any] = field(repr=False)
    client_auth: str
    method: str
    fields_in: str
    client_id_in_body: bool
    scope: str
    response: ResponseSpec
    now: datetime
    params: Mapping[str, Any] = field(default_factory=dict)
    refresh_token: str | None = field(default=None, repr=False)
    worked_before: bool = False
    new_assertion: NewAssertion | None = field(default=None, repr=False)

    @property
    def redirect_uri(self) -> str:
        return self.options.get("redirect_uri") or ""

    def values(self, **more: str) -> dict[str, Any]:
        """What templates can name. They hold credentials. `{uuid}` is new each time."""
        items = self.scope.split()
        return {
            **self.options,
            **{SECRET + name: value for name, value in self.credentials.values.items()},
            "scope": self.provider.scope.separator.join(items),
            "scope_list": items,
            "endpoint": self.endpoints.token,
            "uuid": str(uuid.uuid4()),
            "now": int(self.now.timestamp()),
            "now_ms": int(self.now.timestamp() * 1000),
            "refresh_token": self.refresh_token,
            **more,
        }


def grant_request_for(connection: Connection, credentials: Credentials, scope: str, now: datetime) -> GrantRequest:
    """What a grant or a revocation of this connection needs.

    Raises ConnectionMisconfigured for a credential that must stand in a header and cannot.
    """
    provider = connection.provider
    options = connection.options
    kinds = {spec.name: spec.kind for spec in provider.settings}
    params = [options.get(name) or {} for name, kind in kinds.items() if kind == "params"]
    request = GrantRequest(
        provider=provider,
        endpoints=connection.endpoints,
        credentials=credentials,
        options=options,
        client_auth=connection.client_auth,
        method=provider.request.method.text(options) or "",
        fields_in=provider.request.fields_in.text(options) or "",
        client_id_in_body=connection.client_id_in_body,
        scope=scope,
        response=connection.response,
        now=now,
        params={name: value for fields in params for name, value in fields.items()},
    )
    _check_placement(connection, request)
    return request


def _check_placement(connection: Connection, request: GrantRequest) -> None:
    """Each credential fits where it stands: in a header, or as a number. Settings were checked when they were PUT."""
    spec = connection.provider.request
    consent = connection.provider.consent
    in_headers = (*spec.headers.values(), *connection.provider.send.headers.values())
    fields = (spec.fields, consent.fields if consent is not None else {})
    as_numbers = [template for table in fields for template in templates_in(table) if template.is_number]
    checks: tuple[tuple[Iterable[Template], Callable[[str], object]], ...] = (
        (in_headers, header_value),
        (as_numbers, whole_number),
    )
    for templates, check in checks:
        for name in sorted({name for template in templates for name in template.names if name.startswith(SECRET)}):
            field_name = name.removeprefix(SECRET)
            try:
                check(request.credentials.values.get(field_name, "0"))
            except ValueError as error:
                raise ConnectionMisconfigured(f"In the secret of {connection.name}, {field_name} {error}.") from None


def token_request(request: GrantRequest, **more: str) -> HttpRequest:
    """The grant's token request: the fields of the provider's file and of the settings. `more`: what a step adds."""
    if request.provider.grant.takes_assertion:
        more["assertion"] = _assertion(request)
    values = request.values(**more)
    fields = {**expand_fields(request.provider.request.fields, values), **request.params}
    return _authenticated(request, request.method, request.endpoints.token, fields, values)


def refresh_request(request: GrantRequest) -> HttpRequest:
    """RFC 6749 section 6."""
    fields = {"grant_type": "refresh_token", "refresh_token": request.refresh_token}
    return _authenticated(request, request.method, request.endpoints.token, fields, request.values())


def authorize_url(request: GrantRequest, spec: ConsentSpec, **more: str) -> str:
    """Where the browser of the person goes (RFC 6749 section 4.1.1). `more`: redirect_uri, state, code_challenge…"""
    values = request.values(**more)
    url = spec.authorize_url.expand(request.options) if spec.authorize_url is not None else ""
    separator = "&" if "?" in url else "?"
    query = _pairs(expand_fields(spec.query, values))
    signature = request.provider.signature
    if spec.signed and signature is not None:
        query += (_signature(signature, url, query, values),)
    return url + separator + quoted_query(query)


def consent_code_request(request: GrantRequest, spec: ConsentSpec, **more: str) -> HttpRequest:
    """RFC 6749 section 4.1.3, with RFC 7636 section 4.5. `more`: code, redirect_uri, code_verifier."""
    values = request.values(**more)
    url = spec.exchange_url.expand(request.options) if spec.exchange_url is not None else request.endpoints.token
    return _authenticated(request, request.method, url, expand_fields(spec.fields, values), values)


def device_request(request: GrantRequest, spec: ConsentSpec) -> HttpRequest:
    """RFC 8628 section 3.1. The client_id always stands in the body: Allegro wants it beside Basic authentication."""
    values = request.values()
    fields = {"client_id": request.credentials.values.get("client_id"), "scope": values["scope"]}
    url = spec.device_url.expand(request.options) if spec.device_url is not None else ""
    return _authenticated(request, "POST", url, {name: value for name, value in fields.items() if value}, values)


def device_code_request(request: GrantRequest, device_code: str) -> HttpRequest:
    """RFC 8628 section 3.4."""
    fields = {"grant_type": DEVICE_CODE, "device_code": device_code}
    client = {name: value for name, value in request.credentials.values.items() if name == "client_id"}
    return _authenticated(request, request.method, request.endpoints.token, fields | client, request.values())


def _authenticated(
    request: GrantRequest, method: str, url: str, fields: Mapping[str, Any], values: Mapping[str, Any]
) -> HttpRequest:
    """A request with exactly one client authentication.

    `basic` percent-encodes id and secret before base64 (RFC 6749 section 2.3.1). `basic-raw` does not, for servers that
    do not decode. `form` and `json` put them into a body of that encoding. `none` sends the client_id alone, if there
    is one, `fields` only what the file's fields name. With `client_id_in_body` the id stands in the body too. A
    provider that takes assertions gets none of them.
    """
    spec = request.provider.request
    credentials = request.credentials.values
    body = dict(fields)
    fields_in = request.fields_in
    headers = _headers(spec.headers, values)
    if request.client_auth in ("form", "json"):
        fields_in = request.client_auth
        body |= {name: credentials[name] for name in ("client_id", "client_secret") if name in credentials}
    elif request.client_auth.startswith("basic"):
        headers["Authorization"] = _basic_authorization(request)
    if request.provider.assertion is not None:
        if request.provider.assertion.authenticates_client:
            body |= {"client_assertion_type": CLIENT_ASSERTION_TYPE, "client_assertion": _assertion(request)}
    elif (request.client_auth == "none" or request.client_id_in_body) and request.provider.grant.is_oauth:
        body |= {name: credentials[name] for name in ("client_id",) if name in credentials}
    query = _pairs(expand_fields(spec.query, values))
    signature = request.provider.signature
    if signature is not None:
        field, digest = _signature(signature, url, (*query, *_pairs(body)), values)
        if signature.in_query:
            query += ((field, digest),)
        else:
            body[field] = digest
    if method == "GET":
        return _http_request(method, url, (*query, *_pairs(body)), headers=headers)
    if fields_in == "query":
        return _http_request(method, url, (*query, *_pairs(body)), headers=headers, body=b"")
    headers["Content-Type"], encoded = _encoded(body, fields_in)
    return _http_request(method, url, query, headers=headers, body=encoded)


def _signature(
    spec: SignatureSpec, url: str, pairs: tuple[tuple[str, str], ...], values: Mapping[str, Any]
) -> tuple[str, str]:
    """The field that signs a request, and its value. The file's check has seen that every name has one."""
    path = urlsplit(url).path.removeprefix(spec.path_after) or "/"
    joined = "".join(name + value for name, value in sorted(pairs))
    message = spec.message.text({**values, "path": path, "sorted_fields": joined})
    key = spec.key.text(values)
    assert message is not None, spec.field  # noqa: S101  # as the docstring says
    assert key is not None, spec.field  # noqa: S101  # as above
    digest = hmac.digest(key.encode(), message.encode(), "sha256").hex()
    return spec.field, digest.upper() if spec.upper_case else digest


def _assertion(request: GrantRequest) -> str:
    assert request.new_assertion is not None, request.provider.slug  # noqa: S101  # who sends a request makes it
    return request.new_assertion()


def _headers(headers: Mapping[str, Template], values: Mapping[str, Any]) -> dict[str, str]:
    """Request headers. One without a value is left out."""
    found = {name: template.text(values) for name, template in headers.items()}
    return {"Accept": "application/json", **{name: value for name, value in found.items() if value is not None}}


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
    query = _pairs(expand_fields(request.provider.connect_query, request.values()))
    return _http_request("GET", request.endpoints.connect or "", query, headers={})


def revocation_request(request: GrantRequest, token: str) -> HttpRequest | None:
    """RFC 7009 section 2.1. None where the provider or these credentials cannot revoke.

    A public client identifies itself by its client_id alone.
    """
    provider = request.provider
    credentials = request.credentials.values
    if request.endpoints.revocation is None or "client_id" not in credentials:
        return None
    is_public = "client_secret" not in credentials
    if is_public and provider.revocation_needs_secret:
        return None
    return _authenticated(request, "POST", request.endpoints.revocation, {"token": token}, request.values())


def _encoded(body: Mapping[str, Any], encoding: str) -> tuple[str, bytes]:
    """A body and its content type."""
    if encoding == "json":
        return "application/json", json.dumps(body).encode()
    return "application/x-www-form-urlencoded", urlencode(_pairs(body)).encode()


def _pairs(fields: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The fields of a form or query. A list is a repeated field (RFC 8707 section 2.1)."""
    return tuple(_repeated(fields))


def _repeated(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        for item in value if isinstance(value, list) else [value]:
            yield name, as_text(item)


def _basic_authorization(request: GrantRequest) -> str:
    client_id = request.credentials.client_id
    client_secret = request.credentials.client_secret or ""
    if request.client_auth == "basic":
        client_id = quote_plus(client_id, safe="")
        client_secret = quote_plus(client_secret, safe="")
    pair = f"{client_id}:{client_secret}"
    try:
        encoded = pair.encode(request.provider.request.basic_charset)
    except UnicodeEncodeError:
        # ISO-8859-1 cannot hold these characters. RFC 7617 section 2.1 prefers UTF-8.
        encoded = pair.encode()
    return f"Basic {base64.b64encode(encoded).decode()}"

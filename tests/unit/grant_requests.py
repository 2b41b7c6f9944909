"""Connections of all providers with invented settings, requests for their grants, and a driver that runs a grant."""

from __future__ import annotations

import base64
import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from token_broker import catalogue
from token_broker.catalogue import load_catalogue
from token_broker.catalogue.examples import read_examples
from token_broker.core.connections import Connection, parse_connection
from token_broker.core.credentials import Secret, parse_credentials
from token_broker.core.failures import ExchangeFailure
from token_broker.core.names import ConnectionName
from token_broker.oauth.exchange import HttpRequest, HttpResponse, TransportError
from token_broker.oauth.grants import GrantFailed
from token_broker.oauth.requests import GrantRequest, grant_request_for
from token_broker.oauth.responses import IssuedToken

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CATALOGUE = load_catalogue()
REDIRECT_URI = "https://shop.example.com/signed-in"
FROM_EXAMPLES = {
    slug: read_examples(Path(catalogue.__file__).parent / "examples" / f"{slug}.toml").examples[0].settings
    for slug in CATALOGUE
}
SETTINGS: Mapping[str, Mapping[str, Any]] = FROM_EXAMPLES | {
    "unified-services": {"token_url": "https://login.example.com/tenant/oauth2/v2.0/token"},
    "unicommerce": {"base_url": "https://market.example.com/uni"},
    "commerce-layer": {},
    "ucommerce": {"base_url": "https://store.example.com/shop", "redirect_uri": REDIRECT_URI},
    "unidy": {"base_url": "https://id.example.com/prefix", "scope": "users:read"},
    "oauth2": {"token_url": "https://auth.example.com/token", "revocation_url": "https://auth.example.com/revoke"},
}
CLIENT: Mapping[str, str] = {"client_id": "the-client", "client_secret": "the-secret"}
LOGIN: Mapping[str, str] = {"username": "the-seller", "password": "the-password"}


def connection(slug: str, **settings: Any) -> Connection:
    """A connection `main` of a provider. `settings` are added to the required ones."""
    whole = {"allowed_callers": ["*"], **SETTINGS[slug], **settings}
    return parse_connection(ConnectionName(slug, "main"), CATALOGUE[slug], whole, version="1")


def grant_for(
    slug: str,
    secret: Mapping[str, str] | None = None,
    *,
    scope: str = "",
    refresh_token: str | None = None,
    worked_before: bool = False,
    **settings: Any,
) -> GrantRequest:
    """The request for a provider's grant, from settings and a secret as they are stored."""
    found = connection(slug, **settings)
    values = secret or (LOGIN if slug == "unicommerce" else CLIENT)
    credentials = parse_credentials(found.name, found.provider, Secret(json.dumps(values), "v1"))
    request = grant_request_for(found, credentials, scope, NOW)
    return replace(request, refresh_token=refresh_token, worked_before=worked_before)


def json_response(body: Any, status: int = 200, **headers: str) -> HttpResponse:
    """A JSON response. Header names have underscores for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status, {"content-type": "application/json", **named}, json.dumps(body).encode())


def redirect(location: str, status: int = 302) -> HttpResponse:
    return HttpResponse(status, {"location": location})


def bearer(token: str = "tok-1", **more: Any) -> HttpResponse:
    """A token response of RFC 6749 section 5.1."""
    return json_response({"access_token": token, "token_type": "Bearer", "expires_in": 3600, **more})


def jwt(**claims: Any) -> str:
    """A token that decodes as a JWT. Its signature is not valid."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({}, claims)]
    return ".".join([*parts, "c2ln"])


@dataclass(frozen=True)
class Ran:
    """A flow that ran to its end: every request it made, and what it returned or raised."""

    requests: list[HttpRequest]
    issued: Any = None
    failed: GrantFailed | None = None

    @property
    def token(self) -> IssuedToken:
        assert isinstance(self.issued, IssuedToken), self.failed
        return self.issued

    @property
    def failure(self) -> ExchangeFailure:
        assert self.failed is not None, "a token was issued"
        return self.failed.failure


def run(flow: Generator[HttpRequest, HttpResponse, Any], *responses: HttpResponse | TransportError) -> Ran:
    """Runs a flow with exactly these responses. It must end with the last one."""
    requests = [next(flow)]
    for position, response in enumerate(responses, 1):
        try:
            request = flow.throw(response) if isinstance(response, TransportError) else flow.send(response)
        except StopIteration as done:
            ran = Ran(requests, issued=done.value)
        except GrantFailed as failed:
            ran = Ran(requests, failed=failed)
        else:
            requests.append(request)
            continue
        assert position == len(responses), f"it ended with response {position} of {len(responses)}"
        return ran
    raise AssertionError(f"it goes on after {len(responses)} responses")


def form(request: HttpRequest) -> list[tuple[str, str]]:
    """The fields of a form body, in order."""
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    return parse_qsl((request.body or b"").decode("ascii"), keep_blank_values=True, strict_parsing=True)


def json_body(request: HttpRequest) -> Any:
    assert request.headers["Content-Type"] == "application/json"
    return json.loads(request.body or b"")


def basic(request: HttpRequest) -> bytes:
    """The pair in a Basic header, as bytes."""
    scheme, _, encoded = request.headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    return base64.b64decode(encoded, validate=True)

"""Connections and orders of the catalogue's providers with invented settings, and a driver for their grants."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from token_broker.catalogue import load_catalogue
from token_broker.core.connections import Connection, parse_connection
from token_broker.core.credentials import Secret, parse_credentials
from token_broker.core.failures import ExchangeFailure
from token_broker.core.names import ConnectionName
from token_broker.oauth.exchange import HttpRequest, HttpResponse, TransportError
from token_broker.oauth.grants import Flow, GrantFailed, GrantRequest
from token_broker.oauth.responses import IssuedToken

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CATALOGUE = load_catalogue()
REDIRECT_URI = "https://shop.example.com/signed-in"
SETTINGS: Mapping[str, Mapping[str, Any]] = {
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
    """A connection `main` of a provider; `settings` are added to the least that the provider needs."""
    whole = {"allowed_callers": ["*"], **SETTINGS[slug], **settings}
    return parse_connection(ConnectionName(slug, "main"), CATALOGUE[slug], whole, version="1")


def order(
    slug: str,
    secret: Mapping[str, str] | None = None,
    *,
    scope: str = "",
    refresh_token: str | None = None,
    worked_before: bool = False,
    **settings: Any,
) -> GrantRequest:
    """What a grant of that provider needs, from settings and a secret as they are stored."""
    found = connection(slug, **settings)
    values = secret or (LOGIN if slug == "unicommerce" else CLIENT)
    options = found.options
    return GrantRequest(
        provider=found.provider,
        endpoints=found.endpoints,
        credentials=parse_credentials(found.name, found.provider, Secret(json.dumps(values), "v1")),
        client_auth=found.client_auth,
        method=options.get("method") or found.provider.method,
        encoding=options.get("encoding") or found.provider.encoding,
        scope=scope,
        now=NOW,
        params=options.get("params") or {},
        redirect_uri=options.get("redirect_uri") or "",
        refresh_token=refresh_token,
        worked_before=worked_before,
    )


def answer(body: Any, status: int = 200, **headers: str) -> HttpResponse:
    """A JSON answer; header names with underscores for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status, {"content-type": "application/json", **named}, json.dumps(body).encode())


def redirect(location: str, status: int = 302) -> HttpResponse:
    return HttpResponse(status, {"location": location})


def bearer(token: str = "tok-1", **more: Any) -> HttpResponse:
    """A token as RFC 6749 section 5.1 prints it."""
    return answer({"access_token": token, "token_type": "Bearer", "expires_in": 3600, **more})


def jwt(**claims: Any) -> str:
    """A token that decodes as a JWT; its signature is none."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({}, claims)]
    return ".".join([*parts, "c2ln"])


@dataclass(frozen=True)
class Ran:
    """How a grant went: every request it made, and what it returned or raised."""

    requests: list[HttpRequest]
    issued: IssuedToken | None = None
    refusal: GrantFailed | None = None

    @property
    def token(self) -> IssuedToken:
        assert self.issued is not None, self.refusal
        return self.issued

    @property
    def exchange_failure(self) -> ExchangeFailure:
        assert self.refusal is not None, "a token was issued"
        return self.refusal.failure


def run(flow: Flow, *answers: HttpResponse | TransportError) -> Ran:
    """Drives a grant with exactly these answers; it must end with the last one."""
    requests = [next(flow)]
    for position, reply in enumerate(answers, 1):
        try:
            request = flow.throw(reply) if isinstance(reply, TransportError) else flow.send(reply)
        except StopIteration as done:
            ran = Ran(requests, issued=done.value)
        except GrantFailed as refusal:
            ran = Ran(requests, refusal=refusal)
        else:
            requests.append(request)
            continue
        assert position == len(answers), f"it ended with answer {position} of {len(answers)}"
        return ran
    raise AssertionError(f"it goes on after {len(answers)} answers")


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

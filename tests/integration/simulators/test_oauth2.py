"""The generic OAuth 2.0 server: each client authentication and encoding."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote_plus

import pytest

from local.providers import PUBLIC_CLIENT_ACCOUNT, ProvidersServer

from .vendor_calls import GRANT, basic, call, claims, credentials, report, standard, steer


@pytest.mark.parametrize("encoding", ["form", "json"])
@pytest.mark.parametrize("client_auth", ["basic", "basic-raw", "form", "json", "none"])
def test_oauth2_accepts_the_client_authentication_that_is_set(
    client_auth: str, encoding: str, providers: ProvidersServer
) -> None:
    steer(providers, "oauth2", options={"client_auth": [client_auth], "encoding": encoding})
    client_id, client_secret = credentials("oauth2")
    in_body = {"client_id": client_id, "client_secret": client_secret}
    beside = {"data" if encoding == "form" else "json": GRANT}
    ways: dict[str, dict[str, Any]] = {
        "basic": {"headers": basic(quote_plus(client_id), quote_plus(client_secret)), **beside},
        "basic-raw": {"headers": basic(client_id, client_secret), **beside},
        "form": {"data": {**GRANT, **in_body}},
        "json": {"json": {**GRANT, **in_body}},
        "none": {"data" if encoding == "form" else "json": {**GRANT, "client_id": client_id}},
    }
    responses = {way: call(providers, "POST", "/oauth2/token", **sent_so) for way, sent_so in ways.items()}
    assert [way for way, response in responses.items() if response.status_code == 200] == [client_auth]
    assert {response.json().get("error") for way, response in responses.items() if way != client_auth} == {
        "invalid_client"
    }


def test_oauth2_needs_no_secret_of_a_public_client(providers: ProvidersServer) -> None:
    public = {**GRANT, **PUBLIC_CLIENT_ACCOUNT["secret"]}
    assert call(providers, "POST", "/oauth2/token", data=public).status_code == 200
    confidential = {**GRANT, "client_id": credentials("oauth2")[0]}
    assert call(providers, "POST", "/oauth2/token", data=confidential).status_code == 401


def test_oauth2_can_require_parameters_and_leave_out_the_lifetime(providers: ProvidersServer) -> None:
    assert standard(providers, resource="https://api.example").json()["error"] == "invalid_target"
    wanted = {"audience": "orders", "resource": "https://api.example"}
    steer(providers, "oauth2", options={"required_params": wanted, "tell_expires_in": False, "jwt": True})
    assert standard(providers).json()["error"] == "invalid_request"
    document = standard(providers, **wanted).json()
    assert "expires_in" not in document
    assert claims(document["access_token"])["scope"] == "api.read"


def test_oauth2_revokes_tokens(providers: ProvidersServer) -> None:
    token = standard(providers).json()["access_token"]
    headers = basic(*map(quote_plus, credentials("oauth2")))
    assert call(providers, "POST", "/oauth2/revoke", data={"token": token}).status_code == 401
    assert call(providers, "POST", "/oauth2/revoke", data={"token": token}, headers=headers).status_code == 200
    assert report(providers, "oauth2")["live_tokens"] == []

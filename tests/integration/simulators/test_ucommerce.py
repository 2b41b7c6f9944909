"""The simulated Ucommerce store: its redirect, its codes and its rotating refresh tokens."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, quote_plus, unquote

import pytest

from local.providers import ProvidersServer

from .vendor_calls import (
    FORM,
    REDIRECT_URI,
    HandClock,
    basic,
    call,
    claims,
    code_of,
    connect,
    credentials,
    redeem,
    refresh,
    report,
    steer,
)


def test_ucommerce_redirects_with_a_code_that_is_decoded_once(providers: ProvidersServer, clock: HandClock) -> None:
    redirect = connect(providers)
    assert redirect.status_code == 302
    location = redirect.headers["Location"]
    assert location.startswith(REDIRECT_URI + "?code=")
    assert "+" in location
    assert "%252F" in location
    document = redeem(providers, code_of(redirect)).json()
    assert (document["expires_in"], document["token_type"], document["redirect_uri"]) == (300, "bearer", REDIRECT_URI)
    assert claims(document["access_token"])["exp"] == clock.now + 3600
    assert claims(document["refresh_token"])["exp"] == clock.now + 14 * 86_400


@pytest.mark.parametrize(
    "misread", [lambda code: code.replace("+", " "), unquote, lambda code: quote(code, safe="")], ids=["form", "2", "0"]
)
def test_ucommerce_refuses_a_code_decoded_as_form_or_twice_or_never(misread: Any, providers: ProvidersServer) -> None:
    response = redeem(providers, misread(code_of(connect(providers))))
    assert (response.status_code, response.json()["errors"][0]["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize("status", [200, 400])
def test_ucommerce_shows_a_page_if_it_does_not_redirect(status: int, providers: ProvidersServer) -> None:
    steer(providers, "ucommerce", options={"connect_refusal_status": status})
    for wrong in ({"redirect_uri": "https://elsewhere.example/"}, {"client_id": "x"}, {"state": "x"}):
        page = connect(providers, **wrong)
        assert page.status_code == status
        assert page.headers["Content-Type"].startswith("text/html")
        assert "Location" not in page.headers
    assert connect(providers, response_type="token").headers["Location"].endswith("?error=unsupported_response_type")
    found = report(providers, "ucommerce")
    assert (found["connect_requests"], found["refused"]) == (4, 3)


def test_ucommerce_codes_expire_after_a_minute_and_belong_to_their_redirect_uri(
    providers: ProvidersServer, clock: HandClock
) -> None:
    code = code_of(connect(providers))
    clock.now += 60
    assert redeem(providers, code).status_code == 400
    code = code_of(connect(providers))
    clock.now += 59
    assert redeem(providers, code, "https://elsewhere.example/").status_code == 400
    assert redeem(providers, code_of(connect(providers))).status_code == 200


def test_ucommerce_accepts_a_code_once_and_a_replay_revokes_its_tokens(providers: ProvidersServer) -> None:
    code = code_of(connect(providers))
    document = redeem(providers, code).json()
    assert redeem(providers, code).json()["errors"][0]["error"] == "invalid_grant"
    found = report(providers, "ucommerce")
    assert (found["replayed_codes"], found["live_tokens"]) == (1, [])
    assert refresh(providers, document["refresh_token"]).status_code == 400


def test_ucommerce_rotates_refresh_tokens_and_a_replay_revokes_the_family(providers: ProvidersServer) -> None:
    bystander = redeem(providers, code_of(connect(providers))).json()
    first = redeem(providers, code_of(connect(providers))).json()
    second = refresh(providers, first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["access_token"] != first["access_token"]
    assert len(report(providers, "ucommerce")["live_tokens"]) == 3
    replay = refresh(providers, first["refresh_token"])
    assert (replay.status_code, replay.json()["errors"][0]["error"]) == (400, "invalid_grant")
    found = report(providers, "ucommerce")
    assert (found["replayed_refresh_tokens"], len(found["live_tokens"])) == (1, 1)
    assert refresh(providers, second["refresh_token"]).status_code == 400
    assert refresh(providers, bystander["refresh_token"]).status_code == 200


def test_ucommerce_refresh_tokens_expire_after_14_days_or_when_everything_is_revoked(
    providers: ProvidersServer, clock: HandClock
) -> None:
    document = redeem(providers, code_of(connect(providers))).json()
    steer(providers, "ucommerce", revoke_all=True)
    assert refresh(providers, document["refresh_token"]).status_code == 400
    document = redeem(providers, code_of(connect(providers))).json()
    clock.now += 14 * 86_400
    assert refresh(providers, document["refresh_token"]).status_code == 400


def test_ucommerce_can_keep_its_refresh_token(providers: ProvidersServer) -> None:
    steer(providers, "ucommerce", options={"rotate": False})
    kept = redeem(providers, code_of(connect(providers))).json()["refresh_token"]
    for _ in range(2):
        assert "refresh_token" not in refresh(providers, kept).json()


def test_ucommerce_needs_raw_latin_basic_and_a_form(providers: ProvidersServer) -> None:
    client_id, client_secret = credentials("ucommerce")
    path = "/ucommerce/api/v1/oauth/token"
    fields = {"grant_type": "authorization_code", "code": code_of(connect(providers)), "redirect_uri": REDIRECT_URI}
    right = basic(client_id, client_secret, charset="iso-8859-1")
    encoded = basic(quote_plus(client_id), quote_plus(client_secret))
    for wrong in (basic(client_id, client_secret), encoded, {}):
        response = call(providers, "POST", path, data=fields, headers=wrong)
        assert (response.status_code, response.json()["errors"][0]["error"]) == (401, "invalid_client")
    response = call(providers, "POST", path, data=json.dumps(fields), headers={**right, **FORM})
    assert set(response.json()["errors"][0]) == {"error", "error-description"}
    assert response.json()["errors"][0]["error"] == "invalid_request"
    assert call(providers, "POST", path, json=fields, headers=right).status_code == 400
    both = call(providers, "POST", path, data={**fields, "client_id": client_id}, headers=right)
    assert both.json()["errors"][0]["error"] == "invalid_request"
    assert call(providers, "POST", path, data=fields, headers=right).status_code == 200

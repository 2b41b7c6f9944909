"""The simulated Commerce Layer: its scopes, its reissue window, its limit and its errors."""

from __future__ import annotations

import json

import requests

from local.providers import SALES_CHANNEL_ACCOUNT, ProvidersServer

from .vendor_calls import GRANT, MARKET, HandClock, basic, call, claims, commerce, credentials, report, sent, steer


def test_commerce_layer_issues_tokens_to_integration_and_sales_channel(
    providers: ProvidersServer, clock: HandClock
) -> None:
    integration = commerce(providers).json()
    assert {**integration, "access_token": ""} == {
        "access_token": "",
        "token_type": "bearer",
        "expires_in": 7200,
        "scope": "market:all",
        "created_at": int(clock.now),
    }
    channel_id = SALES_CHANNEL_ACCOUNT["secret"]["client_id"]
    channel = commerce(providers, client_id=channel_id, client_secret=None, scope=MARKET).json()
    assert (channel["expires_in"], channel["scope"]) == (14_400, MARKET)
    for document in (integration, channel):
        token = document["access_token"]
        assert 800 <= len(token) <= 1536
        assert claims(token)["exp"] == clock.now + document["expires_in"]


def test_commerce_layer_errors_have_its_own_shape(providers: ProvidersServer) -> None:
    def error_of(response: requests.Response) -> tuple[int, str, str]:
        [error] = response.json()["errors"]
        assert error["status"] == response.status_code
        return response.status_code, error["title"], error["code"]

    channel = {"client_id": SALES_CHANNEL_ACCOUNT["secret"]["client_id"], "client_secret": None}
    client_id, client_secret = credentials("commerce-layer")
    path = "/commerce-layer/oauth/token"
    unauthorized = (401, "invalid_client", "UNAUTHORIZED")
    assert error_of(commerce(providers, client_secret="wrong")) == unauthorized
    assert error_of(commerce(providers, client_secret=None)) == unauthorized
    assert error_of(call(providers, "POST", path, json=GRANT, headers=basic(client_id, client_secret))) == unauthorized
    for scope in ("", "market", "market:xYZ", "market:id:a,market:id:b", "sku:id:1", "market:id:a  market:id:b"):
        assert error_of(commerce(providers, scope=scope))[1] == "invalid_scope"
    assert error_of(commerce(providers, **channel))[1] == "invalid_scope"
    assert error_of(commerce(providers, **channel, scope="stock_location:id:a"))[1] == "invalid_scope"
    assert error_of(commerce(providers, grant_type="password"))[1] == "unsupported_grant_type"
    form = {**GRANT, "client_id": client_id, "client_secret": client_secret}
    assert error_of(call(providers, "POST", path, data=form))[1] == "invalid_request"
    assert error_of(call(providers, "POST", path, data=json.dumps(form)))[1] == "invalid_request"
    both = call(providers, "POST", path, json=form, headers=basic(client_id, client_secret))
    assert error_of(both)[1] == "invalid_request"
    steer(providers, "commerce-layer", options={"errors_as_object": True})
    assert commerce(providers, client_secret="wrong").json()["errors"]["title"] == "invalid_client"


def test_commerce_layer_reissues_the_same_token_until_its_last_15_minutes(
    providers: ProvidersServer, clock: HandClock
) -> None:
    first = commerce(providers).json()
    other_scope = commerce(providers, scope=MARKET).json()
    clock.now += 6299
    again = commerce(providers).json()
    assert again == {**first, "expires_in": 901}
    clock.now += 1
    new = commerce(providers).json()
    assert new["expires_in"] == 7200
    assert len({first["access_token"], other_scope["access_token"], new["access_token"]}) == 3
    found = report(providers, "commerce-layer")
    assert (found["issued"], found["reissued"]) == (3, 1)
    assert [entry["outcome"] for entry in found["requests"]] == ["issued", "issued", "reissued", "issued"]


def test_commerce_layer_allows_30_token_requests_in_any_minute(providers: ProvidersServer, clock: HandClock) -> None:
    for _ in range(30):
        clock.now += 1
        assert commerce(providers).status_code == 200
    limited = commerce(providers)
    assert limited.status_code == 429
    assert limited.json()["errors"][0]["status"] == 429
    assert "Retry-After" not in limited.headers
    clock.now += 30
    assert commerce(providers).status_code == 429
    clock.now += 1
    assert commerce(providers).status_code == 200
    assert commerce(providers).status_code == 429
    assert report(providers, "commerce-layer")["rate_limited"] == 3


def test_commerce_layer_revokes_its_clients_own_tokens(providers: ProvidersServer) -> None:
    client_id, client_secret = credentials("commerce-layer")
    token = commerce(providers).json()["access_token"]
    body = {"client_id": client_id, "client_secret": client_secret, "token": token}
    path = "/commerce-layer/oauth/revoke"
    stranger = call(providers, "POST", path, json={"client_secret": client_secret, "token": token})
    assert (stranger.status_code, stranger.json()["errors"][0]["title"]) == (403, "unauthorized_client")
    channel = {"client_id": SALES_CHANNEL_ACCOUNT["secret"]["client_id"], "token": token}
    assert call(providers, "POST", path, json=channel).status_code == 403
    assert report(providers, "commerce-layer")["live_tokens"]
    revoked = call(providers, "POST", path, json=body)
    assert (revoked.status_code, revoked.json()) == (200, {})
    refused = call(providers, "GET", "/commerce-layer/api/resource", headers=sent("commerce-layer", token))
    assert refused.json()["errors"][0]["code"] == "INVALID_TOKEN"

"""The simulated Unidy, and what all simulators take over from Doorkeeper."""

from __future__ import annotations

import requests

from local.providers import ProvidersServer

from .vendor_calls import GRANT, HandClock, basic, call, credentials, report, sent, steer, unidy


def test_unidy_grants_the_requested_scope_or_all(providers: ProvidersServer, clock: HandClock) -> None:
    document = unidy(providers, scope="users:read users:write").json()
    assert {**document, "access_token": ""} == {
        "access_token": "",
        "token_type": "Bearer",
        "expires_in": 7200,
        "scope": "users:read users:write",
        "created_at": int(clock.now),
    }
    client_id, client_secret = credentials("unidy")
    body = {**GRANT, "client_id": client_id, "client_secret": client_secret}
    assert len(call(providers, "POST", "/unidy/oauth/token", json=body).json()["scope"].split()) == 10


def test_unidy_refuses_as_doorkeeper_does(providers: ProvidersServer) -> None:
    def error_of(response: requests.Response) -> tuple[int, str]:
        return response.status_code, response.json()["error"]

    client_id, client_secret = credentials("unidy")
    body = {**GRANT, "client_id": client_id, "client_secret": client_secret, "scope": "users:read"}
    path = "/unidy/oauth/token"
    assert error_of(unidy(providers, client_secret="wrong")) == (401, "invalid_client")
    for scope in ("", "users:delete", "users:read  users:write", "USERS:READ"):
        assert error_of(unidy(providers, scope=scope)) == (400, "invalid_scope")
    slip = {**body, "response_type": "client_credentials"}
    del slip["grant_type"]
    assert error_of(call(providers, "POST", path, json=slip)) == (400, "invalid_request")
    assert error_of(call(providers, "POST", path, data=body)) == (400, "invalid_request")
    both = call(providers, "POST", path, json=body, headers=basic(client_id, client_secret))
    assert error_of(both) == (400, "invalid_request")
    steer(providers, "unidy", options={"error_status": 401})
    assert error_of(unidy(providers, scope="users:delete")) == (401, "invalid_scope")


def test_unidy_revokes_known_tokens_and_responds_200_for_unknown_ones(providers: ProvidersServer) -> None:
    client_id, client_secret = credentials("unidy")
    client = {"client_id": client_id, "client_secret": client_secret}
    token = unidy(providers).json()["access_token"]
    for revoked in ("unknown", token, token):
        response = call(providers, "POST", "/unidy/oauth/revoke", data={**client, "token": revoked})
        assert (response.status_code, response.json()) == (200, {})
    assert call(providers, "GET", "/unidy/api/resource", headers=sent("unidy", token)).status_code == 401
    found = report(providers, "unidy")
    assert found["revocations"] == 3
    assert found["requests"][1]["outcome"] == "nothing to revoke"


def test_unidy_can_reuse_tokens_or_revoke_the_one_before(providers: ProvidersServer, clock: HandClock) -> None:
    steer(providers, "unidy", options={"reuse": True})
    first = unidy(providers).json()
    clock.now += 100
    assert unidy(providers).json() == {**first, "expires_in": 7100}
    steer(providers, "unidy", options={"reuse": False, "revoke_previous": True})
    unidy(providers)
    assert (
        call(providers, "GET", "/unidy/api/resource", headers=sent("unidy", first["access_token"])).status_code == 401
    )
    assert len(report(providers, "unidy")["live_tokens"]) == 1


def test_responses_can_leave_fields_out_and_add_others(providers: ProvidersServer) -> None:
    steer(providers, "unidy", options={"omit_fields": ["expires_in", "scope"], "set_fields": {"token_type": "mac"}})
    assert set(unidy(providers).json()) == {"access_token", "token_type", "created_at"}
    assert unidy(providers).json()["token_type"] == "mac"

"""The simulated Unified Services: what it accepts and refuses, and its responses."""

from __future__ import annotations

from urllib.parse import quote_plus

import requests

from local.providers import ProvidersServer

from .vendor_calls import FORM, GRANT, HandClock, basic, call, claims, credentials, report, steer, unified


def test_unified_services_responds_as_its_page_shows(providers: ProvidersServer, clock: HandClock) -> None:
    response = unified(providers, scope="api://unified/.default")
    document = response.json()
    assert response.headers["Cache-Control"] == "no-store"
    assert {**document, "access_token": ""} == {
        "token_type": "Bearer",
        "expires_in": 3599,
        "ext_expires_in": 3599,
        "access_token": "",
    }
    assert claims(document["access_token"])["exp"] == clock.now + 3599


def test_unified_services_decodes_basic_raw_or_percent_encoded_as_set(providers: ProvidersServer) -> None:
    encoded = basic(*map(quote_plus, credentials("unified-services")))
    assert unified(providers).status_code == 200
    assert unified(providers, encoded).json()["error"] == "invalid_client"
    steer(providers, "unified-services", options={"basic_encoding": "percent"})
    assert unified(providers, encoded).status_code == 200
    assert unified(providers).status_code == 401


def test_unified_services_refuses_what_is_not_on_its_page(providers: ProvidersServer) -> None:
    client_id, client_secret = credentials("unified-services")
    authorization = basic(client_id, client_secret)
    path = "/unified-services/oauth2/v2.0/token"

    def error_of(response: requests.Response) -> tuple[int, str]:
        return response.status_code, response.json()["error"]

    assert error_of(unified(providers, {})) == (401, "invalid_client")
    assert error_of(unified(providers, {}, client_id=client_id, client_secret=client_secret)) == (401, "invalid_client")
    assert error_of(unified(providers, client_id=client_id, client_secret=client_secret)) == (400, "invalid_request")
    assert error_of(unified(providers, basic(client_id, "wrong"))) == (401, "invalid_client")
    assert error_of(unified(providers, {"Authorization": "Basic ???"})) == (401, "invalid_client")
    latin = basic(client_id, client_secret, charset="iso-8859-1")
    assert error_of(unified(providers, latin)) == (401, "invalid_client")
    assert error_of(unified(providers, scope="")) == (400, "invalid_scope")
    assert error_of(unified(providers, scope="other")) == (400, "invalid_scope")
    assert error_of(unified(providers, resource="https://api.example")) == (400, "invalid_target")
    assert error_of(unified(providers, grant_type="password")) == (400, "unsupported_grant_type")
    assert error_of(call(providers, "POST", path, json=GRANT, headers=authorization)) == (400, "invalid_request")
    twice = "grant_type=client_credentials&grant_type=client_credentials"
    assert error_of(call(providers, "POST", path, data=twice, headers={**FORM, **authorization}))[0] == 400
    assert report(providers, "unified-services")["refused"] == 12


def test_unified_services_can_send_numbers_as_text_and_ask_for_an_early_renewal(providers: ProvidersServer) -> None:
    steer(providers, "unified-services", options={"numbers_as_text": True, "refresh_in_s": 1800})
    document = unified(providers).json()
    assert (document["expires_in"], document["ext_expires_in"], document["refresh_in"]) == ("3599", "3599", "1800")


def test_unified_services_limits_with_plain_text_and_retry_after(providers: ProvidersServer) -> None:
    steer(providers, "unified-services", options={"rate_limit": 1})
    unified(providers)
    limited = unified(providers)
    assert (limited.status_code, limited.headers["Content-Type"]) == (429, "text/plain")
    assert limited.headers["Retry-After"] == "60"

"""The simulated Unicommerce marketplace: what it accepts and refuses, and its responses."""

from __future__ import annotations

from urllib.parse import quote

from local.providers import DEFAULT_ACCOUNTS, ProvidersServer

from .vendor_calls import JSON, LOGIN, call, login, report, steer


def test_unicommerce_logs_in_by_query_and_by_json(providers: ProvidersServer) -> None:
    first = login(providers).json()
    assert set(first) == {"status", "accessToken"}
    assert first["status"] == "SUCCESS"
    secret = DEFAULT_ACCOUNTS["unicommerce"]["secret"]
    second = call(providers, "POST", "/unicommerce/authToken", json=secret).json()
    assert second["accessToken"] != first["accessToken"]
    for token in (first["accessToken"], second["accessToken"]):
        assert call(providers, "GET", "/unicommerce/api/resource", headers={"apiKey": token}).status_code == 200


def test_unicommerce_refuses_with_status_200_and_no_token(providers: ProvidersServer) -> None:
    by_get = login(providers, password="wrong")
    assert (by_get.status_code, by_get.json()["status"]) == (200, "FAILED")
    by_post = call(providers, "POST", "/unicommerce/authToken", json={"username": "x", "password": "wrong"})
    assert (by_post.status_code, by_post.json()["status"]) == (200, "INVALID_CREDENTIALS")
    assert "accessToken" not in by_get.json() | by_post.json()
    steer(providers, "unicommerce", options={"error_status": 401})
    assert login(providers, password="wrong").status_code == 401


def test_unicommerce_checks_headers_and_encoding(providers: ProvidersServer) -> None:
    secret = DEFAULT_ACCOUNTS["unicommerce"]["secret"]
    path = "/unicommerce/authToken"
    assert call(providers, "GET", path, params=secret).status_code == 400
    assert call(providers, "GET", path, params=secret, headers=JSON).status_code == 400
    assert call(providers, "GET", path, params={**secret, "extra": "x"}, headers=LOGIN).status_code == 400
    assert call(providers, "GET", path, json=secret, headers=LOGIN).status_code == 400
    assert call(providers, "POST", path, data=secret).status_code == 400
    assert call(providers, "PUT", path, json=secret).status_code == 405
    # A '+' that is not percent-encoded is decoded as a space.
    raw_plus = "&".join(f"{name}={quote(value, safe='+')}" for name, value in secret.items())
    assert call(providers, "GET", f"{path}?{raw_plus}", headers=LOGIN).json()["status"] == "FAILED"


def test_unicommerce_locks_an_account_after_wrong_passwords(providers: ProvidersServer) -> None:
    steer(providers, "unicommerce", lock_after=2)
    login(providers, password="wrong")
    assert login(providers).json()["status"] == "SUCCESS"
    for _ in range(2):
        login(providers, password="wrong")
    assert login(providers).json()["status"] == "FAILED"
    assert report(providers, "unicommerce")["locked_accounts"] == ["demo"]
    steer(providers, "unicommerce", rotate_secret={"secret": DEFAULT_ACCOUNTS["unicommerce"]["secret"]})
    assert login(providers).json()["status"] == "SUCCESS"


def test_unicommerce_token_names_the_seller(providers: ProvidersServer) -> None:
    secret = {"username": "fake.two@shop.example", "password": "fake-two"}
    steer(providers, "unicommerce", accounts=[{"name": "second", "secret": secret}])
    token = login(providers, **secret).json()["accessToken"]
    response = call(providers, "GET", "/unicommerce/api/resource", headers={"apiKey": token})
    assert response.json()["account"] == "second"

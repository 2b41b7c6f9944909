"""The authorization code, server to server, and the refresh token that follows. Each is sent once."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.grant_requests import REDIRECT_URI, basic, bearer, form, grant_for, json_response, redirect, run
from token_broker.core.failures import FailureKind, FailureLevel
from token_broker.oauth.exchange import HttpRequest, HttpResponse, OutcomeUnknown, Unreachable
from token_broker.oauth.grants import leads_to, token_flow

CONNECT = "https://store.example.com/shop/api/v1/oauth/connect"
TOKEN = "https://store.example.com/shop/api/v1/oauth/token"
INVALID_GRANT = json_response({"errors": [{"error": "invalid_grant", "error-description": "used"}]}, 400)


def code(value: str) -> HttpResponse:
    return redirect(f"{REDIRECT_URI}?code={value}")


def sent(requests: list[HttpRequest], name: str) -> list[str]:
    """All values of a form field that were sent, over all requests."""
    posts = [request for request in requests if request.method == "POST"]
    return [dict(form(request))[name] for request in posts if name in dict(form(request))]


# ------------------------------------------------------------------ connect, then the exchange
def test_connect_sends_exactly_the_three_documented_fields() -> None:
    request = next(token_flow(grant_for("ucommerce")))
    assert (request.method, request.url) == ("GET", CONNECT)
    fields = (("client_id", "the-client"), ("redirect_uri", REDIRECT_URI), ("response_type", "code"))
    assert request.query == fields
    assert request.body is None
    assert "Authorization" not in request.headers


def test_connect_sends_a_scope_if_one_is_set() -> None:
    assert next(token_flow(grant_for("ucommerce", scope="a b"))).query[-1] == ("scope", "a b")


def test_the_code_is_exchanged_with_the_same_redirect_uri_and_a_raw_basic_header() -> None:
    ran = run(token_flow(grant_for("ucommerce", scope="a")), code("c-1"), bearer("tok-1", refresh_token="r-1"))
    exchange = ran.requests[1]
    assert (exchange.method, exchange.url, exchange.query) == ("POST", TOKEN, ())
    fields = [("grant_type", "authorization_code"), ("code", "c-1"), ("redirect_uri", REDIRECT_URI)]
    assert form(exchange) == fields
    assert basic(exchange) == b"the-client:the-secret"
    assert (ran.token.access_token, ran.token.refresh_token) == ("tok-1", "r-1")


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("c-1", "c-1"),
        ("a+b", "a+b"),
        ("a%2Bb", "a+b"),
        ("a%20b", "a b"),
        ("a%252Bb", "a%2Bb"),
        ("a%25", "a%"),
        ("a%3D%3D", "a=="),
        ("a==", "a=="),
        ("a%26b%23c", "a&b#c"),
        ("%C3%A4", "ä"),
    ],
)
def test_the_code_is_unquoted_exactly_once(raw: str, plain: str) -> None:
    ran = run(token_flow(grant_for("ucommerce")), code(raw), bearer())
    assert sent(ran.requests, "code") == [plain]


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Z"]), min_size=1, max_size=40))
def test_any_code_is_sent_as_it_was_issued(plain: str) -> None:
    ran = run(token_flow(grant_for("ucommerce")), code(quote(plain, safe="")), bearer())
    assert sent(ran.requests, "code") == [plain]


def test_other_parameters_beside_the_code_are_ignored() -> None:
    location = f"{REDIRECT_URI}?session=1&code=c-1&&flag&state=%zz"
    assert sent(run(token_flow(grant_for("ucommerce")), redirect(location), bearer()).requests, "code") == ["c-1"]


def test_a_redirect_uri_with_a_query_of_its_own_matches() -> None:
    found = grant_for("ucommerce", redirect_uri=f"{REDIRECT_URI}?shop=1")
    ran = run(token_flow(found), redirect(f"{REDIRECT_URI}?shop=1&code=c-1"), bearer())
    assert sent(ran.requests, "code") == ["c-1"]


# ------------------------------------------------------------------ other responses of connect
@pytest.mark.parametrize(
    "location",
    [
        "",
        "/signed-in?code=c-1",
        "http://shop.example.com/signed-in?code=c-1",
        "https://shop.example.com.evil.example/signed-in?code=c-1",
        "https://evil.example/signed-in?code=c-1",
        "https://shop.example.com:8443/signed-in?code=c-1",
        "https://shop.example.com/signed-in/?code=c-1",
        "https://shop.example.com/Signed-In?code=c-1",
        "https://shop.example.com/login?returnUrl=/signed-in&code=c-1",
        "https://evil.example/signed-in?error=server_error",
        "https://shop.example.com:port/signed-in?code=c-1",
        "https://[shop.example.com/signed-in?code=c-1",
        "javascript:alert(1)",
    ],
)
def test_a_redirect_to_another_address_is_invalid(location: str) -> None:
    failure = run(token_flow(grant_for("ucommerce")), redirect(location)).failure
    assert (failure.rule, failure.kind) == ("redirected_elsewhere", FailureKind.INVALID)
    assert location == "" or location not in failure.detail


@pytest.mark.parametrize(
    ("location", "redirect_uri"),
    [
        ("https://shop.example.com:443/signed-in?code=1", REDIRECT_URI),
        ("HTTPS://Shop.Example.Com/signed-in?code=1", REDIRECT_URI),
        ("https://shop.example.com?code=1", "https://shop.example.com/"),
        ("https://shop.example.com/?code=1", "https://shop.example.com"),
        ("shop://signed-in?code=1", "shop://signed-in"),
    ],
)
def test_the_same_uri_in_another_spelling_is_the_same(location: str, redirect_uri: str) -> None:
    assert leads_to(location, redirect_uri)


@pytest.mark.parametrize(
    ("error", "rule", "kind", "code"),
    [
        ("server_error", "authorization_unavailable", FailureKind.TRANSIENT, "server_error"),
        ("temporarily_unavailable", "authorization_unavailable", FailureKind.TRANSIENT, "temporarily_unavailable"),
        ("access_denied", "authorization_refused", FailureKind.REFUSED, "access_denied"),
        ("unauthorized_client", "authorization_refused", FailureKind.REFUSED, "unauthorized_client"),
        ("of_its_own%0d%0a", "authorization_refused", FailureKind.REFUSED, "unrecognised"),
    ],
)
def test_an_error_in_the_redirect_has_its_rule(error: str, rule: str, kind: FailureKind, code: str) -> None:
    failure = run(token_flow(grant_for("ucommerce")), redirect(f"{REDIRECT_URI}?error={error}")).failure
    assert (failure.rule, failure.kind, failure.provider_error, failure.level) == (
        rule,
        kind,
        code,
        FailureLevel.CONNECTION,
    )


def test_a_redirect_without_code_and_error_is_unusable() -> None:
    for query in ("", "?", "?code=", "?other=1"):
        failure = run(token_flow(grant_for("ucommerce")), redirect(REDIRECT_URI + query)).failure
        assert (failure.rule, failure.kind) == ("unusable_response", FailureKind.INVALID)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404])
def test_without_a_redirect_the_error_names_the_whitelist(status: int) -> None:
    response = HttpResponse(status, {"content-type": "text/html"}, b"<html>no</html>")
    failure = run(token_flow(grant_for("ucommerce", worked_before=True)), response).failure
    assert (failure.rule, failure.kind) == ("redirect_uri_not_allowed", FailureKind.REFUSED)
    assert "whitelist" in failure.detail


def test_connect_can_refuse_the_client_with_a_code() -> None:
    response = json_response({"errors": [{"error": "invalid_client"}]}, 401)
    assert run(token_flow(grant_for("ucommerce")), response).failure.rule == "client_refused"


def test_a_connect_without_a_response_is_a_transient_failure() -> None:
    assert run(token_flow(grant_for("ucommerce")), Unreachable("x")).failure.rule == "unreachable"
    assert run(token_flow(grant_for("ucommerce")), OutcomeUnknown("x")).failure.rule == "no_complete_response"


# ------------------------------------------------------------------ a refused code
def test_a_refused_code_gets_one_new_one() -> None:
    ran = run(token_flow(grant_for("ucommerce")), code("c-1"), INVALID_GRANT, code("c-2"), bearer("tok-2"))
    assert [request.method for request in ran.requests] == ["GET", "POST", "GET", "POST"]
    assert sent(ran.requests, "code") == ["c-1", "c-2"]
    assert ran.token.access_token == "tok-2"


def test_there_is_no_third_code() -> None:
    ran = run(token_flow(grant_for("ucommerce")), code("c-1"), INVALID_GRANT, code("c-2"), INVALID_GRANT)
    assert sent(ran.requests, "code") == ["c-1", "c-2"]
    assert (ran.failure.rule, ran.failure.kind) == ("code_or_refresh_token_refused", FailureKind.TRANSIENT)


@pytest.mark.parametrize(
    ("response", "rule"),
    [
        (OutcomeUnknown("x"), "no_complete_response"),
        (HttpResponse(500), "server_failed"),
        (HttpResponse(504), "server_failed"),
        (json_response({"error": "invalid_client"}, 401), "client_refused"),
        (json_response({}), "unusable_response"),
    ],
)
def test_a_code_is_sent_once(response: HttpResponse | OutcomeUnknown, rule: str) -> None:
    ran = run(token_flow(grant_for("ucommerce")), code("c-1"), response)
    assert sent(ran.requests, "code") == ["c-1"]
    assert ran.failure.rule == rule


# ------------------------------------------------------------------ refresh
def test_a_refresh_sends_the_refresh_token_and_nothing_more() -> None:
    ran = run(token_flow(grant_for("ucommerce", scope="a", refresh_token="r+1")), bearer("tok-2", refresh_token="r-2"))
    refresh = ran.requests[0]
    assert (refresh.method, refresh.url) == ("POST", TOKEN)
    assert form(refresh) == [("grant_type", "refresh_token"), ("refresh_token", "r+1")]
    assert basic(refresh) == b"the-client:the-secret"
    assert (ran.token.access_token, ran.token.refresh_token) == ("tok-2", "r-2")


@pytest.mark.parametrize("more", [{}, {"refresh_token": None}, {"refresh_token": ""}])
def test_a_response_without_a_refresh_token_keeps_the_old_one(more: dict[str, Any]) -> None:
    assert run(token_flow(grant_for("ucommerce", refresh_token="r-1")), bearer(**more)).token.refresh_token == "r-1"


def test_a_refused_refresh_starts_the_grant_anew() -> None:
    ran = run(
        token_flow(grant_for("ucommerce", refresh_token="r-1")), INVALID_GRANT, code("c-1"), bearer(refresh_token="r-2")
    )
    assert [request.method for request in ran.requests] == ["POST", "GET", "POST"]
    assert sent(ran.requests, "refresh_token") == ["r-1"]
    assert ran.token.refresh_token == "r-2"


def test_a_refused_refresh_token_is_dropped() -> None:
    ran = run(token_flow(grant_for("ucommerce", refresh_token="r-1")), INVALID_GRANT, code("c-1"), bearer())
    assert ran.token.refresh_token is None


def test_a_refused_refresh_and_two_refused_codes_end_it() -> None:
    responses = (INVALID_GRANT, code("c-1"), INVALID_GRANT, code("c-2"), INVALID_GRANT)
    ran = run(token_flow(grant_for("ucommerce", refresh_token="r-1")), *responses)
    assert sent(ran.requests, "refresh_token") == ["r-1"]
    assert ran.failure.rule == "code_or_refresh_token_refused"


def test_client_credentials_start_anew_after_a_refused_refresh_token_too() -> None:
    ran = run(
        token_flow(grant_for("oauth2", refresh_token="r-1")),
        json_response({"error": "invalid_grant"}, 400),
        bearer("tok-2"),
    )
    assert sent(ran.requests, "grant_type") == ["refresh_token", "client_credentials"]
    assert ran.token.access_token == "tok-2"


@pytest.mark.parametrize(
    ("response", "rule"),
    [
        (OutcomeUnknown("x"), "no_complete_response"),
        (Unreachable("x"), "unreachable"),
        (HttpResponse(500), "server_failed"),
        (HttpResponse(429), "rate_limited"),
        (json_response({"error": "invalid_client"}, 401), "client_refused"),
        (json_response({}), "unusable_response"),
    ],
)
def test_a_refresh_token_is_sent_once(response: HttpResponse | OutcomeUnknown | Unreachable, rule: str) -> None:
    ran = run(token_flow(grant_for("ucommerce", refresh_token="r-1")), response)
    assert sent(ran.requests, "refresh_token") == ["r-1"]
    assert ran.failure.rule == rule

"""The authorization code, server to server, and the refresh token that follows: both go out once."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.grant_requests import REDIRECT_URI, answer, basic, bearer, form, order, redirect, run
from token_broker.core.failures import FailureKind, FailureLevel
from token_broker.oauth.exchange import HttpRequest, HttpResponse, OutcomeUnknown, Unreachable
from token_broker.oauth.grants import flow_for, leads_to

CONNECT = "https://store.example.com/shop/api/v1/oauth/connect"
TOKEN = "https://store.example.com/shop/api/v1/oauth/token"
INVALID_GRANT = answer({"errors": [{"error": "invalid_grant", "error-description": "used"}]}, 400)


def code(value: str) -> HttpResponse:
    return redirect(f"{REDIRECT_URI}?code={value}")


def sent(requests: list[HttpRequest], name: str) -> list[str]:
    """All values of a form field that went out, over all requests."""
    posts = [request for request in requests if request.method == "POST"]
    return [dict(form(request))[name] for request in posts if name in dict(form(request))]


# ------------------------------------------------------------------ connect, then the exchange
def test_connect_asks_with_exactly_the_three_fields_of_the_page() -> None:
    request = next(flow_for(order("ucommerce")))
    assert (request.method, request.url) == ("GET", CONNECT)
    fields = (("client_id", "the-client"), ("redirect_uri", REDIRECT_URI), ("response_type", "code"))
    assert request.query == fields
    assert request.body is None
    assert "Authorization" not in request.headers


def test_connect_asks_for_a_scope_where_one_is_set() -> None:
    assert next(flow_for(order("ucommerce", scope="a b"))).query[-1] == ("scope", "a b")


def test_the_code_is_exchanged_with_the_same_redirect_uri_and_a_raw_basic_header() -> None:
    ran = run(flow_for(order("ucommerce", scope="a")), code("c-1"), bearer("tok-1", refresh_token="r-1"))
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
    ran = run(flow_for(order("ucommerce")), code(raw), bearer())
    assert sent(ran.requests, "code") == [plain]


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Z"]), min_size=1, max_size=40))
def test_any_code_arrives_as_it_was_issued(plain: str) -> None:
    ran = run(flow_for(order("ucommerce")), code(quote(plain, safe="")), bearer())
    assert sent(ran.requests, "code") == [plain]


def test_other_parameters_beside_the_code_are_left_alone() -> None:
    location = f"{REDIRECT_URI}?session=1&code=c-1&&flag&state=%zz"
    assert sent(run(flow_for(order("ucommerce")), redirect(location), bearer()).requests, "code") == ["c-1"]


def test_a_redirect_uri_with_a_query_of_its_own_matches() -> None:
    found = order("ucommerce", redirect_uri=f"{REDIRECT_URI}?shop=1")
    ran = run(flow_for(found), redirect(f"{REDIRECT_URI}?shop=1&code=c-1"), bearer())
    assert sent(ran.requests, "code") == ["c-1"]


# ------------------------------------------------------------------ connect's other answers
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
def test_a_redirect_to_elsewhere_is_no_answer(location: str) -> None:
    exchange_failure = run(flow_for(order("ucommerce")), redirect(location)).failure
    assert (exchange_failure.row, exchange_failure.kind) == (3, FailureKind.INVALID)
    assert location == "" or location not in exchange_failure.detail


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
    ("error", "row", "kind", "code"),
    [
        ("server_error", 4, FailureKind.TRANSIENT, "server_error"),
        ("temporarily_unavailable", 4, FailureKind.TRANSIENT, "temporarily_unavailable"),
        ("access_denied", 4, FailureKind.REFUSED, "access_denied"),
        ("unauthorized_client", 4, FailureKind.REFUSED, "unauthorized_client"),
        ("of_its_own%0d%0a", 4, FailureKind.REFUSED, "unrecognised"),
    ],
)
def test_an_error_in_the_redirect_is_an_answer_too(error: str, row: int, kind: FailureKind, code: str) -> None:
    exchange_failure = run(flow_for(order("ucommerce")), redirect(f"{REDIRECT_URI}?error={error}")).failure
    assert (exchange_failure.row, exchange_failure.kind, exchange_failure.provider_error, exchange_failure.where) == (
        row,
        kind,
        code,
        FailureLevel.CONNECTION,
    )


def test_a_redirect_with_neither_code_nor_error_is_no_usable_answer() -> None:
    for query in ("", "?", "?code=", "?other=1"):
        exchange_failure = run(flow_for(order("ucommerce")), redirect(REDIRECT_URI + query)).failure
        assert (exchange_failure.row, exchange_failure.kind) == (16, FailureKind.INVALID)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404])
def test_no_redirect_points_at_the_whitelist(status: int) -> None:
    reply = HttpResponse(status, {"content-type": "text/html"}, b"<html>no</html>")
    exchange_failure = run(flow_for(order("ucommerce", worked_before=True)), reply).failure
    assert (exchange_failure.row, exchange_failure.kind) == (5, FailureKind.REFUSED)
    assert "whitelist" in exchange_failure.detail


def test_connect_can_refuse_the_client_with_a_code() -> None:
    reply = answer({"errors": [{"error": "invalid_client"}]}, 401)
    assert run(flow_for(order("ucommerce")), reply).failure.row == 7


def test_a_connect_without_an_answer_has_spent_nothing_but_time() -> None:
    assert run(flow_for(order("ucommerce")), Unreachable("x")).failure.row == 1
    assert run(flow_for(order("ucommerce")), OutcomeUnknown("x")).failure.row == 2


# ------------------------------------------------------------------ a refused code
def test_a_refused_code_gets_one_new_one() -> None:
    ran = run(flow_for(order("ucommerce")), code("c-1"), INVALID_GRANT, code("c-2"), bearer("tok-2"))
    assert [request.method for request in ran.requests] == ["GET", "POST", "GET", "POST"]
    assert sent(ran.requests, "code") == ["c-1", "c-2"]
    assert ran.token.access_token == "tok-2"


def test_there_is_no_third_code() -> None:
    ran = run(flow_for(order("ucommerce")), code("c-1"), INVALID_GRANT, code("c-2"), INVALID_GRANT)
    assert sent(ran.requests, "code") == ["c-1", "c-2"]
    assert (ran.failure.row, ran.failure.kind) == (10, FailureKind.TRANSIENT)


@pytest.mark.parametrize(
    ("reply", "row"),
    [
        (OutcomeUnknown("x"), 2),
        (HttpResponse(500), 15),
        (HttpResponse(504), 15),
        (answer({"error": "invalid_client"}, 401), 7),
        (answer({}), 16),
    ],
)
def test_a_code_that_went_out_is_not_sent_again(reply: HttpResponse | OutcomeUnknown, row: int) -> None:
    ran = run(flow_for(order("ucommerce")), code("c-1"), reply)
    assert sent(ran.requests, "code") == ["c-1"]
    assert ran.failure.row == row


# ------------------------------------------------------------------ refresh
def test_a_refresh_sends_the_refresh_token_and_nothing_more() -> None:
    ran = run(flow_for(order("ucommerce", scope="a", refresh_token="r+1")), bearer("tok-2", refresh_token="r-2"))
    refresh = ran.requests[0]
    assert (refresh.method, refresh.url) == ("POST", TOKEN)
    assert form(refresh) == [("grant_type", "refresh_token"), ("refresh_token", "r+1")]
    assert basic(refresh) == b"the-client:the-secret"
    assert (ran.token.access_token, ran.token.refresh_token) == ("tok-2", "r-2")


@pytest.mark.parametrize("more", [{}, {"refresh_token": None}, {"refresh_token": ""}])
def test_an_answer_without_a_refresh_token_keeps_the_old_one(more: dict[str, Any]) -> None:
    assert run(flow_for(order("ucommerce", refresh_token="r-1")), bearer(**more)).token.refresh_token == "r-1"


def test_a_refused_refresh_starts_the_grant_anew() -> None:
    ran = run(
        flow_for(order("ucommerce", refresh_token="r-1")), INVALID_GRANT, code("c-1"), bearer(refresh_token="r-2")
    )
    assert [request.method for request in ran.requests] == ["POST", "GET", "POST"]
    assert sent(ran.requests, "refresh_token") == ["r-1"]
    assert ran.token.refresh_token == "r-2"


def test_the_old_refresh_token_does_not_outlive_its_refusal() -> None:
    ran = run(flow_for(order("ucommerce", refresh_token="r-1")), INVALID_GRANT, code("c-1"), bearer())
    assert ran.token.refresh_token is None


def test_a_refused_refresh_and_two_refused_codes_end_it() -> None:
    answers = (INVALID_GRANT, code("c-1"), INVALID_GRANT, code("c-2"), INVALID_GRANT)
    ran = run(flow_for(order("ucommerce", refresh_token="r-1")), *answers)
    assert sent(ran.requests, "refresh_token") == ["r-1"]
    assert ran.failure.row == 10


def test_client_credentials_with_a_refresh_token_start_anew_likewise() -> None:
    ran = run(flow_for(order("oauth2", refresh_token="r-1")), answer({"error": "invalid_grant"}, 400), bearer("tok-2"))
    assert sent(ran.requests, "grant_type") == ["refresh_token", "client_credentials"]
    assert ran.token.access_token == "tok-2"


@pytest.mark.parametrize(
    ("reply", "row"),
    [
        (OutcomeUnknown("x"), 2),
        (Unreachable("x"), 1),
        (HttpResponse(500), 15),
        (HttpResponse(429), 6),
        (answer({"error": "invalid_client"}, 401), 7),
        (answer({}), 16),
    ],
)
def test_a_refresh_token_goes_out_once(reply: HttpResponse | OutcomeUnknown | Unreachable, row: int) -> None:
    ran = run(flow_for(order("ucommerce", refresh_token="r-1")), reply)
    assert sent(ran.requests, "refresh_token") == ["r-1"]
    assert ran.failure.row == row

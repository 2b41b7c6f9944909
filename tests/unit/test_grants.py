"""The grants that are one request: client credentials and the login. Driven by hand, without a network."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import pytest

from tests.unit.grant_requests import CLIENT, LOGIN, answer, basic, bearer, form, json_body, order, redirect, run
from token_broker.core.failures import FailureKind, FailureLevel
from token_broker.oauth.exchange import HttpRequest, HttpResponse, OutcomeUnknown, Unreachable, quoted_query
from token_broker.oauth.grants import GrantRequest, flow_for, revocation_request

AWKWARD = {"client_id": "shop:1/ä", "client_secret": "p+q r%&=ß"}
CLIENT_CREDENTIALS = ("unified-services", "commerce-layer", "unidy", "oauth2")


def first(found: GrantRequest) -> HttpRequest:
    return next(flow_for(found))


def fields_of(request: HttpRequest) -> dict[str, Any]:
    return dict(form(request)) if "form" in request.headers["Content-Type"] else json_body(request)


# ------------------------------------------------------------------ what each provider is sent
def test_unified_services_gets_a_form_with_a_raw_basic_header() -> None:
    request = first(order("unified-services", scope="api://shop/.default"))
    assert (request.method, request.url) == ("POST", "https://login.example.com/tenant/oauth2/v2.0/token")
    assert request.query == ()
    assert form(request) == [("grant_type", "client_credentials"), ("scope", "api://shop/.default")]
    assert basic(request) == b"the-client:the-secret"


def test_commerce_layer_gets_json_with_id_and_secret() -> None:
    request = first(order("commerce-layer", scope="market:id:a"))
    assert (request.method, request.url) == ("POST", "https://auth.commercelayer.io/oauth/token")
    assert request.query == ()
    assert json_body(request) == {"grant_type": "client_credentials", "scope": "market:id:a", **CLIENT}
    assert "Authorization" not in request.headers
    assert request.headers["Accept"] == "application/json"


def test_a_sales_channel_sends_no_secret_at_all() -> None:
    request = first(order("commerce-layer", {"client_id": "channel"}, scope="market:id:a"))
    sent = {"grant_type": "client_credentials", "scope": "market:id:a", "client_id": "channel"}
    assert json_body(request) == sent


def test_unidy_gets_json_at_its_path_prefix() -> None:
    request = first(order("unidy", scope="users:read users:write"))
    assert (request.method, request.url) == ("POST", "https://id.example.com/prefix/oauth/token")
    assert json_body(request) == {"grant_type": "client_credentials", "scope": "users:read users:write", **CLIENT}
    assert "Authorization" not in request.headers


def test_a_standard_server_gets_a_form_with_percent_encoded_basic_and_extra_fields() -> None:
    request = first(order("oauth2", AWKWARD, scope="a b", params={"audience": "https://api.example.com"}))
    assert (request.method, request.url) == ("POST", "https://auth.example.com/token")
    fields = {"grant_type": "client_credentials", "scope": "a b", "audience": "https://api.example.com"}
    assert dict(form(request)) == fields
    assert basic(request) == b"shop%3A1%2F%C3%A4:p%2Bq+r%25%26%3D%C3%9F"


def test_a_standard_server_can_be_sent_json() -> None:
    request = first(order("oauth2", encoding="json", params={"resource": "urn:x"}))
    assert json_body(request) == {"grant_type": "client_credentials", "resource": "urn:x"}
    assert basic(request) == b"the-client:the-secret"


def test_unicommerce_gets_username_and_password_in_the_query_of_a_get() -> None:
    request = first(order("unicommerce", {"username": "a@b", "password": "p#&+% ü"}))
    assert (request.method, request.url) == ("GET", "https://market.example.com/uni/authToken")
    assert request.query == (("username", "a@b"), ("password", "p#&+% ü"))
    assert quoted_query(request.query) == "username=a%40b&password=p%23%26%2B%25%20%C3%BC"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Cache-Control"] == "no-store"
    assert "Authorization" not in request.headers
    assert request.body is None


def test_unicommerce_can_be_sent_a_post_with_json() -> None:
    request = first(order("unicommerce", method="POST"))
    assert (request.method, request.query) == ("POST", ())
    assert json_body(request) == LOGIN


# ------------------------------------------------------------------ for all of them
@pytest.mark.parametrize("slug", CLIENT_CREDENTIALS)
def test_an_empty_scope_is_never_sent(slug: str) -> None:
    assert "scope" not in fields_of(first(order(slug)))


@pytest.mark.parametrize("slug", CLIENT_CREDENTIALS)
def test_no_resource_is_sent_that_nobody_asked_for(slug: str) -> None:
    assert set(fields_of(first(order(slug, scope="a")))) <= {"grant_type", "scope", "client_id", "client_secret"}


@pytest.mark.parametrize("slug", CLIENT_CREDENTIALS)
@pytest.mark.parametrize("auth", ["basic", "basic-raw", "form", "json", "none"])
def test_there_is_exactly_one_client_authentication(slug: str, auth: str) -> None:
    request = first(order(slug, client_auth=auth))
    sent = fields_of(request)
    in_header, in_body = "Authorization" in request.headers, "client_secret" in sent
    assert (in_header, in_body) == (auth.startswith("basic"), auth in ("form", "json"))
    assert ("client_id" in sent) is not in_header
    if auth in ("form", "json"):
        assert auth in request.headers["Content-Type"]


@pytest.mark.parametrize(
    ("slug", "auth", "pair"),
    [
        ("oauth2", "basic", b"shop%3A1%2F%C3%A4:p%2Bq+r%25%26%3D%C3%9F"),
        ("oauth2", "basic-raw", "shop:1/ä:p+q r%&=ß".encode()),
        ("unified-services", "basic-raw", "shop:1/ä:p+q r%&=ß".encode()),
        ("unified-services", "basic", b"shop%3A1%2F%C3%A4:p%2Bq+r%25%26%3D%C3%9F"),
        ("ucommerce", "basic-raw", "shop:1/ä:p+q r%&=ß".encode("iso-8859-1")),
    ],
)
def test_awkward_credentials_in_a_basic_header(slug: str, auth: str, pair: bytes) -> None:
    found = order(slug, AWKWARD, client_auth=auth, refresh_token="r-1")
    assert basic(first(found)) == pair


def test_a_character_outside_iso_8859_1_goes_as_utf_8() -> None:
    found = order("ucommerce", {"client_id": "id", "client_secret": "Ω"}, refresh_token="r-1")
    assert basic(first(found)) == "id:Ω".encode()


@pytest.mark.parametrize("auth", ["form", "json"])
def test_awkward_credentials_survive_a_body(auth: str) -> None:
    sent = fields_of(first(order("oauth2", AWKWARD, client_auth=auth)))
    assert {name: sent[name] for name in AWKWARD} == AWKWARD


def test_a_space_in_a_query_is_never_a_plus() -> None:
    pairs = (("a b", "c+d e"), ("ü", "&="))
    assert quoted_query(pairs) == "a%20b=c%2Bd%20e&%C3%BC=%26%3D"
    assert tuple(parse_qsl(quoted_query(pairs))) == pairs


# ------------------------------------------------------------------ answers
def test_a_token_ends_the_grant() -> None:
    ran = run(flow_for(order("unidy", scope="users:read")), bearer("tok-1", scope="users:read", created_at=1687436422))
    assert len(ran.requests) == 1
    issued = ran.token
    assert (issued.access_token, issued.expires_in) == ("tok-1", 3600)
    assert (issued.scope, issued.refresh_token) == ("users:read", None)


def test_the_login_brings_a_token_without_a_lifetime() -> None:
    issued = run(flow_for(order("unicommerce")), answer({"status": "SUCCESS", "accessToken": "tok-1"})).token
    assert (issued.access_token, issued.expires_in) == ("tok-1", None)


@pytest.mark.parametrize(
    ("reply", "proven", "row"),
    [
        (answer({"status": "FAILED"}), False, 13),
        (answer({"status": "FAILED"}), True, 12),
        (answer({"status": "FAILED", "accessToken": "tok-1"}), False, 13),
        (answer({"status": "INVALID_CREDENTIALS"}), False, 7),
        (answer({"status": "INVALID_CREDENTIALS"}), True, 7),
        (answer({"status": "INVALID_CREDENTIALS", "accessToken": "tok-1"}, 401), True, 7),
        (answer({"status": "SUCCESS"}), False, 16),
        (answer({"status": "SUCCESS", "accessToken": ""}), False, 16),
        (answer({"accessToken": "tok-1"}), False, 16),
        (answer({"status": "success", "accessToken": "tok-1"}), False, 16),
        (HttpResponse(200, {}, b"OK"), False, 16),
    ],
)
def test_a_200_of_the_login_is_not_yet_a_success(reply: HttpResponse, worked_before: bool, row: int) -> None:
    assert run(flow_for(order("unicommerce", worked_before=worked_before)), reply).failure.row == row


@pytest.mark.parametrize(
    ("reply", "row", "code"),
    [
        (answer({"error": "invalid_client", "error_description": "no"}, 401), 7, "invalid_client"),
        (bearer(error="invalid_client"), 7, "invalid_client"),
        (answer({"error": "invalid_scope"}), 8, "invalid_scope"),
        (answer({"errors": [{"title": "invalid_client", "code": "UNAUTHORIZED", "status": "401"}]}, 401), 7, None),
        (answer({"errors": {"title": "Bad scope", "code": "invalid_scope"}}, 422), 8, "invalid_scope"),
        (answer({"errors": [{"error": "unauthorized_client", "error-description": "x"}]}, 400), 7, None),
        (answer({"error": "something_of_its_own"}, 400), 14, "unrecognised"),
        (HttpResponse(429, {"content-type": "text/plain", "retry-after": "60"}, b"slow down"), 6, None),
        (HttpResponse(503, {}, b""), 15, None),
        (redirect("https://elsewhere.example.com/login"), 3, None),
        (answer({"token_type": "Bearer"}), 16, None),
        (answer([], 200), 16, None),
        (bearer(token_type="mac"), 16, None),
        (bearer(expires_in=0), 16, None),
    ],
)
def test_a_refusal_is_what_the_table_says(reply: HttpResponse, row: int, code: str | None) -> None:
    exchange_failure = run(flow_for(order("oauth2")), reply).failure
    assert exchange_failure.row == row
    assert code is None or exchange_failure.provider_error == code


@pytest.mark.parametrize(
    ("error", "row", "unknown", "rests_s"),
    [
        (Unreachable("x"), 1, False, None),
        (Unreachable("x", bad_certificate=True), 1, False, 300),
        (OutcomeUnknown("x"), 2, True, None),
    ],
)
def test_no_answer_is_a_transient_failure(error: Exception, row: int, unknown: bool, rests_s: int | None) -> None:
    exchange_failure = run(flow_for(order("unidy", scope="a")), error).failure  # type: ignore[arg-type]  # both are TransportErrors
    assert (exchange_failure.row, exchange_failure.kind, exchange_failure.outcome_unknown) == (
        row,
        FailureKind.TRANSIENT,
        unknown,
    )
    assert rests_s is None or exchange_failure.rest is not None
    assert exchange_failure.rest is None or exchange_failure.rest.total_seconds() == rests_s


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "Text/HTML", "application/xhtml+xml"])
def test_an_html_page_after_credentials_that_worked_is_doubted(content_type: str) -> None:
    reply = HttpResponse(403, {"content-type": content_type}, b"<html>blocked</html>")
    assert run(flow_for(order("unidy", scope="a", worked_before=True)), reply).failure.row == 12
    assert run(flow_for(order("unidy", scope="a")), reply).failure.row == 13


def test_a_limit_rests_as_long_as_the_header_says() -> None:
    reply = HttpResponse(429, {"retry-after": "7"}, b"")
    exchange_failure = run(flow_for(order("commerce-layer", scope="market:id:a")), reply).failure
    assert (exchange_failure.where, exchange_failure.rest is not None and exchange_failure.rest.total_seconds()) == (
        FailureLevel.ENDPOINT,
        7,
    )


@pytest.mark.parametrize("granted", ["market:all", "market:all market:id:a"])
def test_one_market_asked_and_all_granted_is_no_usable_token(granted: str) -> None:
    exchange_failure = run(flow_for(order("commerce-layer", scope="market:id:a")), bearer(scope=granted)).failure
    assert (exchange_failure.row, exchange_failure.kind) == (16, FailureKind.INVALID)


@pytest.mark.parametrize(("asked", "granted"), [("", "market:all"), ("market:all", "market:all")])
def test_all_markets_are_no_surprise_to_who_asked_for_all(asked: str, granted: str) -> None:
    assert run(flow_for(order("commerce-layer", scope=asked)), bearer(scope=granted)).token.scope == granted


# ------------------------------------------------------------------ revocation
def test_commerce_layer_revokes_with_id_secret_and_token() -> None:
    request = revocation_request(order("commerce-layer"), "tok-1")
    assert request is not None
    assert (request.method, request.url) == ("POST", "https://auth.commercelayer.io/oauth/revoke")
    assert json_body(request) == {"token": "tok-1", **CLIENT}


def test_unidy_revokes_beside_its_token_endpoint() -> None:
    request = revocation_request(order("unidy"), "tok-1")
    assert request is not None
    assert request.url == "https://id.example.com/prefix/oauth/revoke"
    assert json_body(request) == {"token": "tok-1", **CLIENT}


def test_a_standard_server_revokes_where_its_settings_say() -> None:
    request = revocation_request(order("oauth2", params={"audience": "x"}, scope="a"), "tok+1")
    assert request is not None
    assert request.url == "https://auth.example.com/revoke"
    assert form(request) == [("token", "tok+1")]
    assert basic(request) == b"the-client:the-secret"


def test_who_has_no_endpoint_or_no_secret_revokes_nothing() -> None:
    assert revocation_request(order("unified-services"), "t") is None
    assert revocation_request(order("ucommerce"), "t") is None
    assert revocation_request(order("unicommerce"), "t") is None
    assert revocation_request(order("oauth2", revocation_url=None), "t") is None
    assert revocation_request(order("commerce-layer", {"client_id": "channel"}, scope="market:id:a"), "t") is None


# ------------------------------------------------------------------ nothing leaks
@pytest.mark.parametrize("slug", ["unidy", "unicommerce", "oauth2", "ucommerce"])
def test_no_repr_shows_a_credential(slug: str) -> None:
    secret = {"client_id": "ID-1", "client_secret": "SECRET-1", "username": "USER-1", "password": "SECRET-2"}
    found = order(slug, secret, scope="a", refresh_token="SECRET-3")
    shown = repr(found) + repr(first(found))
    assert "SECRET" not in shown
    assert "USER-1" not in shown


def test_no_refusal_quotes_the_provider() -> None:
    body = {"error": "LEAK-1", "error_description": "LEAK-2", "errors": [{"title": "LEAK-3"}], "status": "LEAK-4"}
    replies = [
        answer(body, 400),
        answer(body),
        answer({**body, "access_token": "LEAK 5\n"}),
        answer({"access_token": "LEAK", "token_type": "LEAK"}),
        redirect("https://LEAK.example.com/?code=LEAK"),
    ]
    for reply in replies:
        for slug in ("oauth2", "unicommerce"):
            ran = run(flow_for(order(slug)), reply)
            refusal = ran.refusal
            assert refusal is not None
            assert "LEAK" not in str(refusal) + repr(refusal) + repr(refusal.failure) + repr(reply)
            assert refusal.__cause__ is None


def test_a_tokens_repr_hides_it() -> None:
    assert "tok-1" not in repr(run(flow_for(order("oauth2")), bearer("tok-1", refresh_token="tok-1-r")).token)


def test_bodies_are_plain_ascii() -> None:
    for auth in ("form", "json", "basic"):
        body = first(order("oauth2", AWKWARD, client_auth=auth)).body
        assert body is not None
        assert body.isascii()
    assert json.loads(first(order("oauth2", AWKWARD, client_auth="json")).body or b"")["client_id"] == "shop:1/ä"

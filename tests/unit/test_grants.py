"""Grants with one request: client credentials and the login. No network is needed."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.grant_requests import (
    CLIENT,
    LOGIN,
    NOW,
    basic,
    bearer,
    form,
    grant_for,
    json_body,
    json_response,
    redirect,
    run,
)
from token_broker.core.connections import parse_connection
from token_broker.core.credentials import Secret, parse_credentials
from token_broker.core.failures import FailureKind, FailureLevel, cooldown
from token_broker.core.names import ConnectionName
from token_broker.core.provider_files import parse_provider
from token_broker.errors import ConnectionMisconfigured
from token_broker.oauth.exchange import (
    HttpRequest,
    HttpResponse,
    OutcomeUnknown,
    TransportError,
    Unreachable,
    UnreadableResponse,
    quoted_query,
)
from token_broker.oauth.grants import GRANTS, token_flow
from token_broker.oauth.requests import GrantRequest, grant_request_for, revocation_request

AWKWARD = {"client_id": "shop:1/ä", "client_secret": "p+q r%&=ß"}
CLIENT_CREDENTIALS = ("unified-services", "commerce-layer", "unidy", "oauth2")


def first(found: GrantRequest) -> HttpRequest:
    return next(token_flow(found))


def fields_of(request: HttpRequest) -> dict[str, Any]:
    return dict(form(request)) if "form" in request.headers["Content-Type"] else json_body(request)


# ------------------------------------------------------------------ what each provider is sent
def test_unified_services_gets_a_form_with_a_raw_basic_header() -> None:
    request = first(grant_for("unified-services", scope="api://shop/.default"))
    assert (request.method, request.url) == ("POST", "https://login.example.com/tenant/oauth2/v2.0/token")
    assert request.query == ()
    assert form(request) == [("grant_type", "client_credentials"), ("scope", "api://shop/.default")]
    assert basic(request) == b"the-client:the-secret"


def test_commerce_layer_gets_json_with_id_and_secret() -> None:
    request = first(grant_for("commerce-layer", scope="market:id:a"))
    assert (request.method, request.url) == ("POST", "https://auth.commercelayer.io/oauth/token")
    assert request.query == ()
    assert json_body(request) == {"grant_type": "client_credentials", "scope": "market:id:a", **CLIENT}
    assert "Authorization" not in request.headers
    assert request.headers["Accept"] == "application/json"


def test_a_sales_channel_sends_no_secret() -> None:
    request = first(grant_for("commerce-layer", {"client_id": "channel"}, scope="market:id:a"))
    sent = {"grant_type": "client_credentials", "scope": "market:id:a", "client_id": "channel"}
    assert json_body(request) == sent


def test_unidy_gets_json_at_its_path_prefix() -> None:
    request = first(grant_for("unidy", scope="users:read users:write"))
    assert (request.method, request.url) == ("POST", "https://id.example.com/prefix/oauth/token")
    assert json_body(request) == {"grant_type": "client_credentials", "scope": "users:read users:write", **CLIENT}
    assert "Authorization" not in request.headers


def test_a_standard_server_gets_a_form_with_percent_encoded_basic_and_extra_fields() -> None:
    request = first(grant_for("oauth2", AWKWARD, scope="a b", params={"audience": "https://api.example.com"}))
    assert (request.method, request.url) == ("POST", "https://auth.example.com/token")
    fields = {"grant_type": "client_credentials", "scope": "a b", "audience": "https://api.example.com"}
    assert dict(form(request)) == fields
    assert basic(request) == b"shop%3A1%2F%C3%A4:p%2Bq+r%25%26%3D%C3%9F"


def test_a_standard_server_can_be_sent_json() -> None:
    request = first(grant_for("oauth2", encoding="json", params={"resource": "urn:x"}))
    assert json_body(request) == {"grant_type": "client_credentials", "resource": "urn:x"}
    assert basic(request) == b"the-client:the-secret"


PARAMS = {"grant_type": "account_credentials", "n": 7, "f": 1.5, "on": True, "off": False, "none": "", "r": ["x", 2]}


def test_parameters_are_numbers_booleans_and_lists_in_json() -> None:
    request = first(grant_for("oauth2", encoding="json", scope="a", params=PARAMS))
    assert json_body(request) == {"scope": "a", **PARAMS}


def test_parameters_in_a_form_are_text_and_a_list_is_a_repeated_field() -> None:
    fields = form(first(grant_for("oauth2", params=PARAMS)))
    assert fields == [
        *(("grant_type", "account_credentials"), ("n", "7"), ("f", "1.5"), ("on", "true"), ("off", "false")),
        *(("none", ""), ("r", "x"), ("r", "2")),
    ]


def test_the_client_id_can_stand_in_the_body_beside_basic() -> None:
    request = first(grant_for("oauth2", client_id_in_body=True))
    assert basic(request) == b"the-client:the-secret"
    assert form(request) == [("grant_type", "client_credentials"), ("client_id", "the-client")]


def test_the_query_of_an_endpoint_is_kept() -> None:
    request = first(grant_for("oauth2", token_url="https://id.example.com/token?p=B2C_1%20x&flag="))
    assert (request.url, request.query) == ("https://id.example.com/token", (("p", "B2C_1 x"), ("flag", "")))


def test_a_provider_can_separate_scope_items_otherwise() -> None:
    plain = grant_for("oauth2", scope="a b")
    by_comma = replace(plain.provider, scope=replace(plain.provider.scope, separator=","))
    response = replace(plain.response, scope_separator=",")
    flow = token_flow(replace(plain, provider=by_comma, response=response))
    assert ("scope", "a,b") in form(next(flow))
    with pytest.raises(StopIteration) as done:
        flow.send(bearer(scope="b,a"))
    assert done.value.value.scope == "a b"


# ------------------------------------------------------------------ the request as data
AS_DATA: dict[str, Any] = {
    "title": "Example",
    "documentation": "https://docs.example.com",
    "grant": "client_credentials",
    "credentials": ["client_id", "client_secret"],
    "request": {"url": "https://api.example.com/token", "client_auth": "form"},
}
ACCOUNT = {"name": "account", "kind": "whole", "help": "Help."}


def as_data(secret: Mapping[str, str] = CLIENT, scope: str = "", **file: Any) -> GrantRequest:
    """A request by a file of the catalogue that is `AS_DATA` with changes. Its connection has `account` 7, if any."""
    whole = {**AS_DATA, **file, "request": {**AS_DATA["request"], **file.get("request", {})}}
    provider = parse_provider("example", whole, file="example.toml", grants=GRANTS)
    settings = {"allowed_callers": ["*"], "scope": scope, **({"account": 7} if "settings" in file else {})}
    found = parse_connection(ConnectionName("example", "main"), provider, {k: v for k, v in settings.items() if v})
    credentials = parse_credentials(found.name, provider, Secret(json.dumps(dict(secret)), "v1"))
    return grant_request_for(found, credentials, scope, NOW)


def consented(scope: str = "", **file: Any) -> GrantRequest:
    """A renewal with the refresh token of a person's consent."""
    return replace(as_data(scope=scope, grant="refresh_token", **file), refresh_token="refresh-1")


@pytest.mark.parametrize("error", ["invalid_grant", "invalid_client", "server_error"])
def test_a_refused_refresh_token_of_a_consent_is_the_end_of_the_flow(error: str) -> None:
    failure = run(token_flow(consented()), json_response({"error": error}, 400)).failure
    assert failure is not None
    assert not failure.restart


JSON_BODY = {"client_auth": "json", "fields_in": "json"}
NO_CLIENT = {"client_auth": "none"}
USER = {"username": "u", "password": "p"}
OWN = {"grant_type": "client_credentials", **CLIENT}


@pytest.mark.parametrize(
    ("request_for", "fields"),
    [
        (lambda: as_data(request={"fields": {"audience": "x", "n": 7}}), {**OWN, "audience": "x", "n": "7"}),
        (lambda: as_data(request={"grant_type": "account_credentials"}), {**OWN, "grant_type": "account_credentials"}),
        (lambda: as_data(request={"fields": {"a": "{account}"}}, settings=[ACCOUNT]), {**OWN, "a": "7"}),
        (
            lambda: as_data(request={**JSON_BODY, "fields": {"a": {"b": ["{account}"]}}}, settings=[ACCOUNT]),
            {**OWN, "a": {"b": [7]}},
        ),
        (lambda: as_data(scope="a b"), {**OWN, "scope": "a b"}),
        (consented, {**CLIENT, "grant_type": "refresh_token", "refresh_token": "refresh-1"}),
        (
            lambda: consented(scope="a", request={"fields": {"grant_type": "", "scope": "{scope}"}}),
            {**CLIENT, "refresh_token": "refresh-1", "scope": "a"},
        ),
        (lambda: as_data(request={"fields": {"at": "{now}/{now_ms}"}}), {**OWN, "at": "1795348800/1795348800000"}),
        (
            lambda: as_data({**CLIENT, **USER}, grant="password", credentials=[*CLIENT, *USER]),
            {**CLIENT, **USER, "grant_type": "password"},
        ),
        (
            lambda: as_data(USER, grant="password", credentials=[*USER], request={"client_auth": "none"}),
            {**USER, "grant_type": "password"},
        ),
        (lambda: as_data(USER, grant="login", credentials=[*USER], request=NO_CLIENT), USER),
        (
            lambda: as_data(
                USER,
                grant="login",
                credentials=[*USER],
                request={
                    "client_auth": "none",
                    "fields_in": "form",
                    "fields": {"who": "{secret:username}:{secret:password}"},
                },
            ),
            {"who": "u:p"},
        ),
    ],
)
def test_the_fields_of_a_request_are_those_of_grant_and_file(
    request_for: Callable[[], GrantRequest], fields: dict[str, Any]
) -> None:
    assert fields_of(first(request_for())) == fields


def test_a_file_can_put_fields_into_query_and_headers() -> None:
    request = first(
        as_data(
            request={
                "method": "GET",
                "client_auth": "none",
                "fields": {"client_secret": "{secret:client_secret}"},
                "query": {"v": "2"},
                "headers": {"X-Account": "{account}", "X-Request": "{uuid}", "X-Left-Out": "{region}"},
            },
            settings=[ACCOUNT, {"name": "region", "kind": "text", "help": "Help."}],
        )
    )
    assert dict(request.query) == {"v": "2", "grant_type": "client_credentials", **CLIENT}
    assert request.body is None
    assert request.headers["X-Account"] == "7"
    assert str(UUID(request.headers["X-Request"])) == request.headers["X-Request"]
    assert "X-Left-Out" not in request.headers


KEY = "{secret:client_secret}"
SIGNED = {"method": "GET", "client_auth": "fields", "url": "https://example.com/rest/token"}


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ({"message": "{secret:client_id}{path}{now}"}, "the-client/rest/token1795348800"),
        ({"message": "{path}", "path_after": "/rest/token"}, "/"),
        (
            {"message": "{path}{sorted_fields}", "path_after": "/rest", "as": "HEX", "in": "fields"},
            "/tokenappthe-clientgrant_typeclient_credentialstimestamp1795348800000",
        ),
    ],
)
def test_a_request_carries_the_signature_of_the_file(signature: Mapping[str, str], message: str) -> None:
    fields = {"app": "{secret:client_id}", "timestamp": "{now_ms}"}
    spec = {"field": "sign", "key": KEY, **signature}
    request = first(as_data(request={**SIGNED, "fields": fields}, signature=spec))
    digest = hmac.new(b"the-secret", message.encode(), "sha256").hexdigest()
    assert dict(request.query)["sign"] == (digest.upper() if "as" in signature else digest)
    assert "client_id" not in dict(request.query)


@pytest.mark.parametrize(("client_id", "sent"), [("2001234", 2001234), ("0", 0), ("007", None), ("1e3", None)])
def test_a_credential_can_be_a_number_in_json(client_id: str, sent: int | None) -> None:
    request = {"client_auth": "fields", "fields_in": "json", "fields": {"id": "{secret:client_id:number}"}}
    secret, signature = {"client_id": client_id, "client_secret": "x"}, {"field": "s", "message": "{now}", "key": KEY}
    if sent is None:
        with pytest.raises(ConnectionMisconfigured, match="client_id must be a whole number"):
            as_data(secret, request=request, signature=signature)
    else:
        assert json_body(first(as_data(secret, request=request, signature=signature)))["id"] == sent


def test_each_request_has_a_uuid_of_its_own() -> None:
    request = as_data(request={"headers": {"X-Request": "{uuid}"}})
    assert first(request).headers["X-Request"] != first(request).headers["X-Request"]


@given(st.text(max_size=20).filter(lambda text: "\x00" not in text and text.isprintable() and text.strip()))
def test_a_credential_stays_in_its_field_or_is_refused_for_a_header(value: str) -> None:
    secret = {"client_id": value, "client_secret": "{secret:client_id}{account}&x=y"}
    fields = {"who": "{secret:client_id}|{secret:client_secret}"}
    sent = fields_of(first(as_data(secret, request={"fields": fields})))
    assert sent == {**OWN, **secret, "who": f"{value}|{secret['client_secret']}"}
    in_header = {"headers": {"X-Client": "{secret:client_id}"}}
    if value.isascii() and value == value.strip():
        assert first(as_data(secret, request=in_header)).headers["X-Client"] == value
    else:
        with pytest.raises(ConnectionMisconfigured) as caught:
            as_data(secret, request=in_header)
        assert "client_id has a character" in caught.value.detail


def test_unicommerce_gets_username_and_password_in_the_query_of_a_get() -> None:
    request = first(grant_for("unicommerce", {"username": "a@b", "password": "p#&+% ü"}))
    assert (request.method, request.url) == ("GET", "https://market.example.com/uni/authToken")
    assert request.query == (("username", "a@b"), ("password", "p#&+% ü"))
    assert quoted_query(request.query) == "username=a%40b&password=p%23%26%2B%25%20%C3%BC"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Cache-Control"] == "no-store"
    assert "Authorization" not in request.headers
    assert request.body is None


def test_unicommerce_can_be_sent_a_post_with_json() -> None:
    request = first(grant_for("unicommerce", method="POST"))
    assert (request.method, request.query) == ("POST", ())
    assert json_body(request) == LOGIN


# ------------------------------------------------------------------ for all of them
@pytest.mark.parametrize("slug", CLIENT_CREDENTIALS)
def test_an_empty_scope_is_never_sent(slug: str) -> None:
    assert "scope" not in fields_of(first(grant_for(slug)))


@pytest.mark.parametrize("slug", CLIENT_CREDENTIALS)
def test_no_field_is_sent_that_nobody_requested(slug: str) -> None:
    assert set(fields_of(first(grant_for(slug, scope="a")))) <= {"grant_type", "scope", "client_id", "client_secret"}


@pytest.mark.parametrize("slug", CLIENT_CREDENTIALS)
@pytest.mark.parametrize("auth", ["basic", "basic-raw", "form", "json", "none"])
def test_there_is_exactly_one_client_authentication(slug: str, auth: str) -> None:
    request = first(grant_for(slug, client_auth=auth))
    sent = fields_of(request)
    in_header = "Authorization" in request.headers
    in_body = "client_secret" in sent
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
    found = grant_for(slug, AWKWARD, client_auth=auth, refresh_token="r-1")
    assert basic(first(found)) == pair


def test_a_character_outside_iso_8859_1_is_sent_as_utf_8() -> None:
    found = grant_for("ucommerce", {"client_id": "id", "client_secret": "Ω"}, refresh_token="r-1")
    assert basic(first(found)) == "id:Ω".encode()


@pytest.mark.parametrize("auth", ["form", "json"])
def test_awkward_credentials_survive_a_body(auth: str) -> None:
    sent = fields_of(first(grant_for("oauth2", AWKWARD, client_auth=auth)))
    assert {name: sent[name] for name in AWKWARD} == AWKWARD


def test_a_space_in_a_query_is_never_a_plus() -> None:
    pairs = (("a b", "c+d e"), ("ü", "&="))
    assert quoted_query(pairs) == "a%20b=c%2Bd%20e&%C3%BC=%26%3D"
    assert tuple(parse_qsl(quoted_query(pairs))) == pairs


# ------------------------------------------------------------------ responses
def test_a_token_ends_the_grant() -> None:
    ran = run(
        token_flow(grant_for("unidy", scope="users:read")), bearer("tok-1", scope="users:read", created_at=1687436422)
    )
    assert len(ran.requests) == 1
    issued = ran.token
    assert (issued.access_token, issued.expires_in) == ("tok-1", 3600)
    assert (issued.scope, issued.refresh_token) == ("users:read", None)


def test_a_login_returns_a_token_without_a_lifetime() -> None:
    issued = run(
        token_flow(grant_for("unicommerce")), json_response({"status": "SUCCESS", "accessToken": "tok-1"})
    ).token
    assert (issued.access_token, issued.expires_in) == ("tok-1", None)


@pytest.mark.parametrize(
    ("response", "worked_before", "rule"),
    [
        (json_response({"status": "FAILED"}), False, "credentials_refused"),
        (json_response({"status": "FAILED"}), True, "credentials_doubted"),
        (json_response({"status": "FAILED", "accessToken": "tok-1"}), False, "credentials_refused"),
        (json_response({"status": "INVALID_CREDENTIALS"}), False, "client_refused"),
        (json_response({"status": "INVALID_CREDENTIALS"}), True, "client_refused"),
        (json_response({"status": "INVALID_CREDENTIALS", "accessToken": "tok-1"}, 401), True, "client_refused"),
        (json_response({"status": "SUCCESS"}), False, "unusable_response"),
        (json_response({"status": "SUCCESS", "accessToken": ""}), False, "unusable_response"),
        (json_response({"accessToken": "tok-1"}), False, "unusable_response"),
        (json_response({"status": "success", "accessToken": "tok-1"}), False, "unusable_response"),
        (HttpResponse(200, {}, b"OK"), False, "unusable_response"),
    ],
)
def test_a_login_with_status_200_can_still_fail(response: HttpResponse, worked_before: bool, rule: str) -> None:
    assert run(token_flow(grant_for("unicommerce", worked_before=worked_before)), response).failure.rule == rule


@pytest.mark.parametrize(
    ("response", "rule", "code"),
    [
        (
            json_response({"error": "invalid_client", "error_description": "no"}, 401),
            "client_refused",
            "invalid_client",
        ),
        (bearer(error="invalid_client"), "client_refused", "invalid_client"),
        (json_response({"error": "invalid_scope"}), "scope_refused", "invalid_scope"),
        (
            json_response({"errors": [{"title": "invalid_client", "code": "UNAUTHORIZED", "status": "401"}]}, 401),
            "client_refused",
            None,
        ),
        (
            json_response({"errors": {"title": "Bad scope", "code": "invalid_scope"}}, 422),
            "scope_refused",
            "invalid_scope",
        ),
        (
            json_response({"errors": [{"error": "unauthorized_client", "error-description": "x"}]}, 400),
            "client_refused",
            None,
        ),
        (json_response({"error": "something_of_its_own"}, 400), "request_unknown", "unrecognised"),
        (HttpResponse(429, {"content-type": "text/plain", "retry-after": "60"}, b"slow down"), "rate_limited", None),
        (HttpResponse(503, {}, b""), "server_failed", None),
        (redirect("https://elsewhere.example.com/login"), "redirected_elsewhere", None),
        (json_response({"token_type": "Bearer"}), "unusable_response", None),
        (json_response([], 200), "unusable_response", None),
        (bearer(token_type="mac"), "unusable_response", None),
        (bearer(expires_in=-1), "unusable_response", None),
    ],
)
def test_each_failed_response_has_its_rule(response: HttpResponse, rule: str, code: str | None) -> None:
    failure = run(token_flow(grant_for("oauth2")), response).failure
    assert failure.rule == rule
    assert code is None or failure.provider_error == code


@pytest.mark.parametrize(
    ("error", "rule", "unknown"),
    [
        (Unreachable("x"), "unreachable", False),
        (Unreachable("x", bad_certificate=True), "certificate_not_trusted", False),
        (Unreachable("x", private_address=True), "address_not_public", False),
        (OutcomeUnknown("x"), "no_complete_response", True),
        (UnreadableResponse("x"), "unreadable_response", True),
    ],
)
def test_no_response_that_was_read_is_no_refusal(error: TransportError, rule: str, unknown: bool) -> None:
    failure = run(token_flow(grant_for("unidy", scope="a")), error).failure
    assert (failure.rule, failure.kind is FailureKind.REFUSED, failure.outcome_unknown) == (rule, False, unknown)


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "Text/HTML", "application/xhtml+xml"])
def test_an_html_page_gives_credentials_that_worked_a_second_chance(content_type: str) -> None:
    response = HttpResponse(403, {"content-type": content_type}, b"<html>blocked</html>")
    assert (
        run(token_flow(grant_for("unidy", scope="a", worked_before=True)), response).failure.rule
        == "credentials_doubted"
    )
    assert run(token_flow(grant_for("unidy", scope="a")), response).failure.rule == "credentials_refused"


def test_a_rate_limit_holds_as_long_as_the_header_says() -> None:
    response = HttpResponse(429, {"retry-after": "7"}, b"")
    failure = run(token_flow(grant_for("commerce-layer", scope="market:id:a")), response).failure
    assert (failure.level, cooldown(failure, 1)) == (FailureLevel.ENDPOINT, timedelta(seconds=7))


def test_a_login_ignores_a_refresh_token() -> None:
    assert first(grant_for("unicommerce", refresh_token="r-1")) == first(grant_for("unicommerce"))


@pytest.mark.parametrize("granted", ["market:all", "market:all market:id:a"])
def test_a_token_for_all_markets_is_unusable_if_one_was_requested(granted: str) -> None:
    failure = run(token_flow(grant_for("commerce-layer", scope="market:id:a")), bearer(scope=granted)).failure
    assert (failure.rule, failure.kind) == ("unusable_response", FailureKind.INVALID)


@pytest.mark.parametrize(("requested", "granted"), [("", "market:all"), ("market:all", "market:all")])
def test_a_token_for_all_markets_is_usable_if_all_were_requested(requested: str, granted: str) -> None:
    assert run(token_flow(grant_for("commerce-layer", scope=requested)), bearer(scope=granted)).token.scope == granted


# ------------------------------------------------------------------ revocation
def test_commerce_layer_revokes_with_id_secret_and_token() -> None:
    request = revocation_request(grant_for("commerce-layer"), "tok-1")
    assert request is not None
    assert (request.method, request.url) == ("POST", "https://auth.commercelayer.io/oauth/revoke")
    assert json_body(request) == {"token": "tok-1", **CLIENT}


def test_unidy_revokes_beside_its_token_endpoint() -> None:
    request = revocation_request(grant_for("unidy"), "tok-1")
    assert request is not None
    assert request.url == "https://id.example.com/prefix/oauth/revoke"
    assert json_body(request) == {"token": "tok-1", **CLIENT}


def test_a_standard_server_revokes_where_its_settings_say() -> None:
    request = revocation_request(grant_for("oauth2", params={"audience": "x"}, scope="a"), "tok+1")
    assert request is not None
    assert request.url == "https://auth.example.com/revoke"
    assert form(request) == [("token", "tok+1")]
    assert basic(request) == b"the-client:the-secret"


def test_a_public_client_revokes_by_its_client_id() -> None:
    """RFC 7009 section 2.1."""
    request = revocation_request(grant_for("oauth2", {"client_id": "public"}, client_auth="none"), "tok-1")
    assert request is not None
    assert form(request) == [("token", "tok-1"), ("client_id", "public")]


def test_without_revocation_endpoint_or_secret_nothing_is_revoked() -> None:
    assert revocation_request(grant_for("unified-services"), "t") is None
    assert revocation_request(grant_for("ucommerce"), "t") is None
    assert revocation_request(grant_for("unicommerce"), "t") is None
    assert revocation_request(grant_for("oauth2", revocation_url=None), "t") is None
    # Its page lists client_secret among the required fields.
    assert revocation_request(grant_for("commerce-layer", {"client_id": "channel"}, scope="market:id:a"), "t") is None


# ------------------------------------------------------------------ nothing leaks
@pytest.mark.parametrize("slug", ["unidy", "unicommerce", "oauth2", "ucommerce"])
def test_no_repr_shows_a_credential(slug: str) -> None:
    secret = {"client_id": "ID-1", "client_secret": "SECRET-1", "username": "USER-1", "password": "SECRET-2"}
    found = grant_for(slug, secret, scope="a", refresh_token="SECRET-3")
    shown = repr(found) + repr(first(found))
    assert "SECRET" not in shown
    assert "USER-1" not in shown


def test_no_error_quotes_the_provider() -> None:
    body = {"error": "LEAK-1", "error_description": "LEAK-2", "errors": [{"title": "LEAK-3"}], "status": "LEAK-4"}
    responses = [
        json_response(body, 400),
        json_response(body),
        json_response({**body, "access_token": "LEAK 5\n"}),
        json_response({"access_token": "LEAK", "token_type": "LEAK"}),
        redirect("https://LEAK.example.com/?code=LEAK"),
    ]
    for response in responses:
        for slug in ("oauth2", "unicommerce"):
            ran = run(token_flow(grant_for(slug)), response)
            failed = ran.failed
            assert failed is not None
            assert "LEAK" not in str(failed) + repr(failed) + repr(failed.failure) + repr(response)
            assert failed.__cause__ is None


def test_a_tokens_repr_hides_it() -> None:
    assert "tok-1" not in repr(run(token_flow(grant_for("oauth2")), bearer("tok-1", refresh_token="tok-1-r")).token)


def test_bodies_are_plain_ascii() -> None:
    for auth in ("form", "json", "basic"):
        body = first(grant_for("oauth2", AWKWARD, client_auth=auth)).body
        assert body is not None
        assert body.isascii()
    assert json.loads(first(grant_for("oauth2", AWKWARD, client_auth="json")).body or b"")["client_id"] == "shop:1/ä"

"""Unusual responses: which still hold a token, which do not, and that none breaks the parser."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.grant_requests import CATALOGUE, NOW, bearer, json_response, jwt
from token_broker.core.providers import KNOWN_ERRORS, BaseUrlSpec, ExpirySpec, ResponseSpec
from token_broker.oauth.exchange import HttpResponse
from token_broker.oauth.responses import (
    EXPIRY_FIELDS,
    MAX_SECONDS,
    MAX_TOKEN_CHARACTERS,
    UnusableResponse,
    error_code,
    http_date,
    jwt_expiry,
    read_token,
    response_object,
    retry_after,
)

STANDARD = CATALOGUE["oauth2"].response
LOGIN = CATALOGUE["unicommerce"].response
YEAR_S = 365 * 86_400
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


def raw(body: bytes, status: int = 200) -> HttpResponse:
    return HttpResponse(status, {}, body)


def why_unusable(response: HttpResponse) -> str:
    with pytest.raises(UnusableResponse) as caught:
        read_token(response, STANDARD)
    return str(caught.value)


# ------------------------------------------------------------------ bodies
@pytest.mark.parametrize(
    "body",
    [
        b'{"access_token": "t"}',
        b'\xef\xbb\xbf{"access_token": "t"}',
        b' \r\n{"access_token": "t"}\n',
        '{"access_token": "t", "note": "Zürich"}'.encode("iso-8859-1"),
        '{"access_token": "t", "note": "Zürich"}'.encode(),
    ],
)
def test_a_token_is_read_in_spite_of_a_wrong_charset(body: bytes) -> None:
    assert read_token(raw(body), STANDARD).access_token == "t"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"t"',
        b"12",
        b"access_token=t&expires_in=5",
        b"<html></html>",
        b'{"access_token": "t"',
        b'{"access_token": "t", "expires_in": NaN}',
        b'{"access_token": "t", "expires_in": Infinity}',
        b'{"access_token": "t", "expires_in": ' + b"9" * 5000 + b"}",
        b"[" * 60_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        '{"access_token": "t"}'.encode("utf-16"),
        b"\xff\xfe\x00\x00",
    ],
)
def test_a_body_that_is_not_a_json_object_is_unusable(body: bytes) -> None:
    assert response_object(raw(body)) is None
    assert why_unusable(raw(body)) == "the response is not a JSON object"


FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("content_type", [FORM, f"{FORM}; charset=UTF-8", FORM.upper()])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"access_token=t%2Bt&expires_in=5&scope=a+b&token_type=bearer", {"access_token": "t+t", "scope": "a b"}),
        (b"access_token=t+t&scope=\r\n", {"access_token": "t t", "scope": None}),
        (b'{"access_token": "t"}', {"access_token": "t"}),
    ],
)
def test_a_form_is_read_where_the_content_type_says_so(
    body: bytes, expected: dict[str, str | None], content_type: str
) -> None:
    """GitHub and old OAuth servers send forms. Others call JSON a form."""
    token = read_token(HttpResponse(200, {"content-type": content_type}, body), STANDARD)
    assert {name: getattr(token, name) for name in expected} == expected
    assert response_object(HttpResponse(200, {"content-type": "text/plain"}, body)) is None or b"{" in body


@pytest.mark.parametrize("body", [b"", b"t", b"&".join([b"a=b"] * 101), b"<html></html>", b"access_token=%ff", b"[]"])
def test_a_form_without_token_is_unusable(body: bytes) -> None:
    with pytest.raises(UnusableResponse):
        read_token(HttpResponse(200, {"content-type": FORM}, body), STANDARD)


def test_the_error_in_a_form_is_read() -> None:
    body = b"error=invalid_client&error_description=free+text"
    assert error_code(response_object(HttpResponse(200, {"content-type": FORM}, body)), STANDARD) == "invalid_client"


@given(st.binary(max_size=200))
def test_no_body_breaks_the_parser(body: bytes) -> None:
    error_code(response_object(raw(body)), STANDARD)
    with pytest.raises(UnusableResponse):
        read_token(raw(body), STANDARD)


@given(
    st.dictionaries(
        st.sampled_from([*EXPIRY_FIELDS, "refresh_in", "scope", "refresh_token", "error", "errors", "token_type"]), JSON
    )
)
def test_other_fields_beside_a_token_are_read_or_unusable(fields: dict[str, Any]) -> None:
    try:
        issued = read_token(json_response({"access_token": "t", **fields}), STANDARD)
    except UnusableResponse:
        return
    assert issued.access_token == "t"
    assert issued.expires_in is None or issued.expires_in >= 0
    assert issued.expires_at is None or issued.expires_at.tzinfo is UTC
    assert issued.scope is None or (issued.scope.isascii() and issued.scope.strip() == issued.scope != "")


# ------------------------------------------------------------------ the token
@pytest.mark.parametrize("token", ["t", "a.b-c_d~e+f/g==", "two words", "!", "x" * MAX_TOKEN_CHARACTERS, jwt(sub="é")])
def test_a_printable_token_is_a_token(token: str) -> None:
    assert read_token(bearer(token), STANDARD).access_token == token


@pytest.mark.parametrize(
    "token",
    [
        *(None, "", 7, True, ["t"], {"t": 1}),
        *("tök", "“t”", "\ud800", "t\n", "t\r\nX: y", "t\x00", "t\x7f", " t", "t "),
        "x" * (MAX_TOKEN_CHARACTERS + 1),
    ],
)
def test_another_value_is_not_a_token(token: object) -> None:
    reason = why_unusable(json_response({"access_token": token, "token_type": "Bearer"}))
    assert reason.startswith("access_token ")
    assert not isinstance(token, str) or len(token) < 3 or token not in reason


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER", None, ""])
def test_a_missing_token_type_means_bearer(kind: str | None) -> None:
    assert read_token(json_response({"access_token": "t", "token_type": kind}), STANDARD).access_token == "t"
    assert read_token(json_response({"access_token": "t"}), STANDARD).access_token == "t"


@pytest.mark.parametrize("kind", ["mac", "DPoP", "Bearer ", 1, ["Bearer"], True])
def test_a_token_of_another_type_is_not_sent_as_bearer(kind: object) -> None:
    reason = why_unusable(bearer(token_type=kind))
    assert reason.startswith("token_type is not bearer. The setting token_type")


@pytest.mark.parametrize("kind", ["Application Access Token", "BearerToken", "bearertoken", "Bearer", None])
def test_a_token_of_a_type_that_is_named_is_accepted(kind: object) -> None:
    spec = replace(STANDARD, token_types=("JWT", "BearerToken"))
    spec = spec.accepting("Application Access Token", zero_means_never=False)
    assert read_token(bearer(token_type=kind), spec).access_token == "tok-1"


def test_a_token_type_does_not_matter_where_it_is_not_sent_as_bearer() -> None:
    response = json_response({"status": "SUCCESS", "accessToken": "t", "token_type": "mac"})
    assert read_token(response, LOGIN).access_token == "t"


# ------------------------------------------------------------------ numbers, scope, refresh token
@pytest.mark.parametrize(
    ("value", "read"),
    [
        (3599, 3599),
        ("3599", 3599),
        (299.5, 299.5),
        ("1e3", 1000),
        (None, None),
        ("", None),
        (0, 0),
        ("0", 0),
        (-0.0, 0),
        (10 * YEAR_S, 10 * YEAR_S),
    ],
)
def test_a_lifetime_is_a_number_or_text(value: object, read: float | None) -> None:
    assert read_token(bearer(expires_in=value), STANDARD).expires_in == read


@pytest.mark.parametrize("value", [100 * YEAR_S, "3153600000", 10**30, 1e300])
def test_a_century_is_longer_than_any_lifetime(value: object) -> None:
    found = read_token(bearer(expires_in=value), STANDARD)
    moment = found.expires_at or NOW + timedelta(seconds=found.expires_in or 0)
    assert moment - NOW > timedelta(days=30)


@pytest.mark.parametrize("value", [-1, "-3600", "soon", True, False, [3600], {"s": 1}, "NaN", "inf"])
def test_an_invalid_lifetime_is_unusable(value: object) -> None:
    assert why_unusable(bearer(expires_in=value)) == "expires_in is not a positive number"
    assert why_unusable(json_response({"access_token": "t", "expires": value})) == "expires is not a positive number"


HOUR_ON = NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("fields", "expires_in", "expires_at"),
    [
        ({"expires": 3600}, 3600, None),
        ({"expiresIn": "3600"}, 3600, None),
        ({"expires_at": 999_999_999}, 999_999_999, None),
        ({"expires_at": HOUR_ON.timestamp()}, None, HOUR_ON),
        ({"expires_on": str(int(HOUR_ON.timestamp()))}, None, HOUR_ON),
        ({"expires_in": HOUR_ON.timestamp()}, None, HOUR_ON),
        ({"expires": HOUR_ON.timestamp() * 1000}, None, HOUR_ON),
        ({"expires_at": "2026-11-22T13:00:00Z"}, None, HOUR_ON),
        ({"expires_at": "2026-11-22 13:00:00"}, None, HOUR_ON),
        ({"expiresAt": "2026-11-22T14:00:00.000+01:00"}, None, HOUR_ON),
        ({"expires": "Sun, 22 Nov 2026 13:00:00 GMT"}, None, HOUR_ON),
        ({"expires_in": 3600, "expiresIn": 60, "expires": 600}, 60, None),
        ({"expires_in": 3600, "expires_at": HOUR_ON.timestamp()}, 3600, HOUR_ON),
        ({"expires_at": HOUR_ON.timestamp(), "expires": "2026-11-22T12:30:00Z"}, None, NOW + timedelta(minutes=30)),
        ({"expires_in": 3600, "expires": "soon"}, 3600, None),
        ({"expires_in": 3600, "expires": 0, "expires_at": None}, 3600, None),
        ({"expires_in": 0, "expires": 3600}, 0, None),
        ({"expires": 0}, 0, None),
    ],
)
def test_the_least_of_all_fields_that_state_an_expiry_is_read(
    fields: dict[str, Any], expires_in: float | None, expires_at: datetime | None
) -> None:
    found = read_token(json_response({"access_token": "t", **fields}), STANDARD)
    assert (found.expires_in, found.expires_at) == (expires_in, expires_at)


@pytest.mark.parametrize("field", ["expires_in", "expires"])
def test_zero_can_mean_never(field: str) -> None:
    spec = STANDARD.accepting(None, zero_means_never=True)
    assert read_token(json_response({"access_token": "t", field: 0}), spec).expires_in == MAX_SECONDS


@pytest.mark.parametrize(("value", "read"), [(1800, 1800), ("1800", 1800), (0, None), ("soon", None), (None, None)])
def test_an_invalid_refresh_in_is_ignored(value: object, read: float | None) -> None:
    assert read_token(bearer(refresh_in=value), STANDARD).refresh_in == read


@pytest.mark.parametrize("value", [1e15, 1e300, "1e300", 10**30])
def test_a_huge_refresh_in_is_still_a_duration(value: object) -> None:
    """P11: it can be added to a moment."""
    found = read_token(bearer(refresh_in=value), STANDARD).refresh_in
    assert found is None or NOW + timedelta(seconds=found) > NOW


def test_ext_expires_in_is_not_a_lifetime() -> None:
    assert read_token(json_response({"access_token": "t", "ext_expires_in": 9999}), STANDARD).expires_in is None


@pytest.mark.parametrize(
    ("granted", "read"),
    [
        ("b a", "a b"),
        ("a  a b", "a b"),
        (["b", "a"], "a b"),
        ("Users:Read", "Users:Read"),
        ("", None),
        (" ", None),
        (None, None),
        ([], None),
        ([1], None),
        (7, None),
        ({"a": 1}, None),
        ("ä", None),
        ("a\nb", None),
        ("x" * 20_000, None),
    ],
)
def test_a_granted_scope_is_text_or_a_list(granted: object, read: str | None) -> None:
    assert read_token(bearer(scope=granted), STANDARD).scope == read


def test_another_separator_of_granted_scope_items_can_be_named() -> None:
    assert read_token(bearer(scope="b,a, c"), replace(STANDARD, scope_separator=",")).scope == "a b c"


def test_the_date_of_a_response_is_the_providers_clock() -> None:
    response = HttpResponse(200, {"date": "Sun, 22 Nov 2026 12:05:00 GMT"}, b'{"access_token": "t"}')
    assert read_token(response, STANDARD).provider_now == NOW + timedelta(minutes=5)
    assert read_token(json_response({"access_token": "t"}, date="yesterday"), STANDARD).provider_now is None


def test_the_date_of_a_cached_response_is_no_clock() -> None:
    cached = json_response({"access_token": "t"}, date="Sun, 22 Nov 2026 12:05:00 GMT", age="3600")
    assert read_token(cached, STANDARD).provider_now is None


# ------------------------------------------------------------------ error codes
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, None),
        (None, None),
        ({"error": "invalid_client"}, "invalid_client"),
        ({"error": "INVALID_CLIENT "}, "invalid_client"),
        ({"error": ""}, None),
        ({"error": 7}, None),
        ({"error": None}, None),
        ({"error": "AADSTS7000215"}, "unrecognised"),
        ({"errors": [{"title": "x", "detail": "y", "code": "invalid_scope", "status": "400"}]}, "invalid_scope"),
        ({"errors": {"title": "x", "code": "invalid_scope"}}, "invalid_scope"),
        ({"errors": [{"error": "invalid_grant", "error-description": "x"}]}, "invalid_grant"),
        ({"errors": [{"error": "own"}, {"error": "invalid_grant"}]}, "invalid_grant"),
        ({"errors": ["invalid_request"]}, "invalid_request"),
        ({"errors": "invalid_request"}, "invalid_request"),
        ({"errors": [None, 7, []]}, None),
        ({"errors": []}, None),
        ({"status": "FAILED"}, "failed"),
        ({"status": "INVALID_CREDENTIALS"}, "invalid_credentials"),
        ({"status": "SUCCESS"}, None),
        ({"status": 401}, None),
        ({"error_description": "invalid_client"}, None),
    ],
)
def test_an_error_code_is_found_in_every_vendors_shape(body: dict[str, Any] | None, code: str | None) -> None:
    assert error_code(body, STANDARD) == code


@given(JSON.filter(lambda value: isinstance(value, dict)))
def test_an_error_code_is_known_unrecognised_or_none(body: dict[str, Any]) -> None:
    assert error_code({"errors": body, **body}, STANDARD) in {None, "unrecognised", *KNOWN_ERRORS}


# ------------------------------------------------------------------ dates and Retry-After
@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("Sun, 22 Nov 2026 12:00:00 GMT", NOW),
        ("Sun, 22 Nov 2026 13:00:00 +0100", NOW),
        ("Sunday, 22-Nov-26 12:00:00 GMT", NOW),
        ("Sun, 22 Nov 2026 12:00:00 -0000", NOW),
        ("", None),
        ("soon", None),
        ("Sun, 99 Nov 2026 12:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -0100", None),
    ],
)
def test_an_http_date_is_read_or_is_none(text: str, moment: datetime | None) -> None:
    assert http_date(text) == moment


@given(st.text(max_size=40) | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,2} Dec [0-9]{4} [0-9:]{8} [+-][0-9]{4}"))
def test_no_text_breaks_the_date_parser(text: str) -> None:
    moment = http_date(text)
    assert moment is None or moment.tzinfo is UTC
    waits = retry_after({"retry-after": text, "date": text}, NOW)
    assert waits is None or waits >= timedelta()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "60"}, 60),
        ({"retry-after": " 60 "}, 60),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "2.0"}, 2),
        ({"retry-after": "299.997"}, 300),
        ({"retry-after": "1.5"}, 2),
        ({"retry-after-ms": "1500"}, 2),
        ({"retry-after-ms": "0.5"}, 1),
        ({"retry-after": "7", "retry-after-ms": "1500"}, 7),
        ({"retry-after": "soon", "retry-after-ms": "1500"}, 2),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "٦٠"}, None),
        ({"retry-after": "9" * 30}, None),
        ({"retry-after": "Sun, 22 Nov 2026 12:02:00 GMT"}, 120),
        ({"retry-after": "Sun, 22 Nov 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "Sun, 22 Nov 2026 12:02:00 GMT", "date": "Sun, 22 Nov 2026 12:01:30 GMT"}, 30),
        ({"retry-after": "Sun, 22 Nov 2026 12:02:00 GMT", "date": "nonsense"}, 120),
        ({"retry-after": "Sun, 22 Nov 2026 12:02:00 GMT", "date": "Thu, 01 Jan 1970 00:00:00 GMT"}, 120),
        ({"retry-after": "Sun, 22 Nov 2026 12:02:00 GMT", "date": "Sun, 22 Nov 2026 11:59:00 GMT", "age": "9"}, 120),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    waits = retry_after(headers, NOW)
    assert (waits.total_seconds() if waits is not None else None) == seconds


# ------------------------------------------------------------------ JWTs
def test_the_expiry_of_a_jwt_is_read_without_verification() -> None:
    assert jwt_expiry(jwt(exp=NOW.timestamp())) == NOW


@pytest.mark.parametrize(
    "token",
    [
        "opaque",
        "a.b",
        "a.b.c",
        "a.b.c.d.e",
        "...",
        "ä.ö.ü",
        jwt(),
        jwt(exp=None),
        jwt(exp="1900000000"),
        jwt(exp=True),
        jwt(exp=[1]),
        jwt(exp=1e300),
        jwt(exp=-(10**30)),
        jwt(exp=float("nan")),
        jwt(exp=float("inf")),
        "e30.W10.c2ln",
        "e30." + "_" * 9 + ".c2ln",
    ],
)
def test_another_token_has_no_expiry_of_its_own(token: str) -> None:
    assert jwt_expiry(token) is None


@given(st.text(max_size=30) | JSON.map(lambda value: jwt(exp=value)))
def test_no_token_breaks_the_jwt_parser(token: str) -> None:
    end = jwt_expiry(token)
    assert end is None or end.tzinfo is UTC


# ------------------------------------------------------------------ as a provider's file describes it
@pytest.mark.parametrize(
    ("path", "body", "token"),
    [
        ("data.access_token", b'{"data": {"access_token": "t"}}', "t"),
        ("data.0.token", b'{"data": [{"token": "t"}]}', "t"),
        ("data.1.token", b'{"data": [{"token": "t"}]}', None),
        ("data.token", b'{"data": null}', None),
        ("data.token", b'{"data": "token"}', None),
        ("data.token", b'{"data.token": "t"}', None),
        ("", b'"t"', "t"),
        ("", b"t\r\n", "t"),
        ("", b"", None),
        ("", b'{"message": "no"}', None),
        ("", b"[1]", None),
        ("", b"<html>no</html>", None),
        ("", b'"t', None),
    ],
)
def test_a_token_stands_where_the_file_says(path: str, body: bytes, token: str | None) -> None:
    spec = replace(STANDARD, token=tuple(path.split(".")) if path else ())
    if token is None:
        with pytest.raises(UnusableResponse):
            read_token(raw(body), spec)
    else:
        assert read_token(raw(body), spec).access_token == token


@pytest.mark.parametrize(
    ("form", "value", "expires_in", "expires_at"),
    [
        ("seconds", 60, 60, None),
        ("seconds", "60", 60, None),
        ("ms", 60_000, 60, None),
        ("minutes", 30, 1800, None),
        ("minutes", 10**30, MAX_SECONDS, None),
        ("epoch", 1_800_000_000, None, datetime.fromtimestamp(1_800_000_000, UTC)),
        ("epoch_ms", 1_800_000_000_500, None, datetime.fromtimestamp(1_800_000_000.5, UTC)),
        ("epoch", 10**30, MAX_SECONDS, None),
        ("iso", "2026-11-22T13:00:00+01:00", None, NOW),
        ("iso", "2026-11-22T12:00:00", None, NOW),
        ("none", "junk", None, None),
        ("seconds", None, None, None),
        ("seconds", "", None, None),
        ("seconds", 0, 0, None),
    ],
)
def test_an_expiry_is_read_as_the_file_says(
    form: Any, value: Any, expires_in: float | None, expires_at: datetime | None
) -> None:
    path = () if form == "none" else ("data", "ttl")
    spec = replace(STANDARD, expiry=ExpirySpec(path, form))
    body = {"access_token": "t", "expires_in": 5, "data": {"ttl": value}}
    found = read_token(json_response(body), spec)
    assert (found.expires_in, found.expires_at) == (expires_in, expires_at)


@pytest.mark.parametrize(
    ("form", "value"),
    [("seconds", -1), ("seconds", "soon"), ("iso", 60), ("iso", "soon"), ("epoch", True), ("ms", [1])],
)
def test_an_expiry_of_another_form_is_unusable(form: Any, value: Any) -> None:
    spec = replace(STANDARD, expiry=ExpirySpec(("ttl",), form))
    with pytest.raises(UnusableResponse, match="ttl is not"):
        read_token(json_response({"access_token": "t", "ttl": value}), spec)


@pytest.mark.parametrize(
    ("wanted", "value", "succeeds"),
    [
        ("SUCCESS", "SUCCESS", True),
        ("SUCCESS", "success", False),
        (True, True, True),
        (True, 1, False),
        (True, "true", False),
        (1, True, False),
        (0, 0, True),
        (0, False, False),
        (0, None, False),
    ],
)
def test_success_is_a_value_of_its_own_type(wanted: Any, value: Any, succeeds: bool) -> None:
    spec = replace(STANDARD, success=(("meta", "ok"), wanted))
    response = json_response({"access_token": "t", "meta": {"ok": value}})
    if succeeds:
        assert read_token(response, spec).access_token == "t"
    else:
        with pytest.raises(UnusableResponse, match=r"meta\.ok is not"):
            read_token(response, spec)


ERRORS = {"401-07": "invalid_client", "7": "invalid_scope", "Later": "temporarily_unavailable"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"reply": {"codes": ["401-07"]}}, "invalid_client"),
        ({"reply": {"codes": [7]}}, "invalid_scope"),
        ({"error": "Later"}, "temporarily_unavailable"),
        ({"errors": [{"code": "401-07"}]}, "invalid_client"),
        ({"reply": {"codes": ["x"]}}, "unrecognised"),
        ({"reply": {"codes": [True]}}, None),
        ({"reply": {"codes": []}}, None),
        ({"reply": {"codes": ["x"]}, "error": "invalid_grant"}, "invalid_grant"),
    ],
)
def test_the_file_says_what_a_vendors_error_codes_mean(body: dict[str, Any], code: str | None) -> None:
    assert error_code(body, ResponseSpec(("t",), error=("reply", "codes", "0"), errors=ERRORS)) == code


def test_a_refresh_token_expires_at_the_earliest_of_what_is_known() -> None:
    body = {"access_token": "t", "tokens": {"refresh": jwt(exp=NOW.timestamp() + 500), "ttl": 300}}
    spec = replace(STANDARD, refresh_token=("tokens", "refresh"))
    assert read_token(json_response(body), spec).refresh_token_expires_at(NOW) == NOW + timedelta(seconds=500)
    spec = replace(spec, refresh_expiry=ExpirySpec(("tokens", "ttl"), "seconds"))
    assert read_token(json_response(body), spec).refresh_token_expires_at(NOW) == NOW + timedelta(seconds=300)
    assert read_token(json_response(body), replace(spec, refresh_token=None)).refresh_token is None


VENDOR = BaseUrlSpec(("urls", "api"), ("*.vendor.example", "api.other.example"))


@pytest.mark.parametrize(
    "url", ["https://eu.vendor.example", "https://a.b.VENDOR.example/v1/", "https://api.other.example"]
)
def test_a_response_can_name_a_base_url_at_a_host_of_the_file(url: str) -> None:
    response = json_response({"access_token": "t", "urls": {"api": url}})
    assert read_token(response, replace(STANDARD, base_url=VENDOR)).api_base_url == url


@pytest.mark.parametrize(
    "url",
    [
        None,
        7,
        "",
        "vendor.example",
        "http://eu.vendor.example",
        "https://vendor.example",
        "https://evilvendor.example",
        "https://eu.vendor.example.evil.example",
        "https://evil.example/eu.vendor.example",
        "https://eu.vendor.example:8443",
        "https://eu.vendor.example:443",
        "https://eu.vendor.example:",
        "https://user@eu.vendor.example",
        "https://evil.example#.vendor.example",
        "https://evil.example?.vendor.example",
        "https://evil.example\\.vendor.example",
        "https://eu..vendor.example",
        "https://.vendor.example",
        "https://eu.vendor.example.",
        "https://b.api.other.example",
        "https://eu%2evendor.example",
        "https://\u0435u.vendor.example",
    ],
)
def test_a_response_cannot_steer_callers_to_another_host(url: Any) -> None:
    response = json_response({"access_token": "t", "urls": {"api": url}})
    with pytest.raises(UnusableResponse, match=r"^urls\.api "):
        read_token(response, replace(STANDARD, base_url=VENDOR))

"""How a consent is obtained: authorization URL, redirect, code exchange, account, device flow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.grant_requests import CATALOGUE, NOW, basic, bearer, connection, form, json_response, jwt, run
from token_broker.core.credentials import Secret, parse_credentials
from token_broker.core.providers import AccountSpec, ConsentSpec
from token_broker.core.templates import parse_template, parse_url_template
from token_broker.errors import InvalidRequest
from token_broker.oauth.consents import (
    ConsentFlow,
    ConsentRequest,
    Redirect,
    begin_device,
    check_kept,
    code_challenge,
    exchange_code,
    expected_iss,
    is_issuer,
    loopback_uri,
    poll_device,
    read_redirect,
    redirect_pairs,
)
from token_broker.oauth.exchange import HttpResponse, OutcomeUnknown, Unreachable
from token_broker.oauth.grants import GrantFailed
from token_broker.oauth.requests import authorize_url, grant_request_for

REDIRECT_URI = "https://shop.example.com/consent"
STATE = "s" * 43
KEEP = {"realmId": re.compile("[0-9]{1,20}")}
SPEC = ConsentSpec(
    authorize_url=parse_url_template("https://login.example.com/authorize"),
    query={
        name: parse_template(value)
        for name, value in {
            "response_type": "code",
            "client_id": "{secret:client_id}",
            "redirect_uri": "{redirect_uri}",
            "scope": "{scope}",
            "state": "{state}",
            "code_challenge": "{code_challenge}",
            "code_challenge_method": "S256",
            "access_type": "offline",
        }.items()
    },
    exchange_url=None,
    fields={
        name: parse_template(value)
        for name, value in {
            "grant_type": "authorization_code",
            "code": "{code}",
            "redirect_uri": "{redirect_uri}",
            "code_verifier": "{code_verifier}",
        }.items()
    },
    code_param="code",
    pkce=True,
    loopback=False,
    keep={},
    replaces=False,
    account=None,
    device_url=parse_url_template("https://login.example.com/device"),
)
RESPONSE = CATALOGUE["oauth2"].response
GRANTED = bearer("tok-1", refresh_token="r-1")


def consent(spec: ConsentSpec = SPEC, scope: str = "read", **kept: str) -> ConsentRequest:
    found = connection("oauth2")
    credentials = parse_credentials(
        found.name, found.provider, Secret('{"client_id": "me", "client_secret": "x"}', "v1")
    )
    return ConsentRequest(found, credentials, grant_request_for(found, credentials, scope, NOW), spec, kept)


def exchange(spec: ConsentSpec = SPEC, **kept: str) -> ConsentFlow:
    return exchange_code(consent(spec, **kept), code="c-1", redirect_uri=REDIRECT_URI, verifier="v" * 43)


def accounted(source: Any, *path: str) -> ConsentSpec:
    url = parse_url_template("https://api.example.com/me?fields=id") if source == "get" else None
    return replace(SPEC, account=AccountSpec(source, path, url), keep=KEEP)


def reasons(error: pytest.ExceptionInfo[InvalidRequest]) -> dict[str, str]:
    return {fault.field: fault.reason for fault in error.value.errors}


# ------------------------------------------------------------------ the authorization URL
def test_the_browser_gets_the_fields_of_the_rfc_and_of_the_file_and_no_secret() -> None:
    more = {"redirect_uri": REDIRECT_URI, "state": STATE, "code_challenge": code_challenge("v" * 43)}
    url = authorize_url(consent(scope="a b").request, SPEC, **more)
    assert url.startswith("https://login.example.com/authorize?")
    assert dict(parse_qsl(urlsplit(url).query, strict_parsing=True)) == {
        "response_type": "code",
        "client_id": "me",
        "redirect_uri": REDIRECT_URI,
        "scope": "a b",
        "state": STATE,
        "code_challenge": code_challenge("v" * 43),
        "code_challenge_method": "S256",
        "access_type": "offline",
    }


def test_the_authorization_endpoint_may_have_a_query_of_its_own() -> None:
    spec = replace(SPEC, authorize_url=parse_url_template("https://login.example.com/authorize?p=policy"), query={})
    spec = replace(spec, query={"state": parse_template("{state}")})
    assert authorize_url(consent().request, spec, state="s") == "https://login.example.com/authorize?p=policy&state=s"


def test_the_challenge_is_that_of_the_rfc() -> None:
    # RFC 7636 appendix B
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert code_challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1/", "http://127.0.0.1:65535", "http://[::1]:8765/consent/back"])
def test_a_loopback_redirect_is_an_address_with_a_port(uri: str) -> None:
    assert loopback_uri(uri) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "https://127.0.0.1:8765/",
        "http://127.0.0.1/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:65536/",
        "http://127.0.0.1:8765@evil.example/",
        "http://127.0.0.1:8765.evil.example/",
        "http://127.0.0.1.evil.example:8765/",
        "http://localhost:8765/",
        "http://127.0.0.1:8765/?code=x",
        "http://127.0.0.1:8765/#x",
        "http://127.0.0.1:8765/\n",
        "",
    ],
)
def test_any_other_one_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        loopback_uri(uri)


# ------------------------------------------------------------------ the redirect that comes back
def test_a_redirect_brings_state_code_issuer_and_what_the_file_keeps() -> None:
    url = f"{REDIRECT_URI}?code=4%2F0a+b&state={STATE}&realmId=123&iss=https%3A%2F%2Flogin.example.com&hl=en"
    found = read_redirect(redirect_pairs(url, REDIRECT_URI), replace(SPEC, keep=KEEP), RESPONSE)
    assert found == Redirect(STATE, "https://login.example.com", "4/0a+b", None, {"realmId": "123"})


def test_the_code_can_have_another_name() -> None:
    spec = replace(SPEC, code_param="spapi_oauth_code")
    assert read_redirect([("spapi_oauth_code", "c"), ("state", STATE), ("code", "x")], spec, RESPONSE).code == "c"


@pytest.mark.parametrize(
    ("error", "known"), [("access_denied", "access_denied"), ("<script>", "unrecognised"), ("", "unrecognised")]
)
def test_an_error_is_one_of_a_fixed_list_and_brings_nothing_else(error: str, known: str) -> None:
    pairs = [("error", error), ("error_description", "text"), ("state", STATE), ("code", "c"), ("realmId", "1")]
    assert read_redirect(pairs, replace(SPEC, keep=KEEP), RESPONSE) == Redirect(STATE, None, None, known, {})


@pytest.mark.parametrize(
    ("query", "faults"),
    [
        ("", {"state": "is not one of this broker", "code": "is not a code", "realmId": "is missing"}),
        (f"state={STATE}&state={STATE}&code=c&realmId=1", {"state": "is given more than once"}),
        (f"state={STATE}&code=c&code=d&realmId=1", {"code": "is given more than once"}),
        (f"state={STATE}&code=c&realmId=1&realmId=2", {"realmId": "is given more than once"}),
        (f"state={STATE}&code=c&realmId=1&iss=a&iss=b", {"iss": "is given more than once"}),
        (f"state={STATE}&error=a&error=b", {"error": "is given more than once"}),
        (f"state={STATE}x&code=c&realmId=1", {"state": "is not one of this broker"}),
        (f"state={STATE}&code=&realmId=1", {"code": "is not a code"}),
        (f"state={STATE}&code=c%0d%0ax&realmId=1", {"code": "is not a code"}),
        (f"state={STATE}&code=c%C3%A9&realmId=1", {"code": "is not a code"}),
        (f"state={STATE}&code={'c' * 4097}&realmId=1", {"code": "is not a code"}),
        (f"state={STATE}&code=c&realmId=", {"realmId": "is missing"}),
        (
            f"state={STATE}&code=c&realmId=1.evil.example",
            {"realmId": "is not of the form that the provider's file says"},
        ),
        (f"state={STATE}&code=c&realmId=1%0a", {"realmId": "is not of the form that the provider's file says"}),
    ],
)
def test_a_malformed_redirect_is_refused_with_every_fault(query: str, faults: Mapping[str, str]) -> None:
    pairs = redirect_pairs(f"{REDIRECT_URI}?{query}", REDIRECT_URI)
    with pytest.raises(InvalidRequest) as error:
        read_redirect(pairs, replace(SPEC, keep=KEEP), RESPONSE)
    assert reasons(error) == faults


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/consent?code=c",
        "https://shop.example.com.evil.example/consent?code=c",
        "https://shop.example.com@evil.example/consent?code=c",
        "https://shop.example.com:8443/consent?code=c",
        "https://shop.example.com/other?code=c",
        "http://shop.example.com/consent?code=c",
        "//shop.example.com/consent?code=c",
        "?code=c",
        "",
        "https://[/consent",
        "javascript:alert(1)",
        f"{REDIRECT_URI}?code=c\r\nx",
        f"{REDIRECT_URI}?code=" + "c" * 8192,
    ],
)
def test_a_url_that_does_not_go_to_the_redirect_uri_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        redirect_pairs(url, REDIRECT_URI)
    assert list(reasons(error)) == ["redirect_url"]


NAMES = st.sampled_from(["state", "code", "iss", "error", "realmId", "other"])
VALUES = st.text(max_size=60) | st.sampled_from([STATE, "c-1", "123", "access_denied"])


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_a_hostile_redirect_is_refused_without_an_echo_or_read_as_the_file_says(pairs: list[tuple[str, str]]) -> None:
    try:
        found = read_redirect(pairs, replace(SPEC, keep=KEEP), RESPONSE)
    except InvalidRequest as error:
        told = " ".join([error.detail, *map(str, error.errors)])
        assert not [value for _, value in pairs if len(value) > 3 and value not in NAMES_IN_TEXTS and value in told]
        return
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", found.state)
    assert (found.code is None) == (found.error is not None)
    assert found.code is None or re.fullmatch(r"[\x20-\x7e]+", found.code)
    assert found.error in (None, "access_denied", "unrecognised") or found.error in RESPONSE_ERRORS
    assert set(found.kept) == ({"realmId"} if found.error is None else set())
    assert all(re.fullmatch("[0-9]{1,20}", value) for value in found.kept.values())
    for name in ("state", "iss"):
        assert [value for given_name, value in pairs if given_name == name] in ([getattr(found, name)], [])


NAMES_IN_TEXTS = frozenset({"state", "code", "realmId"})
RESPONSE_ERRORS = frozenset({"failed", "slow_down"})


@given(st.text(max_size=200))
def test_no_text_is_read_as_a_redirect_to_another_place(text: str) -> None:
    try:
        pairs = redirect_pairs(text, REDIRECT_URI)
    except InvalidRequest:
        return
    assert urlsplit(text).hostname == "shop.example.com", pairs


@pytest.mark.parametrize(
    ("kept", "options", "faults"),
    [
        ({"shop": "mine"}, {"shop": "mine"}, []),
        ({"shop": "mine"}, {}, []),
        ({"shop": "mine"}, {"shop": None, "other": "x"}, []),
        ({"shop": "evil"}, {"shop": "mine"}, ["shop"]),
        ({"shop": "evil", "realmId": "1"}, {"shop": "mine", "realmId": 2}, ["shop", "realmId"]),
        ({"shop_id": "37872"}, {"shop_id": 37872}, []),
    ],
)
def test_a_kept_value_equals_the_setting_of_its_name(
    kept: Mapping[str, str], options: Mapping[str, Any], faults: list[str]
) -> None:
    found: list[str] = []
    try:
        check_kept(kept, options)
    except InvalidRequest as error:
        found = [fault.field for fault in error.errors]
    assert found == faults


@pytest.mark.parametrize(
    ("iss", "expected", "accepted"),
    [
        (None, "https://login.example.com", True),
        ("https://login.example.com", "https://login.example.com", True),
        ("https://login.example.com/realms/a", "https://login.example.com", True),
        ("https://LOGIN.example.com/", "https://login.example.com", True),
        ("https://evil.example", "https://login.example.com", False),
        ("https://login.example.com.evil.example", "https://login.example.com", False),
        ("https://login.example.com:444", "https://login.example.com", False),
        ("http://login.example.com", "https://login.example.com", False),
        ("https://login.example.com/realms/a", "https://login.example.com/realms/a", True),
        ("https://login.example.com/realms/b", "https://login.example.com/realms/a", False),
        ("https://[", "https://login.example.com", False),
        ("", "https://login.example.com", False),
        ("", "", False),
    ],
)
def test_an_issuer_that_is_sent_is_the_expected_one(iss: str | None, expected: str, accepted: bool) -> None:
    assert is_issuer(iss, expected) is accepted


def test_the_expected_issuer_is_the_files_or_the_origin_of_the_authorization_endpoint() -> None:
    assert expected_iss(SPEC, {}) == "https://login.example.com"
    named = replace(SPEC, issuer=parse_url_template("https://issuer.example.com/{tenant}"))
    assert expected_iss(named, {"tenant": "a"}) == "https://issuer.example.com/a"


# ------------------------------------------------------------------ the code's exchange
def test_the_code_is_exchanged_with_its_verifier_as_the_client_authenticates() -> None:
    ran = run(exchange(), GRANTED)
    (request,) = ran.requests
    assert (request.method, request.url) == ("POST", "https://auth.example.com/token")
    assert dict(form(request)) == {
        "grant_type": "authorization_code",
        "code": "c-1",
        "redirect_uri": REDIRECT_URI,
        "code_verifier": "v" * 43,
    }
    assert basic(request) == b"me:x"
    assert ran.issued is not None
    assert (ran.issued.refresh_token, ran.issued.account) == ("r-1", None)


def test_the_code_can_be_exchanged_elsewhere_than_tokens_are_requested() -> None:
    spec = replace(SPEC, exchange_url=parse_url_template("https://auth.example.com/exchange"))
    assert next(exchange(spec)).url == "https://auth.example.com/exchange"


@pytest.mark.parametrize(
    ("response", "detail"),
    [
        (bearer("tok-1"), "no refresh token"),
        (bearer("tok-1", refresh_token="r-1", id_token=jwt(aud="other")), "for another client"),
        (bearer("tok-1", refresh_token="r-1", id_token=jwt(aud=["other", 1])), "for another client"),
        (json_response({"error": "invalid_grant"}, 400), "refused"),
        (json_response([]), "not a JSON object"),
        (OutcomeUnknown("cut"), "did not answer"),
        (Unreachable("nobody"), "cannot be reached"),
    ],
)
def test_what_brings_no_refresh_token_is_a_failure(response: HttpResponse, detail: str) -> None:
    ran = run(exchange(), response)
    assert detail in ran.failure.detail


# ------------------------------------------------------------------ the account
@pytest.mark.parametrize(
    ("spec", "body", "account"),
    [
        (accounted("response", "user", "id"), {"user": {"id": "u-1"}}, "u-1"),
        (accounted("response", "user_id"), {"user_id": 1234}, "1234"),
        (accounted("response", "user_id"), {"user_id": True}, None),
        (accounted("response", "user_id"), {"user_id": ["u-1"]}, None),
        (accounted("response", "user_id"), {"user_id": "a b"}, None),
        (accounted("response", "user_id"), {"user_id": "u\n"}, None),
        (accounted("response", "user_id"), {"user_id": "u" * 201}, None),
        (accounted("response", "user_id"), {}, None),
        (accounted("id_token", "sub"), {"id_token": jwt(sub="s-1", aud="me")}, "s-1"),
        (accounted("id_token", "sub"), {"id_token": jwt(sub="s-1", aud=["x", "me"])}, "s-1"),
        (accounted("id_token", "sub"), {"id_token": "no.jwt.here"}, None),
        (accounted("id_token", "sub"), {"id_token": 7}, None),
        (accounted("id_token", "sub"), {}, None),
        (accounted("redirect", "realmId"), {}, "42"),
    ],
)
def test_the_account_is_read_where_the_file_says(
    spec: ConsentSpec, body: Mapping[str, Any], account: str | None
) -> None:
    ran = run(exchange(spec, realmId="42"), bearer("tok-1", refresh_token="r-1", **body))
    assert ran.issued is not None
    assert ran.issued.account == account


@pytest.mark.parametrize(
    ("response", "account"),
    [
        (json_response([{"tenantId": "t-1"}]), "t-1"),
        (json_response([]), None),
        (json_response([{"tenantId": "t-1"}], 403), None),
        (HttpResponse(200, {}, b"<html>"), None),
        (OutcomeUnknown("cut"), None),
        (Unreachable("nobody"), None),
    ],
)
def test_the_account_can_be_asked_for_with_the_token(response: HttpResponse, account: str | None) -> None:
    ran = run(exchange(accounted("get", "0", "tenantId")), GRANTED, response)
    request = ran.requests[1]
    assert (request.method, request.url, request.query) == ("GET", "https://api.example.com/me", (("fields", "id"),))
    assert request.headers["Authorization"] == "Bearer tok-1"
    assert ran.issued is not None
    assert (ran.issued.refresh_token, ran.issued.account) == ("r-1", account)


# ------------------------------------------------------------------ the device flow
DEVICE = {
    "device_code": "d-1",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://login.example.com/device",
    "verification_uri_complete": "https://login.example.com/device?user_code=WDJB-MJHT",
    "expires_in": 600,
}


def test_a_device_authorization_is_requested_as_the_client_and_read() -> None:
    flow = begin_device(consent().request, SPEC, insecure_urls=False)
    request = next(flow)
    assert (request.method, request.url) == ("POST", "https://login.example.com/device")
    assert dict(form(request)) == {"client_id": "me", "scope": "read"}
    with pytest.raises(StopIteration) as done:
        flow.send(json_response(DEVICE))
    found = done.value.value
    assert (found.device_code, found.user_code) == ("d-1", "WDJB-MJHT")
    assert (found.lifetime, found.interval) == (timedelta(minutes=10), timedelta(seconds=5))
    assert "d-1" not in repr(found)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"device_code": None}, "device_code"),
        ({"device_code": "d\n"}, "device_code"),
        ({"user_code": ""}, "user_code"),
        ({"user_code": "<b>call 0900-1</b>"}, "user_code"),
        ({"verification_uri": "http://login.example.com/device"}, "https"),
        ({"verification_uri": "javascript:alert(1)"}, "https"),
        ({"verification_uri": None}, "must be a string"),
        ({"verification_uri_complete": "javascript:alert(1)"}, "https"),
        ({"verification_uri_complete": ["x"]}, "verification_uri_complete"),
        ({"expires_in": 0}, "expires_in"),
        ({"expires_in": None}, "expires_in"),
        ({"interval": "5"}, "interval"),
    ],
)
def test_a_device_authorization_that_cannot_be_shown_is_refused(change: Mapping[str, Any], reason: str) -> None:
    flow = begin_device(consent().request, SPEC, insecure_urls=False)
    next(flow)
    with pytest.raises(GrantFailed, match=reason):
        flow.send(json_response({**DEVICE, **change}))


@pytest.mark.parametrize("status", [400, 401, 503])
def test_a_refused_device_authorization_is_a_failure(status: int) -> None:
    flow = begin_device(consent().request, SPEC, insecure_urls=False)
    next(flow)
    with pytest.raises(GrantFailed):
        flow.send(json_response({"error": "invalid_client"}, status))


@pytest.mark.parametrize("error", ["authorization_pending", "slow_down", "expired_token", "access_denied"])
def test_a_poll_says_whether_to_ask_again(error: str) -> None:
    ran = run(poll_device(consent(), device_code="d-1"), json_response({"error": error}, 400))
    (request,) = ran.requests
    assert dict(form(request)) == {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": "d-1",
        "client_id": "me",
    }
    assert ran.failure.provider_error == error


def test_an_approved_device_brings_a_refresh_token() -> None:
    ran = run(poll_device(consent(), device_code="d-1"), GRANTED)
    assert ran.issued is not None
    assert ran.issued.refresh_token == "r-1"


def test_nothing_that_was_read_prints_a_secret() -> None:
    ran = run(exchange(), GRANTED)
    printed = repr([ran.issued, ran.requests, Redirect(STATE, None, "c-1", None)])
    assert not [secret for secret in ("tok-1", "r-1", "c-1", STATE) if secret in printed]

"""Settings as they are PUT: which are valid, and that one error names every fault."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.certificates import Certificate
from tests.unit.grant_requests import CATALOGUE, SETTINGS, connection
from token_broker.core.callers import Caller
from token_broker.core.connections import COMMON_SETTINGS, Connection, parse_connection
from token_broker.core.names import ConnectionName
from token_broker.core.validation import OAUTH_FIELDS
from token_broker.errors import BrokerError, CallerNotAllowed, InvalidRequest, ScopeNotAllowed

SLUGS = sorted(CATALOGUE)
CA = Certificate()
LEAF = Certificate("server", CA, hosts=("vendor.example",), is_ca=False)
SHOP = "arn:aws:iam::123456789012:role/shop"


def pem_of(base64: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n"


def faults(slug: str, **settings: Any) -> dict[str, str]:
    """Field and reason of every fault; {} if the settings are valid."""
    try:
        connection(slug, **settings)
    except InvalidRequest as error:
        return {fault.field: fault.reason for fault in error.errors}
    return {}


# ------------------------------------------------------------------ settings of every connection
@pytest.mark.parametrize("slug", SLUGS)
def test_the_required_settings_of_each_provider_are_enough(slug: str) -> None:
    found = connection(slug)
    assert (found.keep_warm, found.suspended, found.issue_revokes_previous) == ("used", False, False)
    assert (found.denied_callers, found.lifetime_s, found.api_base_url) == ((), None, None)
    assert (found.network.private, found.network.ca_bundle) == (False, None)
    assert found.client_auth == CATALOGUE[slug].request.client_auth
    assert found.version == "1"


@pytest.mark.parametrize("slug", SLUGS)
def test_null_means_left_out(slug: str) -> None:
    known = {spec.name for spec in COMMON_SETTINGS} | {spec.name for spec in CATALOGUE[slug].settings}
    optional = known - {"allowed_callers", *SETTINGS[slug]}
    nulled = connection(slug, **dict.fromkeys(optional))
    assert (nulled.options, nulled.scope) == (connection(slug).options, connection(slug).scope)


def test_all_faults_are_named_at_once() -> None:
    found = faults(
        "ucommerce",
        allowed_callers=["nobody"],
        denied_callers="*",
        base_url="http://store.example.com",
        redirect_uri="/signed-in",
        scope="a  b",
        allowed_scopes=["a b"],
        lifetime_s=0,
        keep_warm="sometimes",
        suspended="yes",
        credentials_expire_at="2027-01-31",
        api_base_url="ftp://x",
        client_auth="digest",
        issue_revokes_previous=1,
        private_network="true",
        ca_bundle="none",
        client_secret="the-secret",
    )
    assert set(found) == {
        *("allowed_callers", "denied_callers", "base_url", "redirect_uri", "scope", "allowed_scopes", "lifetime_s"),
        *("keep_warm", "suspended", "credentials_expire_at", "api_base_url", "client_auth", "issue_revokes_previous"),
        *("private_network", "ca_bundle", "client_secret"),
    }
    assert "the-secret" not in repr(found)


@pytest.mark.parametrize("slug", SLUGS)
def test_missing_required_settings_are_named(slug: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_connection(ConnectionName(slug, "main"), CATALOGUE[slug], {})
    required = {spec.name for spec in CATALOGUE[slug].settings if spec.required}
    required |= {"scope"} if CATALOGUE[slug].scope.required else set()
    assert {fault.field for fault in caught.value.errors} == required | {"allowed_callers"}


@pytest.mark.parametrize("settings", [None, [], "x", 7, True])
def test_settings_are_an_object(settings: object) -> None:
    with pytest.raises(InvalidRequest):
        parse_connection(ConnectionName("unidy", "main"), CATALOGUE["unidy"], settings)


@given(
    st.dictionaries(
        st.sampled_from([spec.name for spec in COMMON_SETTINGS] + ["base_url", "redirect_uri", "params", "token_url"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.lists(st.text(max_size=9)),
        max_size=6,
    ),
    st.sampled_from(SLUGS),
)
def test_settings_are_valid_or_an_invalid_request(settings: dict[str, Any], slug: str) -> None:
    assert all(faults(slug, **settings).values())


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("lifetime_s", [1, 2_592_000], [0, -1, 2_592_001, 1.5, "60", True]),
        ("keep_warm", ["used", "always", "never"], ["", "Used", True]),
        ("suspended", [True, False], ["true", 0, 1]),
        ("issue_revokes_previous", [True], ["true", 1]),
        ("private_network", [True], ["true", 1]),
        ("allowed_callers", [["*"], [SHOP], []], ["*", [None], ["shop"], [SHOP, "x"], {"a": 1}]),
        ("scope", ["a", "b a"], ["", " ", "a  b", "ä", 7, ["a"]]),
        ("allowed_scopes", [["*"], [], ["a", "b"]], ["a", [""], ["a b"], [7], ["ä"]]),
        ("credentials_expire_at", ["2027-01-31T00:00:00Z", "2027-01-31T00:00:00+01:00"], ["2027-01-31", "soon", 7]),
        ("client_auth", ["basic", "basic-raw", "form", "json", "none"], ["Basic", "", "private_key_jwt"]),
        (
            "ca_bundle",
            [CA.pem, CA.pem * 2, CA.pem + Certificate().pem, f"# My CA\r\n{CA.pem}".replace("\n", "\r\n"), LEAF.pem],
            [
                *("", "x", 7, CA.pem * 200, CA.pem.replace("\n", ""), CA.pem[:-30], CA.pem + CA.pem[:200]),
                *(f"{character}\n{CA.pem}" for character in ("\x00", "\x1b[31m", "\x7f", "\ud800", "\u00e4", "\u2028")),
                *(CA.pem + pem_of(der) for der in ("", "MAMCAQE=", "!", "MIIBszCCAVmgAwIBAgIUdummy")),
                CA.pem + CA.key_pem,
            ],
        ),
        ("api_base_url", ["https://api.example.com/v1"], ["api.example.com", "http://api.example.com"]),
    ],
)
def test_each_setting_has_its_bounds(name: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert faults("oauth2", **{name: value}) == {}
    for value in bad:
        assert set(faults("oauth2", **{name: value})) == {name}


def test_lifetimes_are_durations() -> None:
    assert connection("unicommerce").default_lifetime == timedelta(hours=20)
    assert connection("unicommerce").lifetime_cap is None
    assert connection("unicommerce", lifetime_s=60).default_lifetime == timedelta(minutes=1)
    assert connection("unidy", lifetime_s=60).lifetime_cap == timedelta(minutes=1)
    assert connection("unidy").default_lifetime is None


def test_the_expiry_of_the_credentials_is_a_moment() -> None:
    found = connection("unidy", credentials_expire_at="2027-01-31T00:00:00Z")
    assert found.credentials_expire_at == datetime(2027, 1, 31, tzinfo=UTC)


def test_the_help_names_every_setting_that_is_read() -> None:
    known = {spec.name for spec in COMMON_SETTINGS}
    assert faults("oauth2", **dict.fromkeys(known - {"allowed_callers"})) == {}
    assert len(known) == len(COMMON_SETTINGS)


def test_no_repr_shows_the_settings() -> None:
    assert "audience-1" not in repr(connection("oauth2", params={"audience": "audience-1"}, ca_bundle=CA.pem))


# ------------------------------------------------------------------ URLs
@pytest.mark.parametrize(
    "url",
    [
        "",
        "id.example.com",
        "//id.example.com",
        "http://id.example.com",
        "ftp://id.example.com",
        "https:///oauth",
        "https://",
        "https://user@id.example.com",
        "https://user:pw@id.example.com",
        "https://@id.example.com",
        "https://id.example.com?a=1",
        "https://id.example.com/?",
        "https://id.example.com/#a",
        "https://id.example.com/a b",
        "https://id.example.com/\n",
        "https://id.example.com/{x}",
        "https://id.example.com\\@evil.example",
        "https://id.example.com:0",
        "https://id.example.com:99999",
        "https://id.example.com:x",
        "https://[::1",
        "https://ïd.example.com",
        "https://id.example.com/" + "x" * 2048,
        7,
        None,
    ],
)
def test_an_invalid_url_is_a_fault(url: object) -> None:
    assert set(faults("unidy", base_url=url)) == {"base_url"}


@pytest.mark.parametrize(
    ("given_url", "token_url"),
    [
        ("https://id.example.com", "https://id.example.com/oauth/token"),
        ("https://id.example.com/", "https://id.example.com/oauth/token"),
        ("https://id.example.com/a/b", "https://id.example.com/a/b/oauth/token"),
        ("https://id.example.com:8443/a/", "https://id.example.com:8443/a/oauth/token"),
        ("https://203.0.113.9", "https://203.0.113.9/oauth/token"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443/oauth/token"),
    ],
)
def test_a_base_url_keeps_its_prefix_and_loses_a_trailing_slash(given_url: str, token_url: str) -> None:
    assert connection("unidy", base_url=given_url).endpoints.token == token_url


def test_a_token_url_is_used_as_it_was_written() -> None:
    """Django OAuth Toolkit serves /o/token/, and answers /o/token with a redirect."""
    found = connection("oauth2", token_url="https://id.example.com/o/token/", revocation_url=None)
    assert found.endpoints.token == "https://id.example.com/o/token/"


@pytest.mark.parametrize("query", ["?p=B2C_1_policy", "?api-version=2.0&a=", "?"])
def test_a_whole_endpoint_may_have_a_query(query: str) -> None:
    url = f"https://id.example.com/token{query}"
    assert connection("oauth2", token_url=url).endpoints.token == url
    assert set(faults("oauth2", api_base_url=url)) == {"api_base_url"}


@pytest.mark.parametrize(
    "name",
    [*sorted(OAUTH_FIELDS), "CLIENT_SECRET", "client-secret", "apiKey", "api_key", "key", "sig", "X-Amz-Signature"],
)
def test_a_query_holds_nothing_that_is_named_like_a_credential(name: str) -> None:
    found = faults("oauth2", token_url=f"https://id.example.com/token?p=x&{name}=the-value")
    assert set(found) == {"token_url"}
    assert "the-value" not in repr(found)


def test_http_is_allowed_on_the_local_stack_only() -> None:
    settings = {"allowed_callers": ["*"], "token_url": "http://127.0.0.1:4600/x/token"}
    name = ConnectionName("unified-services", "main")
    provider = CATALOGUE["unified-services"]
    assert parse_connection(name, provider, settings, insecure_urls=True).endpoints.token == settings["token_url"]
    with pytest.raises(InvalidRequest):
        parse_connection(name, provider, settings)


@pytest.mark.parametrize(
    ("slug", "token", "connect", "revocation"),
    [
        ("unified-services", "https://login.example.com/tenant/oauth2/v2.0/token", None, None),
        ("unicommerce", "https://market.example.com/uni/authToken", None, None),
        (
            "commerce-layer",
            "https://auth.commercelayer.io/oauth/token",
            None,
            "https://auth.commercelayer.io/oauth/revoke",
        ),
        (
            "ucommerce",
            "https://store.example.com/shop/api/v1/oauth/token",
            "https://store.example.com/shop/api/v1/oauth/connect",
            None,
        ),
        ("unidy", "https://id.example.com/prefix/oauth/token", None, "https://id.example.com/prefix/oauth/revoke"),
        ("oauth2", "https://auth.example.com/token", None, "https://auth.example.com/revoke"),
    ],
)
def test_the_endpoints_of_each_provider(slug: str, token: str, connect: str | None, revocation: str | None) -> None:
    found = connection(slug).endpoints
    assert (found.token, found.connect, found.revocation) == (token, connect, revocation)


# ------------------------------------------------------------------ settings of single providers
@pytest.mark.parametrize("uri", ["https://shop.example.com/cb?x=1", "http://localhost/cb", "shop.app://signed-in"])
def test_a_redirect_uri_may_be_any_absolute_one(uri: str) -> None:
    assert faults("ucommerce", redirect_uri=uri) == {}


@pytest.mark.parametrize("uri", ["", "/cb", "shop.example.com/cb", "https://x.example.com/#x", "https://a b", "x:"])
def test_a_redirect_uri_is_absolute_without_fragment(uri: str) -> None:
    assert set(faults("ucommerce", redirect_uri=uri)) == {"redirect_uri"}


@pytest.mark.parametrize("name", [*sorted(OAUTH_FIELDS - {"grant_type"}), "Client_Id", "SCOPE", "Grant_Type"])
def test_oauth_fields_cannot_be_extra_parameters(name: str) -> None:
    assert set(faults("oauth2", params={name: "x"})) == {"params"}


@pytest.mark.parametrize(
    "params",
    [
        {"audience": "https://api"},
        {"resource": "urn:x", "tenant": "é"},
        {},
        {"a": 1, "b": 1.5, "c": True, "d": ""},
        {"resource": ["urn:x", "urn:y"]},
        {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange"},
        {"grant_type": "account_credentials", "account_id": 12},
    ],
)
def test_other_fields_can_be_extra_parameters(params: dict[str, Any]) -> None:
    assert connection("oauth2", params=params).options["params"] == params


@pytest.mark.parametrize(
    "params",
    [
        *(
            {"a": None},
            {"a": []},
            {"a": [["x"]]},
            {"a": {}},
            {"a": 10**400},
            {"a": float("nan")},
            {"": "x"},
            ["a"],
            "a",
        ),
        *({"grant_type": value} for value in ("authorization_code", "refresh_token", "password", "", 7, ["x"])),
        {"a": "\ud800"},
        {f"p{n}": "x" for n in range(21)},
    ],
)
def test_extra_parameters_are_a_few_values_that_can_be_sent(params: object) -> None:
    assert set(faults("oauth2", params=params)) == {"params"}


def test_a_setting_of_another_provider_is_unknown() -> None:
    assert faults("unidy", redirect_uri="https://x.example.com") == {"redirect_uri": "is not a known field"}


@pytest.mark.parametrize(
    ("settings", "at_fault"),
    [
        ({"client_id_in_body": True}, set()),
        ({"client_id_in_body": True, "client_auth": "basic-raw"}, set()),
        ({"client_id_in_body": True, "client_auth": "form"}, {"client_id_in_body"}),
        ({"client_id_in_body": False, "client_auth": "form"}, set()),
        ({"client_id_in_body": "yes"}, {"client_id_in_body"}),
        ({"token_type": "JWT", "zero_means_never": True}, set()),
        ({"client_id_in_body": True, "client_auth": "none"}, {"client_id_in_body"}),
        ({"token_type": "", "zero_means_never": 1}, {"token_type", "zero_means_never"}),
    ],
)
def test_settings_of_a_standard_server(settings: dict[str, Any], at_fault: set[str]) -> None:
    assert set(faults("oauth2", **settings)) == at_fault


@pytest.mark.parametrize("settings", [{"client_auth": "basic"}, {"client_id_in_body": True}, {"token_type": "JWT"}])
def test_a_login_has_no_client_authentication_and_no_token_type_to_choose(settings: dict[str, Any]) -> None:
    assert faults("unicommerce", **settings).keys() == settings.keys()


@pytest.mark.parametrize("scope", ["market:id:a", "market:code:eu stock_location:id:b", "store:id:x", "market:all"])
def test_a_valid_scope_of_commerce_layer(scope: str) -> None:
    assert faults("commerce-layer", scope=scope) == {}


@pytest.mark.parametrize("scope", ["market:id:a,market:id:b", "market", "market:id:", "shop:id:a", "market:id:a users"])
def test_an_invalid_scope_of_commerce_layer(scope: str) -> None:
    assert set(faults("commerce-layer", scope=scope)) == {"scope"}


# ------------------------------------------------------------------ who may get which scope
def test_a_caller_that_is_not_allowed_is_named() -> None:
    found = connection("unidy", allowed_callers=[SHOP])
    found.check_caller(Caller(SHOP))
    with pytest.raises(CallerNotAllowed, match="role/other"):
        found.check_caller(Caller(SHOP.replace("shop", "other")))


def scope_or_error(found: Connection, scope: str | None) -> str:
    """The scope set of a request, or the code of the error."""
    try:
        return found.scope_set_for(scope)
    except BrokerError as error:
        return error.code


@pytest.mark.parametrize(
    ("settings", "scope", "expected"),
    [
        ({"scope": "b a"}, None, "a b"),
        ({"scope": "b a"}, "a", "a"),
        ({"scope": "a"}, "a b", "scope_not_allowed"),
        ({"scope": "a"}, "A", "scope_not_allowed"),
        ({}, None, ""),
        ({}, "a", "scope_not_allowed"),
        ({"allowed_scopes": ["a", "b"]}, "a b", "a b"),
        ({"allowed_scopes": ["a", "b"]}, None, ""),
        ({"allowed_scopes": ["*"]}, "anything", "anything"),
        ({"scope": "a", "allowed_scopes": ["a", "b"]}, "b", "b"),
    ],
)
def test_a_scope_outside_the_list_is_not_allowed(settings: dict[str, Any], scope: str | None, expected: str) -> None:
    assert scope_or_error(connection("oauth2", **settings), scope) == expected


@pytest.mark.parametrize("allowed", [[], ["b"]])
def test_the_default_scope_must_be_allowed_too(allowed: list[str]) -> None:
    """P8: a scope outside the list is not allowed, whether a caller requests it or not."""
    with pytest.raises((InvalidRequest, ScopeNotAllowed)):
        connection("oauth2", scope="a", allowed_scopes=allowed).scope_set_for(None)


def test_scope_items_that_are_not_allowed_are_named() -> None:
    with pytest.raises(ScopeNotAllowed, match="users:write"):
        connection("unidy").scope_set_for("users:read users:write")


def test_with_a_star_the_scope_must_still_be_one_of_the_provider() -> None:
    found = connection("commerce-layer", allowed_scopes=["*"])
    assert scope_or_error(found, "market:id:a") == "market:id:a"
    assert scope_or_error(found, "market:id:a,market:id:b") == "invalid_request"

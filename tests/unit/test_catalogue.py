"""The catalogue's files are valid and say what the vendors document. An invalid file names itself and every fault."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.grant_requests import CATALOGUE
from token_broker.catalogue import BUILT_IN, Catalogue, FaultyFile, read_provider
from token_broker.core.provider_files import CatalogueError, parse_provider
from token_broker.core.providers import AccountSpec, Limit, RefreshSpec
from token_broker.errors import ConnectionMisconfigured
from token_broker.oauth.grants import GRANTS

FILES = sorted(BUILT_IN.glob("*.toml"))
FIRST = {"unified-services", "unicommerce", "commerce-layer", "ucommerce", "unidy", "oauth2"}
WHOLE: dict[str, Any] = {
    "title": "Example",
    "documentation": "https://docs.example.com",
    "grant": "client_credentials",
    "credentials": ["client_id", "client_secret"],
    "request": {"url": "{base_url}/token"},
    "settings": [{"name": "base_url", "kind": "url", "required": True, "help": "Where it is."}],
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_is_valid(path: Path) -> None:
    provider = read_provider(path)
    assert provider == CATALOGUE[path.stem]
    assert provider.slug == path.stem


def test_a_file_is_read_at_its_first_use_and_kept(tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text((FILES[0]).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "bad.toml").write_text("title = 7", encoding="utf-8")
    found = Catalogue(tmp_path)
    assert (list(found), len(found), "bad" in found, found.get("other")) == (["bad", "good"], 2, True, None)
    good = found["good"]
    (tmp_path / "good.toml").unlink()
    assert found["good"] is good
    with pytest.raises(CatalogueError, match=r"bad\.toml"):
        found["bad"]


def test_own_files_are_read_like_the_others_and_replace_none(tmp_path: Path) -> None:
    whole = FILES[0].read_text(encoding="utf-8")
    for name, text in (("acme", whole), ("broken", "title = 7"), ("Bad Name", whole), (FILES[0].stem, whole)):
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    (tmp_path / "folder.toml").mkdir()
    heard: list[FaultyFile] = []
    found = Catalogue(BUILT_IN, tmp_path, heard.append)
    assert found[FILES[0].stem].slug == FILES[0].stem
    assert heard == []  # nobody asked for a name that the broker does not have
    assert found["acme"] == replace(found[FILES[0].stem], slug="acme")
    for _ in range(2):
        with pytest.raises(ConnectionMisconfigured) as raised:
            found["broken"]
        assert "title" in {fault.field for fault in raised.value.errors}
    assert (found.get("other"), "other" in found) == (None, False)
    assert set(found) == {path.stem for path in FILES} | {"acme"}
    assert {file.name for file in found.faulty_files()} == {
        "broken.toml",
        "Bad Name.toml",
        "folder.toml",
        FILES[0].name,
    }
    assert sorted(file.name for file in heard) == sorted(file.name for file in found.faulty_files())


def test_a_layer_without_the_folder_is_a_fault(tmp_path: Path) -> None:
    found = Catalogue(BUILT_IN, tmp_path / "token_broker_providers")
    assert len(found) == len(FILES)
    assert [str(fault) for file in found.faulty_files() for fault in file.faults] == ["folder: is not in the layer"]


def test_the_five_providers_and_the_standard_are_there() -> None:
    assert set(CATALOGUE) >= FIRST


@pytest.mark.parametrize(
    ("slug", "grant", "client_auth", "fields_in", "credentials"),
    [
        ("unified-services", "client_credentials", "basic-raw", "form", ("client_id", "client_secret")),
        ("unicommerce", "login", "none", "json", ("username", "password")),
        ("commerce-layer", "client_credentials", "json", "form", ("client_id",)),
        ("ucommerce", "authorization_code", "basic-raw", "form", ("client_id", "client_secret")),
        ("unidy", "client_credentials", "json", "form", ("client_id", "client_secret")),
        ("oauth2", "client_credentials", "basic", "{encoding}", ("client_id",)),
    ],
)
def test_how_each_of_the_first_providers_is_asked(
    slug: str, grant: str, client_auth: str, fields_in: str, credentials: tuple[str, ...]
) -> None:
    found = CATALOGUE[slug]
    request = found.request
    assert (found.grant.name, request.client_auth, str(request.fields_in), found.credentials) == (
        grant,
        client_auth,
        fields_in,
        credentials,
    )


def test_the_special_limits_of_the_first_providers() -> None:
    special = {
        slug: (CATALOGUE[slug].reissue_window_s, CATALOGUE[slug].limit, CATALOGUE[slug].default_lifetime_s)
        for slug in sorted(FIRST)
    }
    assert special == {
        **dict.fromkeys(FIRST, (None, None, None)),
        "commerce-layer": (900, Limit(30, "minute", "host"), None),
        "unicommerce": (None, None, 72_000),
    }
    assert [slug for slug in sorted(FIRST) if CATALOGUE[slug].scope.required] == ["unidy"]
    assert CATALOGUE["ucommerce"].request.basic_charset == "iso-8859-1"
    assert CATALOGUE["commerce-layer"].optional_credentials == ("client_secret",)


@pytest.mark.parametrize("slug", sorted(CATALOGUE))
def test_every_setting_is_explained(slug: str) -> None:
    for spec in CATALOGUE[slug].settings:
        assert spec.help.endswith("."), spec.name


# ------------------------------------------------------------------ broken files
def faults(**changes: Any) -> set[str]:
    """The fields at fault in a valid file after `changes`. None removes a field."""
    data = {name: value for name, value in {**WHOLE, **changes}.items() if value is not None}
    try:
        parse_provider("example", data, grants=GRANTS, file="example.toml")
    except CatalogueError as error:
        return {fault.field for fault in error.faults}
    return set()


def test_the_example_is_whole() -> None:
    assert faults() == set()


@pytest.mark.parametrize(
    ("changes", "at_fault"),
    [
        ({"title": None}, {"title"}),
        ({"documentation": "docs.example.com"}, {"documentation"}),
        ({"grant": "implicit"}, {"grant"}),
        ({"credentials": None}, {"credentials"}),
        ({"credentials": "client_id"}, {"credentials"}),
        ({"color": "red"}, {"color"}),
        ({"request": None}, {"request", "request.url"}),
        ({"request": {"url": "{base_ulr}/token"}}, {"request.url"}),
        ({"request": {"url": "http://example.com/token"}}, {"request.url"}),
        ({"request": {"url": "/token"}}, {"request.url"}),
        ({"request": {"url": "{base_url}/t", "method": "PUT"}}, {"request.method"}),
        ({"request": {"url": "{base_url}/t", "client_auth": "mtls"}}, {"request.client_auth"}),
        ({"request": {"url": "{base_url}/t", "fields_in": "xml"}}, {"request.fields_in"}),
        ({"request": {"url": "{base_url}/t", "basic_charset": "utf-16"}}, {"request.basic_charset"}),
        ({"request": {"url": "{base_url}/t", "urll": "x"}}, {"request.urll"}),
        ({"request": {"url": "{base_url}/t", "headers": {"X": 7}}}, {"request.headers.X"}),
        ({"grant": "authorization_code"}, {"connect.url", "settings"}),
        ({"response": {"token": 7}}, {"response.token"}),
        (
            {"response": {"success": {"field": "status", "values": "x"}}},
            {"response.success", "response.success.values"},
        ),
        ({"send": {"headers": {"X": 7}}}, {"send.headers.X", "send.headers"}),
        ({"lifetime": {"default_s": 2_592_001}}, {"lifetime.default_s"}),
        ({"renewal": {"reissue_window_s": 60}}, {"renewal.reissue_window_s"}),
        ({"limits": {"requests": 1, "per": "week"}}, {"limits.requests", "limits.per"}),
        ({"scope": {"required": "yes", "pattern": "("}}, {"scope.required", "scope.pattern"}),
        ({"settings": [{"name": "base_url", "kind": "uri"}]}, {"settings[0].kind", "settings[0].help"}),
        ({"settings": "base_url"}, {"settings", "request.url"}),
    ],
)
def test_an_invalid_file_names_the_field(changes: dict[str, Any], at_fault: set[str]) -> None:
    assert faults(**changes) == at_fault


CONSENT: dict[str, Any] = {
    "authorize_url": "https://vendor.example.com/{tenant}/authorize",
    "exchange_url": "{base_url}/code",
    "device_url": "{base_url}/device",
    "code_param": "auth_code",
    "pkce": True,
    "replaces": True,
    "issuer": "https://vendor.example.com/{tenant}",
    "query": {"access_type": "offline", "response_type": ""},
    "fields": {"grant_type": "authorized_code", "auth_code": "{code}", "code": "", "redirect_uri": ""},
    "keep": {"realmId": "[0-9]{1,20}", "tenant": True},
    "account": {"from": "redirect", "path": "realmId"},
}


def consents(*, refresh: Any = None, revocation: Any = None, consent: Any = None, **more: Any) -> dict[str, Any]:
    """A file whose grant needs a person's consent."""
    tenant = {"name": "tenant", "kind": "label", "required": True, "help": "Help."}
    sections = {"refresh": refresh, "revocation": revocation, "consent": CONSENT if consent is None else consent}
    return {"grant": "refresh_token", "settings": [BASE_URL, tenant], **sections, **more}


def signed(**signature: str) -> dict[str, Any]:
    return {"signature": {"field": "sign", "message": "{now}", "key": "{secret:client_secret}", **signature}}


LOGIN: dict[str, Any] = {"grant": "login", "credentials": ["username", "password"]}
URL = "{base_url}/t"
BASE_URL = WHOLE["settings"][0]


def setting(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"settings": [BASE_URL, {"name": name, "kind": kind, "help": "Help.", **more}]}


def in_body(kind: str, **more: Any) -> dict[str, Any]:
    return setting("encoding", kind, **more) | {"request": {"url": URL, "fields_in": "{encoding}"}}


def in_host(kind: str, **more: Any) -> dict[str, Any]:
    region = {"name": "region", "kind": kind, "help": "Help.", **more}
    return {"settings": [region], "request": {"url": "https://{region}.example.com/token"}}


@pytest.mark.parametrize(
    ("changes", "at_fault"),
    [
        (LOGIN, None),
        ({**LOGIN, "request": {"url": URL, "method": "GET", "client_auth": "none", "fields_in": "query"}}, None),
        ({**LOGIN, "request": {"url": URL, "client_auth": "basic"}}, "request.client_auth"),
        ({**LOGIN, "request": {"url": URL, "fields_in": "form"}}, None),
        ({**LOGIN, "request": {"url": URL, "method": "GET", "fields_in": "form"}}, "request.fields_in"),
        ({**LOGIN, "request": {"url": URL, "grant_type": "x"}}, "request.grant_type"),
        ({**LOGIN, "request": {"url": URL, "basic_charset": "utf-8"}}, "request.basic_charset"),
        ({**LOGIN, "request": {"url": URL, "client_id_in_body": False}}, "request.client_id_in_body"),
        ({**LOGIN, "optional_credentials": ["tenant"]}, "optional_credentials"),
        ({**LOGIN, "scope": {"required": False}}, "scope"),
        ({**LOGIN, "revocation": {"url": "revoke"}}, "revocation"),
        ({"request": {"url": URL, "method": "GET"}}, None),
        ({"request": {"url": URL, "method": "GET", "client_auth": "form"}}, "request.client_auth"),
        ({"request": {"url": URL, "client_auth": "json", "fields_in": "form"}}, "request.fields_in"),
        ({"request": {"url": URL, "client_auth": "json", "fields_in": "json"}}, None),
        ({"request": {"url": URL, "fields": {"audience": "x", "n": 7, "on": True}}}, None),
        ({"request": {"url": URL, "fields": {"a": "{scope}{now}{uuid}{secret:client_id}{endpoint}"}}}, None),
        ({"request": {"url": URL, "fields": {"a": "{token}"}}}, "request.fields.a"),
        ({"request": {"url": URL, "fields": {"a": "{secret:password}"}}}, "request.fields.a"),
        ({"request": {"url": URL, "fields": {"a": {"b": "c"}}}}, "request.fields.a"),
        ({"request": {"url": URL, "fields_in": "json", "fields": {"a": {"b": ["{base_url}"]}}}}, None),
        ({"request": {"url": URL, "fields": {"a": "{"}}}, "request.fields.a"),
        ({"request": {"url": URL, "query": {"a": "{refresh_token}"}}}, "request.query.a"),
        ({"request": {"url": URL, "headers": {"X-A": "{scope}"}}}, "request.headers.X-A"),
        ({"request": {"url": URL, "headers": {"X-A": "ä"}}}, "request.headers.X-A"),
        ({"request": {"url": URL, "headers": {"X A": "b"}}}, "request.headers.X A"),
        ({"request": {"url": URL, "grant_type": "account_credentials"}}, None),
        ({"request": {"url": "{base_url}/{secret:client_id}"}}, "request.url"),
        ({"request": {"url": "https://{base_url}.example.com"}}, "request.url"),
        ({"request": {"url": "{base_url}.example.com"}}, "request.url"),
        ({"grant": "password", "credentials": ["client_id", "client_secret", "username", "password"]}, None),
        ({"grant": "password"}, "credentials"),
        ({"send": {"headers": {"X-Token": "{token}", "X-B": "{base_url}"}}}, None),
        ({"send": {"headers": {"X-B": "{base_url}"}}}, "send.headers"),
        ({"send": {"headers": {"X-Token": "{token}", "X-Id": "{uuid}"}}}, "send.headers.X-Id"),
        ({"send": {"headers": {"X-Token": "{token}", "X-Id": "{secret:client_secret}"}}}, "send.headers.X-Id"),
        ({"send": {"headers": {"X-Token": "{token}", "X-Id": "{secret:client_id}"}}}, None),
        ({"public_credentials": ["client_id"]}, "public_credentials"),
        ({"public_credentials": ["client_secret"]}, "public_credentials"),
        (
            {
                "credentials": ["client_id", "client_secret", "seller"],
                "request": {"url": URL, "fields": {"seller": "{secret:seller}"}},
                "public_credentials": ["seller"],
                "send": {"headers": {"X-Token": "{token}", "X-Seller": "{secret:seller}"}},
            },
            None,
        ),
        ({"send": {"base_url": {"field": "meta.url", "hosts": ["*.example.com", "api.example.org"]}}}, None),
        ({"send": {"base_url": {"field": "url", "hosts": ["*"]}}}, "send.base_url.hosts"),
        ({"send": {"base_url": {"field": "url", "hosts": ["*.com"]}}}, "send.base_url.hosts"),
        ({"send": {"base_url": {"field": "url", "hosts": ["a.*.example.com"]}}}, "send.base_url.hosts"),
        ({"send": {"base_url": {"field": "url", "hosts": ["https://example.com"]}}}, "send.base_url.hosts"),
        ({"send": {"base_url": {"field": "url"}}}, "send.base_url.hosts"),
        ({"refresh": {"use": False}}, None),
        ({"refresh": {"use": False}, "response": {"refresh_token": "r"}}, "refresh.use"),
        ({"limits": {"requests": 5, "per": "day", "limit_per": "client"}}, None),
        ({"limits": {"limit_per": "host", "per": "day"}}, "limits.requests"),
        ({"revocation": {"url": "revoke", "needs_secret": True}}, "revocation.needs_secret"),
        ({"scope": {"send": False, "name": "scopes"}}, "scope.name"),
        ({"request": {"url": URL, "client_auth": "form", "client_id_in_body": True}}, "request.client_id_in_body"),
        ({"request": {"url": URL, "client_id_in_body": True}}, None),
        ({"request": {"url": URL, "headers": {"authorization": "x"}}}, "request.headers.authorization"),
        ({"request": {"url": URL, "headers": {"X-Version": "2"}}}, None),
        ({"connect": {"url": "{base_url}/connect"}}, "connect"),
        ({"credentials": ["client_id", "tenant"]}, "credentials"),
        ({"optional_credentials": ["client_secret"]}, "optional_credentials"),
        ({"credentials": ["client_id"], "revocation": {"url": "revoke"}}, None),
        ({"response": {"token": "data.0.token"}}, None),
        ({"response": {"token": ""}}, None),
        ({"response": {"token": "data..token"}}, "response.token"),
        ({"response": {"success": {"field": "meta.ok", "value": True}}}, None),
        ({"response": {"expiry": {"field": "ttl", "as": "minutes"}}}, None),
        ({"response": {"expiry": {"field": "ttl", "as": "hours"}}}, "response.expiry.as"),
        ({"response": {"expiry": {"as": "epoch"}}}, "response.expiry.field"),
        ({"response": {"expiry": {"field": "ttl", "as": "none"}}}, "response.expiry.field"),
        ({"response": {"error": "errors.0.code", "errors": {"401-07": "invalid_client"}}}, None),
        ({"response": {"errors": {"401-07": "wrong_password"}}}, "response.errors.401-07"),
        ({"response": {"success": {"value": "yes"}}}, "response.success"),
        ({"response": {"token_types": ["JWT"], "zero_means_never": True}}, None),
        ({"response": {"token_types": ["JWT"]}, "send": {"token_type": "N_A"}}, "response.token_types"),
        ({"scope": {"separator": ",", "granted_separator": " ", "name": "scopes"}}, None),
        ({"scope": {"separator": "and"}}, "scope.separator"),
        ({"scope": {"without_secret": "market:"}}, "scope.without_secret"),
        (consents(), None),
        (consents(consent=CONSENT | {"authorize_url": "{tenant}/authorize"}), "consent.authorize_url"),
        (consents(consent=CONSENT | {"query": {"state": ""}}), "consent.query"),
        (consents(consent=CONSENT | {"query": {"nonce": ""}}), "consent.query.nonce"),
        (consents(consent=CONSENT | {"query": {"secret": "{secret:client_secret}"}}), "consent.query.secret"),
        (consents(consent=CONSENT | {"query": {"seed": "{secret:refresh_token}"}}), "consent.query.seed"),
        (consents(consent=CONSENT | {"fields": {"seed": "{refresh_token}"}}), "consent.fields.seed"),
        (consents(consent=CONSENT | {"pkce": False, "fields": {"v": "{code_verifier}"}}), "consent.fields.v"),
        (consents(consent=CONSENT | {"keep": {"realmId": "("}}), "consent.keep.realmId"),
        (consents(consent=CONSENT | {"keep": {"realmId": False}}), "consent.keep.realmId"),
        (consents(consent=CONSENT | {"keep": {"realmId": True, "state": True}}), "consent.keep.state"),
        (consents(consent=CONSENT | {"account": {"from": "redirect", "path": "shop"}}), "consent.account.path"),
        (consents(consent=CONSENT | {"account": {"from": "setting", "path": "tenant"}}), "consent.account.path"),
        (consents(consent=CONSENT | {"account": {"from": "get", "path": "id"}}), "consent.account.url"),
        (
            consents(consent=CONSENT | {"account": {"from": "response", "path": "id", "url": URL}}),
            "consent.account.url",
        ),
        (consents(consent={"device_url": URL, "keep": {}}, settings=[BASE_URL]), "consent.keep"),
        (consents(consent={"device_url": URL}, settings=[BASE_URL]), None),
        (consents(consent={}, settings=[BASE_URL]), "consent.authorize_url"),
        (consents(credentials=["client_id"], request={"url": URL, "client_auth": "none"}), None),
        (consents(request={"url": URL, "fields": {"old": "{refresh_token}", "refresh_token": ""}}), None),
        (consents(request={"url": URL, "fields": {"old": "{secret:refresh_token}"}}), "request.fields.old"),
        (consents(request={"url": URL, "fields": {"scope": ""}}), "request.fields.scope"),
        (consents(send={"headers": {"X": "{token}", "Y": "{realmId}"}}), None),
        (consents(request={"url": URL, "headers": {"Y": "{realmId}"}}), "request.headers.Y"),
        (consents(send={"base_url": {"url": "https://{tenant}.example.com/{realmId}"}}), None),
        (consents(send={"base_url": {"url": "https://{realmId}.example.com"}}), "send.base_url.url"),
        (consents(send={"base_url": {"url": "{base_url}", "field": "url"}}), "send.base_url.field"),
        (consents(refresh={"after_lost_response": "resend", "resend_within_s": 60, "idle_life_days": 60}), None),
        (consents(refresh={"after_lost_response": "retry"}), "refresh.after_lost_response"),
        (consents(refresh={"resend_within_s": 60}), "refresh.resend_within_s"),
        (consents(refresh={"after_lost_response": "resend", "resend_within_s": 8}), "refresh.resend_within_s"),
        (consents(refresh={"idle_life_days": 60, "life_days": 30}), "refresh.idle_life_days"),
        (consents(refresh={"use": False}), "refresh.use"),
        (consents(revocation={"url": "revoke", "keeps_consent": True}), None),
        (consents(revocation={"keeps_consent": True}), "revocation.keeps_consent"),
        ({"consent": {"device_url": "https://vendor.example.com/device"}}, "consent"),
        ({"refresh": {"life_days": 30}}, "refresh.life_days"),
        ({"revocation": {"url": "revoke", "keeps_consent": True}}, "revocation.keeps_consent"),
        (signed(), None),
        (signed(message="{path}{sorted_fields}{now}{base_url}", path_after="/rest"), None),
        (signed(path_after="/rest"), "signature.path_after"),
        (signed(message="{now}{scope}"), "signature.message"),
        (signed(key="{base_url}"), "signature.key"),
        (signed(key="literal"), "signature.key"),
        (signed(key="{secret:partner}") | {"optional_credentials": ["partner"]}, "signature.message"),
        (signed() | {"signature": {"field": "sign", "message": "{now}"}}, "signature.key"),
        (signed(**{"as": "base64"}), "signature.as"),
        (signed(**{"in": "header"}), "signature.in"),
        (consents(consent=CONSENT | {"signed": True}), "consent.signed"),
        (consents(consent=CONSENT | {"signed": True}) | signed(), None),
        ({"request": {"url": URL, "client_auth": "fields"}}, "credentials"),
        (
            {
                "request": {
                    "url": URL,
                    "client_auth": "fields",
                    "fields": {"app_key": "{secret:client_id}", "app_secret": "{secret:client_secret}"},
                }
            },
            None,
        ),
        ({"request": {"url": URL, "fields_in": "json", "fields": {"id": "{secret:client_id:number}"}}}, None),
        (
            {"request": {"url": URL, "fields_in": "json", "fields": {"id": "x{secret:client_id:number}"}}},
            "request.fields.id",
        ),
        ({"request": {"url": URL, "fields": {"id": "{secret:client_id:number}"}}}, "request.fields.id"),
        ({"request": {"url": URL, "headers": {"X": "{secret:client_id:number}"}}}, "request.headers.X"),
        (setting("region", "text"), "settings[1].name"),
        (setting("base_url", "url"), "settings[1].name"),
        (setting("redirect_uri", "redirect_uri"), "settings[1].name"),
        (setting("method", "choice", choices=["GET", "POST"]), "settings[1].name"),
        (setting("params", "text"), "settings[1].name"),
        (setting("token", "text"), "settings[1].name"),
        (setting("params", "params", default={"audience": "x"}), None),
        (in_body("choice", choices=["form", "json"], default="form"), None),
        (in_body("choice", choices=["form", "xml"], required=True), "request.fields_in"),
        (in_body("choice", choices=["form", "json"]), "request.fields_in"),
        (in_body("choice", choices=["form", "json"], default="xml"), "settings[1].default"),
        (in_body("choice", choices=["form", "json"], default=7), "settings[1].default"),
        (in_body("text", default="form"), "request.fields_in"),
        (in_host("label", required=True), None),
        (in_host("choice", choices=["eu", "us"], default="eu"), None),
        (in_host("choice", choices=["eu", "u.s"], default="eu"), "request.url"),
        (in_host("text", required=True), "request.url"),
        (in_host("label"), "request.url"),
        (in_host("label", default="a.b"), "request.url"),
        (setting("params", "params", required=True, default={"a": "b"}), "settings[1].default"),
        (setting("params", "params", choices=["JWT"]), "settings[1].choices"),
    ],
)
def test_a_field_without_effect_is_a_fault(changes: dict[str, Any], at_fault: str | None) -> None:
    assert faults(**changes) == ({at_fault} if at_fault else set())


def test_what_a_file_says_of_consent() -> None:
    refresh = {"after_lost_response": "resend", "resend_within_s": 1800, "idle_life_days": 60, "life_days": 365}
    data = WHOLE | consents(refresh=refresh, revocation={"url": "revoke", "keeps_consent": True})
    found = parse_provider("example", data, grants=GRANTS, file="example.toml")
    assert found.refresh == RefreshSpec(
        resend=True,
        resend_within=timedelta(minutes=30),
        idle_life=timedelta(days=60),
        life=timedelta(days=365),
        revocation_keeps_consent=True,
    )
    consent = found.consent
    assert consent is not None
    assert {name: str(value) for name, value in consent.query.items()} == {
        "client_id": "{secret:client_id}",
        "redirect_uri": "{redirect_uri}",
        "scope": "{scope}",
        "state": "{state}",
        "code_challenge": "{code_challenge}",
        "code_challenge_method": "S256",
        "access_type": "offline",
    }
    assert {name: str(value) for name, value in consent.fields.items()} == {
        "grant_type": "authorized_code",
        "auth_code": "{code}",
        "code_verifier": "{code_verifier}",
    }
    assert {name: pattern.pattern for name, pattern in consent.keep.items()} == {
        "realmId": "[0-9]{1,20}",
        "tenant": "[A-Za-z0-9-]{1,63}",
    }
    assert consent.account == AccountSpec("redirect", ("realmId",), verified=False)
    assert [str(url) for url in consent.urls if url] == [
        "https://vendor.example.com/{tenant}/authorize",
        "{base_url}/code",
        "{base_url}/device",
        "https://vendor.example.com/{tenant}",
    ]
    assert (consent.code_param, consent.pkce, consent.loopback, consent.replaces) == ("auth_code", True, False, True)


@pytest.mark.parametrize(
    ("slug", "verified"),
    [
        ("lightspeed-retail-x", True),  # in the URL of the exchange
        ("shopee", True),  # in its fields
        ("shopify-public-app", True),
        ("xero-app", True),
        ("amazon-sp-api-seller", False),
        ("quickbooks-online", False),
    ],
)
def test_an_account_of_the_redirect_is_verified_only_by_a_setting_of_the_exchange(slug: str, verified: bool) -> None:
    consent = CATALOGUE[slug].consent
    assert consent is not None
    assert consent.account is not None
    assert consent.account.verified is verified


@pytest.mark.parametrize(
    ("setting", "consent", "verified"),
    [
        ({}, {}, False),
        ({}, {"authorize_url": "https://{tenant}.example.com/authorize"}, False),
        ({}, {"exchange_url": "https://{tenant}.example.com/code"}, True),
        ({}, {"fields": {"tenant": "{tenant}"}}, True),
        ({"required": False}, {"fields": {"tenant": "{tenant}"}}, False),
        ({"required": False, "default": "t"}, {"fields": {"tenant": "{tenant}"}}, True),
    ],
)
def test_a_setting_verifies_an_account_if_each_exchange_sends_it(
    setting: dict[str, Any], consent: dict[str, Any], verified: bool
) -> None:
    tenant = {"name": "tenant", "kind": "label", "required": True, "help": "Help."} | setting
    own = {
        "authorize_url": "https://vendor.example.com/authorize",
        "issuer": "https://vendor.example.com",
        "account": {"from": "redirect", "path": "tenant"},
    }
    data = WHOLE | consents(consent=CONSENT | own | consent, settings=[BASE_URL, tenant])
    found = parse_provider("example", data, grants=GRANTS, file="example.toml").consent
    assert found is not None
    assert found.account == AccountSpec("redirect", ("tenant",), verified=verified)


@pytest.mark.parametrize(("loopback", "required"), [(False, [True]), (True, [False])])
def test_a_redirect_uri_is_a_setting_of_a_provider_whose_consent_redirects(
    loopback: bool, required: list[bool]
) -> None:
    data = WHOLE | consents(consent=CONSENT | {"loopback": loopback})
    found = parse_provider("example", data, grants=GRANTS, file="example.toml")
    assert [spec.required for spec in found.settings if spec.name == "redirect_uri"] == required
    assert found.optional_credentials == ("refresh_token",)


def test_all_faults_are_named_at_once() -> None:
    found = faults(title=7, grant="x", color="red", request={"url": "/t"}, limits={"limit_per": "x"})
    in_limits = {"limits.limit_per", "limits.requests", "limits.per"}
    assert found == {"title", "grant", "color", "request.url", *in_limits}


def test_the_text_names_the_file_and_every_field() -> None:
    with pytest.raises(CatalogueError) as caught:
        parse_provider(
            "example", {**WHOLE, "title": 7, "limits": {"limit_per": "x"}}, grants=GRANTS, file="example.toml"
        )
    assert str(caught.value).startswith("example.toml: ")
    assert "title" in str(caught.value)
    assert "limits.limit_per" in str(caught.value)


def test_an_unknown_field_names_the_nearest_known_one() -> None:
    with pytest.raises(CatalogueError, match=r"request\.methd: is not a known field; did you mean method\?"):
        parse_provider(
            "example",
            {**WHOLE, "request": {**WHOLE["request"], "methd": "GET"}},
            grants=GRANTS,
            file="example.toml",
        )


@pytest.mark.parametrize("url", ["{base_url/token", "{base_url}/token}", "{}/token", "{base_url!r}/token", "{0}/token"])
def test_a_url_that_cannot_be_filled_in_is_a_fault_of_the_file(url: str) -> None:
    """Else the first request of a connection would find it."""
    assert faults(request={"url": url}) == {"request.url"}


@pytest.mark.parametrize("grant", ["client_credentials", "authorization_code"])
def test_a_grant_of_oauth_needs_a_client_id(grant: str) -> None:
    connect = {"url": "{base_url}/connect"} if grant == "authorization_code" else None
    assert "credentials" in faults(grant=grant, credentials=["username"], connect=connect)


@pytest.mark.parametrize("name", ["Unidy.toml", "uni_dy.toml", "-.toml"])
def test_a_file_is_named_after_its_provider(name: str) -> None:
    with pytest.raises(CatalogueError, match="file name"):
        read_provider(Path(name))

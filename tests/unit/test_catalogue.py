"""The catalogue's files are valid and say what the vendors document. An invalid file names itself and every fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import token_broker.catalogue
from tests.unit.grant_requests import CATALOGUE
from token_broker.catalogue import read_provider
from token_broker.core.providers import CatalogueError, parse_provider
from token_broker.oauth.grants import GRANTS

FILES = sorted(Path(token_broker.catalogue.__file__).parent.glob("*.toml"))
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


def test_the_five_providers_and_the_standard_are_there() -> None:
    five = {"unified-services", "unicommerce", "commerce-layer", "ucommerce", "unidy"}
    assert set(CATALOGUE) == five | {"oauth2"}


@pytest.mark.parametrize(
    ("slug", "grant", "client_auth", "encoding", "credentials"),
    [
        ("unified-services", "client_credentials", "basic-raw", "form", ("client_id", "client_secret")),
        ("unicommerce", "login", "none", "json", ("username", "password")),
        ("commerce-layer", "client_credentials", "json", "json", ("client_id",)),
        ("ucommerce", "authorization_code", "basic-raw", "form", ("client_id", "client_secret")),
        ("unidy", "client_credentials", "json", "json", ("client_id", "client_secret")),
        ("oauth2", "client_credentials", "basic", "form", ("client_id",)),
    ],
)
def test_how_each_provider_is_asked(
    slug: str, grant: str, client_auth: str, encoding: str, credentials: tuple[str, ...]
) -> None:
    found = CATALOGUE[slug]
    assert (found.grant.name, found.client_auth, found.encoding, found.credentials) == (
        grant,
        client_auth,
        encoding,
        credentials,
    )


@pytest.mark.parametrize("slug", sorted(CATALOGUE))
def test_how_each_providers_token_is_sent(slug: str) -> None:
    found = CATALOGUE[slug]
    sent = (found.header, found.prefix, found.token_type)
    assert sent == (("apiKey", "", "N_A") if slug == "unicommerce" else ("Authorization", "Bearer ", "Bearer"))


def test_the_special_limits_of_single_providers() -> None:
    special = {
        slug: (p.reissue_window_s, p.requests_per_minute, p.limit_per, p.default_lifetime_s)
        for slug, p in CATALOGUE.items()
    }
    plain = (None, None, "connection", None)
    assert special == {
        **dict.fromkeys(CATALOGUE, plain),
        "commerce-layer": (900, 30, "host", None),
        "unicommerce": (None, None, "connection", 72_000),
    }
    assert [slug for slug, found in CATALOGUE.items() if found.scope.required] == ["unidy"]
    assert CATALOGUE["ucommerce"].basic_charset == "iso-8859-1"
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
        ({"grant": "password"}, {"grant"}),
        ({"credentials": None}, {"credentials"}),
        ({"credentials": "client_id"}, {"credentials"}),
        ({"color": "red"}, {"color"}),
        ({"request": None}, {"request", "request.url"}),
        ({"request": {"url": "{base_ulr}/token"}}, {"request.url"}),
        ({"request": {"url": "http://example.com/token"}}, {"request.url"}),
        ({"request": {"url": "/token"}}, {"request.url"}),
        ({"request": {"url": "{base_url}/t", "method": "PUT"}}, {"request.method"}),
        ({"request": {"url": "{base_url}/t", "client_auth": "mtls"}}, {"request.client_auth"}),
        ({"request": {"url": "{base_url}/t", "encoding": "xml"}}, {"request.encoding"}),
        ({"request": {"url": "{base_url}/t", "basic_charset": "utf-16"}}, {"request.basic_charset"}),
        ({"request": {"url": "{base_url}/t", "urll": "x"}}, {"request.urll"}),
        ({"request": {"url": "{base_url}/t", "headers": {"X": 7}}}, {"request.headers.X"}),
        ({"grant": "authorization_code"}, {"connect.url"}),
        ({"response": {"token": 7}}, {"response.token"}),
        (
            {"response": {"success": {"field": "status", "values": "x"}}},
            {"response.success", "response.success.values"},
        ),
        ({"send": {"prefix": 7}}, {"send.prefix"}),
        ({"lifetime": {"default_s": 2_592_001}}, {"lifetime.default_s"}),
        ({"renewal": {"reissue_window_s": 60}}, {"renewal.reissue_window_s"}),
        ({"limits": {"requests_per_minute": 1}}, {"limits.requests_per_minute"}),
        ({"scope": {"required": "yes", "pattern": "("}}, {"scope.required", "scope.pattern"}),
        ({"settings": [{"name": "base_url", "kind": "uri"}]}, {"settings[0].kind", "settings[0].help"}),
        ({"settings": "base_url"}, {"settings", "request.url"}),
    ],
)
def test_an_invalid_file_names_the_field(changes: dict[str, Any], at_fault: set[str]) -> None:
    assert faults(**changes) == at_fault


LOGIN: dict[str, Any] = {"grant": "login", "credentials": ["username", "password"]}
URL = "{base_url}/t"
BASE_URL = WHOLE["settings"][0]


def setting(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"settings": [BASE_URL, {"name": name, "kind": kind, "help": "Help.", **more}]}


@pytest.mark.parametrize(
    ("changes", "at_fault"),
    [
        (LOGIN, None),
        ({**LOGIN, "request": {"url": URL, "method": "GET", "client_auth": "none", "encoding": "json"}}, None),
        ({**LOGIN, "request": {"url": URL, "client_auth": "basic"}}, "request.client_auth"),
        ({**LOGIN, "request": {"url": URL, "encoding": "form"}}, "request.encoding"),
        ({**LOGIN, "request": {"url": URL, "basic_charset": "utf-8"}}, "request.basic_charset"),
        ({**LOGIN, "request": {"url": URL, "client_id_in_body": False}}, "request.client_id_in_body"),
        ({**LOGIN, "optional_credentials": ["tenant"]}, "optional_credentials"),
        ({**LOGIN, "scope": {"required": False}}, "scope"),
        ({**LOGIN, "revocation": {"url": "revoke"}}, "revocation"),
        ({**LOGIN, **setting("encoding", "choice", choices=["form", "json"])}, "settings[1].name"),
        ({"request": {"url": URL, "method": "GET"}}, "request.method"),
        ({"request": {"url": URL, "client_auth": "json", "encoding": "form"}}, "request.encoding"),
        ({"request": {"url": URL, "client_auth": "json", "encoding": "json"}}, None),
        ({"request": {"url": URL, "client_auth": "form", "client_id_in_body": True}}, "request.client_id_in_body"),
        ({"request": {"url": URL, "client_id_in_body": True}}, None),
        ({"request": {"url": URL, "headers": {"authorization": "x"}}}, "request.headers.authorization"),
        ({"request": {"url": URL, "headers": {"X-Version": "2"}}}, None),
        ({"connect": {"url": "{base_url}/connect"}}, "connect"),
        ({"credentials": ["client_id", "tenant"]}, "credentials"),
        ({"optional_credentials": ["client_secret"]}, "optional_credentials"),
        ({"credentials": ["client_id"], "revocation": {"url": "revoke"}}, "revocation"),
        ({"response": {"token": "data.token"}}, "response.token"),
        ({"response": {"success": {"field": "meta.ok", "value": "yes"}}}, "response.success.field"),
        ({"response": {"success": {"value": "yes"}}}, "response.success"),
        ({"response": {"token_types": ["JWT"], "zero_means_never": True}}, None),
        ({"response": {"token_types": ["JWT"]}, "send": {"token_type": "N_A"}}, "response.token_types"),
        ({"scope": {"separator": ","}}, None),
        ({"scope": {"separator": "and"}}, "scope.separator"),
        ({"scope": {"without_secret": "market:"}}, "scope.without_secret"),
        (setting("region", "text"), "settings[1].name"),
        (setting("base_url", "url"), "settings[1].name"),
        (setting("redirect_uri", "redirect_uri"), "settings[1].name"),
        (setting("method", "choice", choices=["GET", "POST"]), "settings[1].name"),
        (setting("params", "text"), "settings[1].kind"),
        (setting("params", "params", default={"audience": "x"}), None),
        (setting("encoding", "choice", choices=["form", "json"], default="form"), None),
        (setting("encoding", "choice"), "settings[1].choices"),
        (setting("encoding", "choice", choices=["form", "xml"]), "settings[1].choices"),
        (setting("encoding", "choice", choices=["form", "json"], default="xml"), "settings[1].default"),
        (setting("encoding", "choice", choices=["form", "json"], default="json"), "settings[1].default"),
        (setting("encoding", "choice", choices=["form", "json"], default=7), "settings[1].default"),
        (setting("params", "params", required=True, default={"a": "b"}), "settings[1].default"),
        (setting("params", "params", choices=["JWT"]), "settings[1].choices"),
    ],
)
def test_a_field_without_effect_is_a_fault(changes: dict[str, Any], at_fault: str | None) -> None:
    assert faults(**changes) == ({at_fault} if at_fault else set())


def test_all_faults_are_named_at_once() -> None:
    found = faults(title=7, grant="x", color="red", request={"url": "/t"}, limits={"limit_per": "x"})
    assert found == {"title", "grant", "color", "request.url", "limits.limit_per"}


def test_the_text_names_the_file_and_every_field() -> None:
    with pytest.raises(CatalogueError) as caught:
        parse_provider(
            "example", {**WHOLE, "title": 7, "limits": {"limit_per": "x"}}, grants=GRANTS, file="example.toml"
        )
    assert str(caught.value).startswith("example.toml: ")
    assert "title" in str(caught.value)
    assert "limits.limit_per" in str(caught.value)


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

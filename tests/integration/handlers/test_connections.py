"""/v1/connections…: settings, versions, states."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from local.providers import DEFAULT_ACCOUNTS
from local.sigv4 import LOCAL
from token_broker.catalogue import BUILT_IN, load_catalogue
from token_broker.core.names import ConnectionName
from token_broker.http import responses
from token_broker.http.responses import write_cursor

from .functions import BrokerResponse
from .problems import assert_problem, fields
from .world import PROVIDERS, World

PATH = "/v1/connections/unidy/demo"
SUMMARY = {
    *("provider", "connection", "state", "tokens", "next_expiry", "next_renewal"),
    *("last_failure", "missing_secret", "deadlines"),
}


def listed(world: World, **query: str) -> list[dict[str, Any]]:
    response = world.api.call("GET", "/v1/connections", query)
    assert response.status == 200
    found: list[dict[str, Any]] = response.body["connections"]
    return found


def assert_success(response: BrokerResponse, status: int = 200) -> None:
    assert response.status == status, response
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["pragma"] == "no-cache"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_put_creates_and_then_replaces_and_get_shows_what_was_put(world: World, provider: str) -> None:
    settings = world.settings(provider)
    created = world.api.put(f"{provider}/demo", settings)
    assert_success(created, 201)
    assert created.body["settings"] == settings
    replaced = world.api.put(f"{provider}/demo", settings | {"keep_warm": "never"})
    assert_success(replaced, 200)
    assert replaced.body["version"] != created.body["version"]
    shown = world.api.call("GET", f"/v1/connections/{provider}/demo")
    assert_success(shown)
    assert shown.body["settings"] == settings | {"keep_warm": "never"}
    assert shown.body["version"] == replaced.body["version"]
    assert shown.headers["etag"] == f'"{replaced.body["version"]}"'
    assert (shown.body["provider"], shown.body["connection"]) == (provider, "demo")
    assert (shown.body["state"], shown.body["tokens"]) == ("idle", [])


def test_the_state_of_each_token_is_shown_and_never_the_token(world: World) -> None:
    given = world.api.token(world.connect("unidy"))
    shown = world.api.call("GET", PATH)
    assert shown.body["state"] == "ok"
    assert given.body["access_token"] not in shown.text
    assert DEFAULT_ACCOUNTS["unidy"]["secret"]["client_secret"] not in shown.text
    (token,) = shown.body["tokens"]
    assert set(token) == {"scope", "token_id", "expires_at", "renew_at", "last_renewal", "failure"}
    for name in ("scope", "token_id", "expires_at", "renew_at"):
        assert token[name] == given.body[name]
    assert token["failure"] is None


def test_the_list_shows_the_state_of_every_connection(world: World) -> None:
    world.connect("unidy", name="fine")
    given = world.api.token("unidy/fine")
    world.connect("unidy", name="failing", secret={"client_id": "x", "client_secret": "y"})
    world.api.token("unidy/failing")
    world.connect("unidy", name="idle")
    world.connect("unidy", name="off", suspended=True)
    world.connect("unidy", name="incomplete", secret={"client_id": "x"})
    world.api.token("unidy/incomplete")
    world.aws.secrets.delete_secret(SecretId=world.aws.secret_id(world.connect("unidy", name="without-secret")))
    world.api.token("unidy/without-secret")
    world.connect("unidy", name="edited", base_url="nowhere")
    held = world.api.token(world.connect("unidy", name="reported"))
    while held.status == 200:
        held = world.api.token("unidy/reported", rejected=held.body["token_id"])
    found = {item["connection"]: item for item in listed(world)}
    assert {name: item["state"] for name, item in found.items()} == {
        "fine": "ok",
        "failing": "failing",
        "idle": "idle",
        "off": "suspended",
        "incomplete": "misconfigured",
        "without-secret": "misconfigured",
        "edited": "misconfigured",
        "reported": "reported",
    }
    for item in found.values():
        assert set(item) == SUMMARY
    assert (found["fine"]["tokens"], found["fine"]["next_expiry"]) == (1, given.body["expires_at"])
    assert found["fine"]["next_renewal"] == given.body["renew_at"]
    assert [name for name, item in found.items() if item["missing_secret"]] == ["without-secret"]
    assert found["fine"]["last_failure"] is None
    assert (found["failing"]["tokens"], found["failing"]["next_expiry"]) == (0, None)
    assert found["failing"]["last_failure"]["code"] == "provider_refused"
    assert found["incomplete"]["last_failure"]["code"] == "connection_misconfigured"


def test_the_list_continues_from_its_cursor(world: World) -> None:
    names = {world.connect("unidy", name=f"demo-{number}") for number in range(5)}
    listed: list[str] = []
    query: dict[str, str] = {"limit": "2"}
    for _ in range(3):
        response = world.api.call("GET", "/v1/connections", query)
        assert_success(response)
        assert set(response.body) == {"connections", "cursor"}
        listed += [f"{item['provider']}/{item['connection']}" for item in response.body["connections"]]
        query = {"limit": "2", "cursor": response.body["cursor"]}
    assert response.body["cursor"] is None
    assert len(listed) == 5
    assert set(listed) == names


def test_the_list_can_be_of_one_provider_and_of_one_state(world: World) -> None:
    world.connect("unidy", name="off", suspended=True)
    world.connect("unidy", name="on")
    world.connect("oauth2", name="off", suspended=True)
    assert [item["connection"] for item in listed(world, provider="unidy")] == ["off", "on"]
    assert [item["provider"] for item in listed(world, state="suspended")] == ["oauth2", "unidy"]
    assert listed(world, state="failing", provider="unidy") == []
    page = world.api.call("GET", "/v1/connections", {"limit": "1", "state": "idle"}).body
    assert page["connections"] == [], "the cost of a page does not depend on how many match"
    assert page["cursor"] is not None


def test_the_list_with_details_has_what_each_connection_shows(world: World) -> None:
    world.connect("unidy")
    world.api.token("unidy/demo")
    assert listed(world, details="true") == [world.api.call("GET", PATH).body]


def test_a_page_ends_before_it_is_too_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        world.connect("unidy", name=f"demo-{number}")
    monkeypatch.setattr(responses, "MAX_PAGE", 500)
    query = {"details": "true"}
    found = []
    while query.get("cursor") != "":
        page = world.api.call("GET", "/v1/connections", query).body
        assert len(page["connections"]) == 1
        found += [item["connection"] for item in page["connections"]]
        query["cursor"] = page["cursor"] or ""
    assert found == ["demo-0", "demo-1", "demo-2"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"cursor": "nonsense"}, "cursor"),
        ({"cursor": "\u00ff"}, "cursor"),
        ({"cursor": ""}, "cursor"),
        ({"cursor": write_cursor(ConnectionName("oauth2", "a")), "provider": "unidy"}, "cursor"),
        ({"provider": "UNIDY"}, "provider"),
        ({"state": "broken"}, "state"),
        ({"details": "yes"}, "details"),
    ],
)
def test_a_list_that_cannot_be(world: World, query: dict[str, str], field: str) -> None:
    assert fields(world.api.call("GET", "/v1/connections", query)) == [field]


def test_earlier_versions_of_the_settings_are_shown_and_restored(world: World) -> None:
    settings = world.settings("unidy")
    first = world.api.put("unidy/demo", settings).body["version"]
    second = world.api.put("unidy/demo", settings | {"lifetime_s": 60, "suspended": True}).body["version"]
    shown = world.api.call("GET", f"{PATH}/history")
    assert_success(shown)
    versions = shown.body["versions"]
    assert [(item["version"], item["caller"]) for item in versions] == [
        (second, LOCAL.user_arn),
        (first, LOCAL.user_arn),
    ]
    assert [item["changed"] for item in versions] == [["lifetime_s", "suspended"], sorted(settings)]
    restored = world.api.call("POST", f"{PATH}/restore", {"version": first})
    assert_success(restored)
    assert restored.body["settings"] == settings | {"suspended": True}, "it does not end the suspension"
    assert restored.body["version"] not in (first, second)
    missing = world.api.call("POST", f"{PATH}/restore", {"version": "none"})
    assert fields(missing) == ["version"]
    conflict = world.api.call("POST", f"{PATH}/restore", {"version": first}, headers={"If-Match": f'"{second}"'})
    assert_problem(conflict, 412, "version_conflict")
    for method, route in (("GET", "history"), ("POST", "restore")):
        assert_problem(world.api.call(method, f"/v1/connections/unidy/none/{route}"), 404, "unknown_connection")


def test_a_check_names_the_faults_and_stores_nothing(world: World) -> None:
    def faults(settings: Any) -> list[str]:
        response = world.api.call("POST", f"{PATH}/check", body=settings)
        assert_success(response)
        return [fault["field"] for fault in response.body["errors"]]

    assert faults(world.settings("unidy")) == []
    assert faults(world.settings("unidy", lifetime_s=0, colour="red")) == ["lifetime_s", "colour"]
    assert faults([]) == [""]
    assert listed(world) == []


def test_a_version_protects_against_a_concurrent_change(world: World) -> None:
    settings = world.settings("unidy")
    created = world.api.put("unidy/demo", settings, If_None_Match="*")
    assert created.status == 201
    assert_problem(world.api.put("unidy/demo", settings, If_None_Match="*"), 412, "version_conflict")
    etag = created.headers["etag"]
    assert world.api.put("unidy/demo", settings, If_Match=etag).status == 200
    assert_problem(world.api.put("unidy/demo", settings, If_Match=etag), 412, "version_conflict")
    removed = world.api.call("DELETE", PATH, headers={"If-Match": etag})
    assert_problem(removed, 412, "version_conflict")
    assert world.api.put("unidy/demo", settings, If_Match="*").status == 200


def test_if_match_star_needs_existing_settings(world: World) -> None:
    """RFC 9110 section 13.1.1: If-Match: * is false if there are no settings yet."""
    assert_problem(world.api.put("unidy/demo", world.settings("unidy"), If_Match="*"), 412, "version_conflict")
    assert listed(world) == []


@pytest.mark.parametrize("header", ['"v1"', "", "*, *"])
def test_if_none_match_can_only_be_a_star(world: World, header: str) -> None:
    assert fields(world.api.put("unidy/demo", world.settings("unidy"), If_None_Match=header)) == ["If-None-Match"]


def test_settings_for_an_unknown_provider_are_rejected(world: World) -> None:
    assert_problem(world.api.put("acme/demo", world.settings("unidy")), 404, "unknown_provider")
    assert_problem(world.api.call("GET", "/v1/connections/acme/demo"), 404, "unknown_provider")
    assert_problem(world.api.call("GET", PATH), 404, "unknown_connection")
    assert_problem(world.api.call("DELETE", PATH), 404, "unknown_connection")


def test_delete_drops_the_tokens_and_keeps_the_secret(world: World) -> None:
    name = world.connect("unidy")
    token_id = world.api.token(name).body["token_id"]
    response = world.api.call("DELETE", PATH)
    assert_success(response)
    assert (response.body["dropped"], response.body["revoked"]) == (1, [])
    (left,) = response.body["not_revoked"]
    assert (left["token_id"], left["reason"]) == (token_id, "queued")
    assert response.body["secret"] == "kept"
    assert world.aws.secrets.get_secret_value(SecretId=world.aws.secret_id(name))["SecretString"]
    assert_problem(world.api.token(name), 404, "unknown_connection")
    # The function that deletes cannot open tokens, so the worker revokes them.
    (message,) = world.aws.messages()
    assert world.work(message) == {"batchItemFailures": []}
    assert world.report("unidy")["live_tokens"] == []


def test_the_catalogue_shows_what_a_connection_of_each_provider_needs(world: World) -> None:
    response = world.api.call("GET", "/v1/providers")
    assert_success(response)
    found = {item["slug"]: item for item in response.body["providers"]}
    assert set(found) == set(load_catalogue()) >= set(PROVIDERS)
    for item in found.values():
        assert set(item) == {"slug", "title", "grant", "credentials", "settings", "consent", "documentation", "proof"}
        assert item["documentation"].startswith("https://")
        assert all(
            set(setting) == {"name", "kind", "choices", "required", "default", "help"} for setting in item["settings"]
        )
    for slug in PROVIDERS:
        item = found[slug]
        named = {setting["name"]: setting for setting in item["settings"]}
        assert named["allowed_callers"]["required"] is True
        assert set(world.settings(slug)) <= set(named)
        needed = {name for name, setting in named.items() if setting["required"]}
        assert needed <= set(world.settings(slug))
        assert {entry["name"] for entry in item["credentials"]} == set(DEFAULT_ACCOUNTS[slug]["secret"])
    assert found["unidy"]["grant"] == "client_credentials"


def test_health_is_ok_while_the_tables_work(world: World) -> None:
    response = world.api.call("GET", "/v1/health")
    assert_success(response)
    assert set(response.body) == {"status", "version", "checks"}
    assert response.body["status"] == "ok"
    assert set(response.body["checks"].values()) == {"ok"}


def test_health_names_the_table_that_fails(world: World) -> None:
    world.functions.restart(TOKEN_TABLE="no-such-table")
    response = world.api.call("GET", "/v1/health")
    assert response.status == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert response.body["code"] == "broker_unavailable"
    assert response.body["checks"] == {"connections": "ok", "tokens": "failing"}
    assert int(response.headers["retry-after"]) > 0


@pytest.fixture
def own_files(world: World, tmp_path: Path) -> Path:
    """A platform team's layer: a provider of its own, one with a fault, and one with the name of a built-in one."""
    for name in ("oauth2.toml", "examples/oauth2.toml"):
        target = (tmp_path / name).with_name("acme.toml")
        target.parent.mkdir(exist_ok=True)
        shutil.copy(BUILT_IN / name, target)
    (tmp_path / "broken.toml").write_text('title = "Broken"', encoding="utf-8")
    (tmp_path / "unidy.toml").write_text('title = "Not Unidy"', encoding="utf-8")
    world.functions.restart(PROVIDER_FILES=str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("own_files")
def test_a_provider_of_the_layer_works_like_one_of_the_brokers(world: World) -> None:
    assert_success(world.api.put("acme/demo", world.settings("oauth2")), 201)
    world.aws.create_secret("acme/demo", DEFAULT_ACCOUNTS["oauth2"]["secret"])
    assert world.api.token("acme/demo").status == 200
    found = {item["slug"]: item for item in world.api.call("GET", "/v1/providers").body["providers"]}
    assert found["acme"] == {**found["oauth2"], "slug": "acme"}
    assert (found["unidy"]["title"], "broken" in found) == ("Unidy", False)


@pytest.mark.usefixtures("own_files")
def test_a_faulty_file_of_the_layer_is_named_and_disturbs_no_other(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    health = world.api.call("GET", "/v1/health")
    assert_success(health)
    faulty = {
        item["file"]: {fault["field"] for fault in item["errors"]} for item in health.body["faulty_provider_files"]
    }
    assert faulty == {
        "broken.toml": {"request", "grant", "credentials", "documentation", "request.url"},
        "unidy.toml": {"file name"},
    }
    assert caplog.messages.count("faulty_provider_file") == len(faulty)
    refused = world.api.put("broken/demo", {"allowed_callers": ["*"]})
    assert_problem(refused, 409, "connection_misconfigured")
    assert_problem(refused, 409, "connection_misconfigured")
    assert {fault["field"] for fault in refused.body["errors"]} == faulty["broken.toml"]
    assert world.api.token(world.connect("unidy")).status == 200


def test_a_connection_whose_provider_is_gone_is_shown_and_can_be_deleted(world: World, own_files: Path) -> None:
    assert_success(world.api.put("acme/demo", world.settings("oauth2")), 201)
    world.aws.create_secret("acme/demo", DEFAULT_ACCOUNTS["oauth2"]["secret"])
    token_id = world.api.token("acme/demo").body["token_id"]
    (own_files / "acme.toml").unlink()
    load_catalogue.cache_clear()
    world.functions.restart()
    assert_problem(world.api.token("acme/demo"), 404, "unknown_provider")
    assert world.api.call("GET", "/v1/connections/acme/demo").body["state"] == "misconfigured"
    deleted = world.api.call("DELETE", "/v1/connections/acme/demo")
    assert_success(deleted)
    assert [item["token_id"] for item in deleted.body["not_revoked"]] == [token_id]
    assert deleted.body["not_revoked"][0]["reason"] == "settings_invalid"

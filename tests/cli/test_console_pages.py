"""The console's pages over a running broker."""

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime

import pytest

from local.front import Front
from local.ports import listen
from local.providers import DEFAULT_ACCOUNTS
from local.sigv4 import LOCAL
from local.stack import Stack
from token_broker_cli.console.context import DENIAL_S

from .conftest import Cli, new_name
from .console import Console, fields_of, running_console

NEW = "the-new-secret-that-works"
WRONG = "not-the-secret-of-anybody"


@pytest.fixture
def console(running: Stack) -> Iterator[Console]:
    with running_console(running) as console:
        yield console


def test_the_overview_lists_what_fails_first_and_says_why(cli: Cli, console: Console) -> None:
    good = cli.connect()
    assert cli.token("unidy", good).status == 200
    bad = cli.connect(credentials={"client_id": "nobody", "client_secret": "wrong"})
    assert cli.token("unidy", bad).status == 502
    text = console.visitor().get("/").text
    assert text.index(f"/connections/unidy/{bad}") < text.index(f"/connections/unidy/{good}")
    assert "The provider refused the credentials (invalid_client)" in text
    assert "Callers get no token." in text


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("state=failing", ["bad"]),
        ("state=ok", ["good"]),
        ("provider=unidy", ["bad", "good"]),
        ("provider=ucommerce", []),
        ("text=INVALID_CLIENT", ["bad"]),
        ("text=no%20such%20text", []),
        ("state=ok&provider=unidy&page=99", ["good"]),
    ],
)
def test_the_overview_can_be_filtered(cli: Cli, console: Console, query: str, shown: list[str]) -> None:
    names = {
        "good": cli.connect(),
        "bad": cli.connect(credentials={"client_id": "nobody", "client_secret": "wrong"}),
    }
    for name in names.values():
        cli.token("unidy", name)
    text = console.visitor().get(f"/?{query}").text
    table = text.partition("<aside>")[0]
    assert [key for key, name in sorted(names.items()) if f"/connections/unidy/{name}" in table] == shown


def test_a_connection_shows_its_failure_in_words_and_what_to_do(cli: Cli, console: Console) -> None:
    name = cli.connect(credentials={"client_id": "nobody", "client_secret": "wrong"})
    assert cli.token("unidy", name).status == 502
    text = console.visitor().get(f"/connections/unidy/{name}").text
    assert "The provider refused the credentials." in text
    assert "invalid_client" in text
    assert "If its credentials were changed, rotate them here." in text.replace("\n", " ")


def test_a_trial_says_that_the_credentials_work(cli: Cli, console: Console) -> None:
    name = cli.connect()
    visitor = console.visitor()
    assert visitor.post(f"/connections/unidy/{name}/trial", {}).status == 303
    text = visitor.get(f"/connections/unidy/{name}").text
    assert "The current credentials work. A token is valid for 1 h 59 min" in text
    assert "The current credentials work." not in visitor.get(f"/connections/unidy/{name}").text


def test_wrong_credentials_change_nothing_and_are_on_no_page(cli: Cli, console: Console) -> None:
    name = cli.connect()
    before = cli.stages("unidy", name)
    visitor = console.visitor()
    page = visitor.post(f"/connections/unidy/{name}/rotate", {"credential.client_secret": WRONG})
    assert page.status == 422
    assert "Unidy gave no token: The provider refused the credentials." in page.text
    assert "Nothing was changed: the old credentials stay current." in page.text
    assert "--" not in page.text.partition('class="problem"')[2].partition("</div>")[0], "no option of the command"
    assert WRONG not in page.text
    assert cli.stages("unidy", name) == before


def test_working_credentials_become_current(cli: Cli, console: Console) -> None:
    name = cli.connect()
    cli.running.providers.simulator("unidy").rotate_secret({"client_secret": NEW})
    visitor = console.visitor()
    assert visitor.post(f"/connections/unidy/{name}/rotate", {"credential.client_secret": f" {NEW}\n"}).status == 303
    text = visitor.get(f"/connections/unidy/{name}").text
    assert "The new credentials work and are current." in text
    assert NEW not in text
    assert cli.value("unidy", name)["client_secret"] == NEW
    assert cli.token("unidy", name).status == 200


def test_suspend_and_resume(cli: Cli, console: Console) -> None:
    name = cli.connect()
    visitor = console.visitor()
    assert "Within 30 seconds no caller gets a token" in visitor.get(f"/connections/unidy/{name}/suspend").text
    assert visitor.post(f"/connections/unidy/{name}/suspend", {}).status == 303
    assert cli.token("unidy", name).body["code"] == "connection_suspended"
    assert visitor.post(f"/connections/unidy/{name}/resume", {}).status == 303
    assert cli.token("unidy", name).status == 200


def test_revoke_ends_the_tokens_and_suspends_if_asked_to(cli: Cli, console: Console) -> None:
    name = cli.connect()
    token = cli.token("unidy", name).body["token_id"]
    visitor = console.visitor()
    assert visitor.post(f"/connections/unidy/{name}/revoke", {"suspend": "on"}).status == 303
    assert "1 dropped, 1 revoked at the provider." in visitor.get(f"/connections/unidy/{name}").text
    live = cli.running.providers.simulator("unidy").report()["live_tokens"]
    assert token not in [item["token_id"] for item in live]
    assert cli.settings("unidy", name)["suspended"] is True


def test_settings_are_changed_after_a_review(cli: Cli, console: Console) -> None:
    name = cli.connect()
    visitor = console.visitor()
    form = visitor.form(f"/connections/unidy/{name}/edit")
    form["setting.lifetime_s"] = "600"
    form["setting.allowed_scopes"] = "users:read\r\nusers:write"
    review = visitor.submit(f"/connections/unidy/{name}/edit", form)
    assert review.status == 200
    assert re.search(
        r'lifetime_s</th>\s*<td[^>]*><span class="muted">not set</span></td>\s*<td[^>]*><ins class="code">600</ins>',
        review.text,
    )
    assert "lifetime_s" not in cli.settings("unidy", name)
    stored = visitor.submit(f"/connections/unidy/{name}/edit", fields_of(review.text))
    assert stored.status == 303
    assert cli.settings("unidy", name)["lifetime_s"] == 600
    assert cli.settings("unidy", name)["allowed_scopes"] == ["users:read", "users:write"]


@pytest.mark.parametrize(
    ("setting", "text", "fault"),
    [
        ("lifetime_s", "soon", "lifetime_s must be a whole number of seconds."),
        ("base_url", "", "base_url is required."),
        ("base_url", "not a url", "base_url"),
        ("allowed_callers", "nobody", "allowed_callers"),
    ],
)
def test_a_fault_stands_at_its_field_and_nothing_is_lost(
    cli: Cli, console: Console, setting: str, text: str, fault: str
) -> None:
    name = cli.connect()
    before = cli.settings("unidy", name)
    visitor = console.visitor()
    path = f"/connections/unidy/{name}/edit"
    form = {**visitor.form(path), "setting.scope": "users:write", f"setting.{setting}": text}
    page = visitor.submit(path, form)
    if page.status == 200:
        page = visitor.submit(path, fields_of(page.text))
    assert page.status == 422
    assert re.search(rf'id="setting-{setting}-fault">{re.escape(fault)}', page.text), page.text
    assert f'aria-describedby="setting-{setting}-help setting-{setting}-fault"' in page.text
    assert fields_of(page.text)["setting.scope"] == "users:write"
    assert cli.settings("unidy", name) == before


def test_a_change_of_somebody_else_is_not_overwritten(cli: Cli, console: Console) -> None:
    name = cli.connect()
    visitor = console.visitor()
    path = f"/connections/unidy/{name}/edit"
    review = visitor.submit(path, {**visitor.form(path), "setting.lifetime_s": "600"})
    theirs = {**cli.settings("unidy", name), "lifetime_s": 900}
    assert cli.request("PUT", f"/v1/connections/unidy/{name}", theirs).status == 200
    page = visitor.submit(path, fields_of(review.text))
    assert page.status == 422
    assert "Somebody else has changed these settings" in page.text
    assert cli.settings("unidy", name) == theirs


def test_a_connection_is_added_if_its_credentials_work(cli: Cli, console: Console) -> None:
    name = new_name()
    visitor = console.visitor()
    assert 'href="/add/unidy"' in visitor.get("/add?text=unidy").text
    form = visitor.form("/add/unidy")
    assert form["setting.allowed_callers"] == LOCAL.arn
    settings = cli.plain_settings("unidy")
    form |= {"name": name, "setting.base_url": settings["base_url"], "setting.scope": "users:read"}
    secret = {f"credential.{field}": value for field, value in DEFAULT_ACCOUNTS["unidy"]["secret"].items()}
    refused = visitor.submit("/add/unidy", {**form, **secret, "credential.client_secret": WRONG})
    assert refused.status == 422
    assert "Nothing was kept." in refused.text
    assert WRONG not in refused.text
    assert fields_of(refused.text)["setting.scope"] == "users:read"
    assert cli.settings("unidy", name) is None
    assert cli.stages("unidy", name) is None


def test_an_added_connection_issues_tokens(cli: Cli, console: Console) -> None:
    name = new_name()
    visitor = console.visitor()
    settings = cli.plain_settings("unidy")
    form = visitor.form("/add/unidy")
    form |= {"name": name, "setting.base_url": settings["base_url"], "setting.scope": "users:read"}
    form |= {f"credential.{field}": value for field, value in DEFAULT_ACCOUNTS["unidy"]["secret"].items()}
    assert visitor.submit("/add/unidy", form).status == 303
    assert f"unidy/{name} is ready." in visitor.get(f"/connections/unidy/{name}").text
    assert cli.token("unidy", name).status == 200


@pytest.mark.parametrize("name", ["", "Capital", "-x", "a" * 64, "<b>", "two words"])
def test_a_name_that_cannot_be_one_is_a_fault_of_its_field(console: Console, name: str) -> None:
    visitor = console.visitor()
    form = {**visitor.form("/add/unidy"), "name": name, "setting.base_url": "https://x.example", "setting.scope": "a"}
    page = visitor.submit("/add/unidy", form)
    assert page.status == 422
    assert 'id="name-fault"' in page.text


def test_a_leaked_token_is_found_by_its_token_id(cli: Cli, console: Console) -> None:
    name = cli.connect()
    token_id = cli.token("unidy", name).body["token_id"]
    text = console.visitor().get(f"/audit?leaked={token_id}").text
    assert f"/connections/unidy/{name}/revoke" in text
    assert "live, expires" in text
    assert "arn:aws:sts::123456789012:assumed-role/local/" in text


def test_a_token_is_not_accepted_as_a_token_id(cli: Cli, console: Console) -> None:
    token = cli.token("unidy", cli.connect()).body["access_token"]
    page = console.visitor().get(f"/audit?leaked={token}")
    assert page.status == 400
    assert token not in page.text


def test_the_field_for_a_leaked_token_is_never_sent(console: Console) -> None:
    field = re.search(r'<input id="leaked-token"[^>]*>', console.visitor().get("/audit").text)
    assert field is not None
    assert "name=" not in field[0]


def test_an_unknown_connection_and_page(console: Console) -> None:
    visitor = console.visitor()
    assert visitor.get("/connections/unidy/nothing").status == 404
    assert visitor.get("/connections/unidy/demo/nothing").status == 404
    assert visitor.get("/connections/unidy/..%2Fdemo").status == 404
    assert visitor.get("/add/nothing").status == 404


def test_a_denied_permission_disables_the_action_and_is_named(cli: Cli, running: Stack) -> None:
    """A gateway without the trial's route denies it, as API Gateway denies a route that IAM does not allow."""
    name = cli.connect()
    gateway = running.gateway(running.pools)
    gateway._routes = [route for route in gateway._routes if not route.resource.endswith("/trial")]
    with closing(Front(listen(0), gateway)) as front, running_console(running, options={"url": front.url}) as console:
        visitor = console.visitor()
        permission = f"execute-api:Invoke on POST/v1/connections/unidy/{name}/trial"
        page = visitor.post(f"/connections/unidy/{name}/trial", {})
        assert page.status == 422
        assert permission in page.text
        assert '<button type="submit" class="primary" disabled>' in page.text
        shown = visitor.get(f"/connections/unidy/{name}").text
        assert f'title="Needs {permission}"' in shown
        assert f'href="/connections/unidy/{name}/trial"' not in shown
        assert f'href="/connections/unidy/{name}/suspend"' in shown
        console.seconds.now += DENIAL_S
        assert f'href="/connections/unidy/{name}/trial"' in visitor.get(f"/connections/unidy/{name}").text


def test_a_broker_that_does_not_respond_is_named(running: Stack) -> None:
    with running_console(running, options={"url": "http://127.0.0.1:1"}) as console:
        page = console.visitor().get("/")
        assert page.status == 502
        assert "No response from the broker" in page.text


def test_the_history_shows_each_change_and_restores_a_version(cli: Cli, console: Console) -> None:
    name = cli.connect(lifetime_s=900)
    first = cli.settings("unidy", name)
    assert cli.request("PUT", f"/v1/connections/unidy/{name}", {**first, "lifetime_s": 600}).status == 200
    visitor = console.visitor()
    text = visitor.get(f"/connections/unidy/{name}/history").text
    assert re.search(r'<del class="code">900</del></td>\s*<td[^>]*><ins class="code">600</ins>', text)
    (path,) = re.findall(r'href="([^"]+/restore\?version=[^"]+)"', text)
    confirmation = visitor.get(path).text
    assert re.search(r'<del class="code">600</del></td>\s*<td[^>]*><ins class="code">900</ins>', confirmation)
    assert visitor.submit(path.partition("?")[0], fields_of(confirmation)).status == 303
    assert cli.settings("unidy", name) == first


def test_the_audit_page_says_who_got_a_token_and_who_changed_what(cli: Cli, console: Console) -> None:
    name = cli.connect()
    token_id = cli.token("unidy", name).body["token_id"]
    settings = cli.settings("unidy", name)
    assert cli.request("PUT", f"/v1/connections/unidy/{name}", {**settings, "lifetime_s": 600}).status == 200
    visitor = console.visitor()
    text = visitor.get(f"/audit?connection=unidy%2F{name}&caller=local&event=&since=1h").text
    assert token_id in text
    assert "lifetime_s absent → 600" in text
    assert "assumed-role/local" in text
    assert "lifetime_s absent → 600" in visitor.get(f"/connections/unidy/{name}/recent").text
    assert "no such entry" in visitor.get("/audit?caller=nobody&since=1h").text


@pytest.mark.parametrize("query", ["since=ever", "since=1h&connection=unidy", "leaked=nonsense"])
def test_a_search_that_cannot_be_made_is_no_page(console: Console, query: str) -> None:
    assert console.visitor().get(f"/audit?{query}").status == 400


def test_a_bug_of_the_console_is_named_without_its_text(console: Console) -> None:
    visitor = console.visitor()
    console.site._context.now = _fail
    page = visitor.get("/audit")
    assert page.status == 500
    assert WRONG not in page.text


def _fail() -> datetime:
    raise ValueError(WRONG)

"""The console's door: each rule, and what somebody would try against it."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local.stack import Stack
from token_broker_cli.console.command import redirect_file
from token_broker_cli.console.door import IDLE_S, LINK_LIFE_S, SESSION_LIFE_S
from token_broker_cli.console.site import HEADERS, ROUTES

from .conftest import Cli
from .console import Console, Visitor, running_console

PATHS = sorted({(route.method, re.sub(r"\{\w+\}", "demo", route.pattern)) for route in ROUTES})


@pytest.fixture
def console(running: Stack) -> Iterator[Console]:
    with running_console(running) as console:
        yield console


def test_a_link_opens_one_session(console: Console) -> None:
    link = console.site.door.new_link()
    first = console.stranger()
    assert first.open(link).status == 200
    assert first.get("/").status == 200
    second = console.stranger()
    assert second.open(link).status == 403
    assert second.get("/").status == 401


def test_a_link_lives_for_a_minute(console: Console) -> None:
    link = console.site.door.new_link()
    console.seconds.now += LINK_LIFE_S + 1
    assert console.stranger().open(link).status == 403


def test_a_new_link_ends_the_one_before(console: Console) -> None:
    before = console.site.door.new_link()
    console.site.door.new_link()
    assert console.stranger().open(before).status == 403


@pytest.mark.parametrize("query", ["", "?code=", "?code=x", "?code=%C3%A9", "?code=%ff", "?code=x&code=y"])
def test_a_guess_does_not_open_it_and_does_not_end_the_link(console: Console, query: str) -> None:
    link = console.site.door.new_link()
    assert console.stranger().get(f"/open{query}").status in (400, 403)
    assert console.stranger().open(link).status == 200


def test_scripts_and_other_sites_do_not_get_the_cookie(console: Console) -> None:
    page = console.stranger().open(console.site.door.new_link())
    attributes = {part.strip() for part in page.headers["Set-Cookie"].split(";")[1:]}
    assert attributes == {"HttpOnly", "SameSite=Strict", "Path=/"}


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize("cookie", ["", "{name}=", "{name}=guess", "other={value}", "{name}=\x7f; ="])
def test_nothing_is_served_without_a_session(console: Console, method: str, path: str, cookie: str) -> None:
    visitor = console.visitor()
    name, _, value = visitor.cookie.partition("=")
    visitor.cookie = cookie.format(name=name, value=value)
    assert visitor.send(method, path, headers=visitor.form_headers).status == 401


def test_a_session_ends_when_it_is_not_used_and_at_the_latest_after_a_day_of_work(console: Console) -> None:
    visitor = console.visitor()
    for _ in range(int(SESSION_LIFE_S / IDLE_S)):
        console.seconds.now += IDLE_S
        assert visitor.get("/static/console.css").status == 200
    console.seconds.now += 1
    assert visitor.get("/static/console.css").status == 401
    visitor = console.visitor()
    console.seconds.now += IDLE_S + 1
    assert visitor.get("/static/console.css").status == 401


@pytest.mark.parametrize("path", ["/", "/open?code={code}", "/static/console.css"])
@pytest.mark.parametrize(
    "hosts",
    [
        [],
        ["localhost:{port}"],
        ["127.0.0.1"],
        ["127.0.0.1:1"],
        ["evil.example:{port}"],
        ["127.0.0.1:{port}.evil.example"],
        ["[::1]:{port}"],
        ["127.0.0.1:{port}", "127.0.0.1:{port}"],
        ["127.0.0.1:{port}", "evil.example"],
    ],
)
def test_it_answers_to_its_own_host_only(console: Console, path: str, hosts: list[str]) -> None:
    visitor = console.visitor()
    link = urlsplit(console.site.door.new_link())
    lines = [("Host", host.format(port=link.port)) for host in hosts]
    page = visitor.send("GET", path.format(code=link.query.partition("=")[2]), headers=lines)
    assert page.status in (400, 403)
    assert page.headers["Set-Cookie"] is None


def test_a_foreign_name_in_the_request_line_is_no_page(console: Console) -> None:
    assert console.visitor().get("http://evil.example/").status == 404


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_page_cannot_have_the_browser_load_one(console: Console, site: str) -> None:
    """A page of another port of 127.0.0.1 counts as of the same site, so the browser sends the cookie."""
    visitor = console.visitor()
    lines = [("Host", urlsplit(visitor.origin).netloc), ("Sec-Fetch-Site", site)]
    assert visitor.send("GET", "/", headers=lines).status == 403


@pytest.mark.parametrize("path", ["/", "/nothing", "/static/nothing", "/open", "/static/console.js"])
@pytest.mark.parametrize("is_known", [True, False])
def test_every_response_has_the_headers(console: Console, path: str, is_known: bool) -> None:
    page = (console.visitor() if is_known else console.stranger()).get(path)
    for name, value in HEADERS:
        assert page.headers.get_all(name) == [value]
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'; frame-ancestors 'none'")
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "no-referrer"


def test_only_this_machine_can_connect(console: Console) -> None:
    assert urlsplit(console.site.door.origin).hostname == "127.0.0.1"


def test_only_its_owner_can_read_the_file_that_leads_the_browser_to_the_link() -> None:
    file = redirect_file("http://127.0.0.1:1/open?code=secret")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert 'url=http://127.0.0.1:1/open?code=secret"' in file.read_text()
    file.unlink()
    file.parent.rmdir()


def test_the_command_gives_the_browser_a_file_and_not_the_code(cli: Cli, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(
        f'#!/bin/sh\nfile="${{1#file://}}"\n{{ echo "$@"; cat "$file"; }} > {seen}.part\nmv {seen}.part {seen}\n'
    )
    browser.chmod(0o700)
    environment = {"PATH": os.environ["PATH"], "BROWSER": str(browser), "TMPDIR": str(tmp_path)}
    with cli.terminal("console", environment=environment) as terminal:
        terminal.until("Enter: a new link")
        origin = re.search(r"Console: (http://127.0.0.1:\d+)", terminal.output)
        terminal.press(b"\x03")
        assert terminal.end() == 0
    arguments, _, content = seen.read_text().partition("\n")
    link = re.search(r'url=(http://[^"]+)', content)
    assert link is not None
    assert origin is not None
    assert link[1].startswith(f"{origin[1]}/open?code=")
    code = link[1].partition("=")[2]
    assert code not in arguments + terminal.output


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param({"Origin": None}, {}, id="no origin"),
        pytest.param({"Origin": "null"}, {}, id="a sandboxed page"),
        pytest.param({"Origin": "https://evil.example"}, {}, id="another site"),
        pytest.param({"Origin": "http://127.0.0.1:1"}, {}, id="another port"),
        pytest.param({"Origin": "http://localhost:{port}"}, {}, id="another name"),
        pytest.param({"Origin": "https://127.0.0.1:{port}"}, {}, id="another scheme"),
        pytest.param({"Origin": "http://127.0.0.1:{port}/"}, {}, id="not an origin"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, {}, id="a page of another port"),
        pytest.param({"Content-Type": "text/plain"}, {}, id="a form of another kind"),
        pytest.param({"Content-Type": "application/json"}, {}, id="a script"),
        pytest.param({}, {"csrf_token": None}, id="no token"),
        pytest.param({}, {"csrf_token": ""}, id="an empty token"),
        pytest.param({}, {"csrf_token": "guess"}, id="a guessed token"),
        pytest.param({}, {"csrf_token": "{other}"}, id="another session's token"),
        pytest.param({}, {"csrf_token": "{own}&csrf_token={own}"}, id="a token twice"),
    ],
)
def test_a_change_comes_from_a_form_of_its_own_session(
    cli: Cli, console: Console, headers: dict[str, str | None], body: dict[str, str | None]
) -> None:
    name = cli.connect()
    other = console.visitor()
    visitor = console.visitor()
    path = f"/connections/unidy/{name}/suspend"
    tokens = {"own": visitor.csrf_token(path), "other": other.csrf_token(path)}
    assert all(tokens.values())
    lines = {**dict(visitor.form_headers), **headers}
    port = str(urlsplit(visitor.origin).port)
    sent = [(key, value.format(port=port)) for key, value in lines.items() if value is not None]
    fields = {"csrf_token": "{own}", **body}
    text = "&".join(f"{key}={value.format(**tokens)}" for key, value in fields.items() if value is not None)
    page = visitor.send("POST", path, body=text, headers=sent)
    assert page.status in (400, 403, 415)
    assert "suspended" not in cli.settings("unidy", name)
    assert visitor.post(path, {}).status == 303
    assert cli.settings("unidy", name)["suspended"] is True


def test_a_token_in_the_query_is_not_one_in_the_form(cli: Cli, console: Console) -> None:
    name = cli.connect()
    visitor = console.visitor()
    path = f"/connections/unidy/{name}/suspend"
    token = visitor.csrf_token(path)
    assert visitor.send("POST", f"{path}?csrf_token={token}", headers=visitor.form_headers).status == 403
    assert "suspended" not in cli.settings("unidy", name)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "post"])
def test_only_a_post_changes_anything(cli: Cli, console: Console, method: str) -> None:
    name = cli.connect()
    visitor = console.visitor()
    path = f"/connections/unidy/{name}/suspend"
    body = f"csrf_token={visitor.csrf_token(path)}"
    assert visitor.send(method, path, body=body, headers=visitor.form_headers).status in (200, 405)
    assert "suspended" not in cli.settings("unidy", name)


def test_a_read_only_console_changes_nothing_and_offers_nothing(cli: Cli, running: Stack) -> None:
    name = cli.connect()
    with running_console(running) as writable, running_console(running, read_only=True) as console:
        offered = set(
            re.findall(rf"/connections/unidy/{name}/(\w+)", writable.visitor().get(f"/connections/unidy/{name}").text)
        )
        visitor = console.visitor()
        shown = visitor.get(f"/connections/unidy/{name}").text
        assert {"trial", "rotate", "suspend", "revoke", "edit"} <= offered
        assert not set(re.findall(rf"/connections/unidy/{name}/(\w+)", shown)) & {
            "trial",
            "rotate",
            "suspend",
            "revoke",
            "edit",
        }
        for route in (route for route in ROUTES if route.is_for_changes):
            path = route.pattern.format(provider="unidy", name=name, action="suspend")
            (session,) = console.site.door._sessions.values()
            body = f"csrf_token={session.csrf_token}"
            assert visitor.send(route.method, path, body=body, headers=visitor.form_headers).status == 403, path
    assert "suspended" not in cli.settings("unidy", name)


def test_enter_prints_a_new_link(cli: Cli) -> None:
    with cli.terminal("console", "--no-browser") as terminal:
        terminal.until("Enter: a new link")
        terminal.type("")
        terminal.until("Enter: a new link", 2)
        first, second = re.findall(r"http://127\.0\.0\.1:\d+/open\?code=\S+", terminal.output)
        origin = first.partition("/open")[0]
        assert Visitor(origin).open(first).status == 403, "a new link ends the one before"
        visitor = Visitor(origin)
        assert visitor.open(second).status == 200
        assert visitor.get("/").status == 200
        terminal.press(b"\x03")
        assert terminal.end() == 0

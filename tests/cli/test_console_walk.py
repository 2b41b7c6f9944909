"""The console in a real browser: a walk through an incident among 1,000 connections. Needs Chromium: make browser."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Final

import pytest
from playwright.sync_api import Page, expect

from local.client import SignedClient
from local.connections import DEMO_PROVIDERS, aws_client
from local.process import ROOT
from local.providers import DEFAULT_ACCOUNTS, default_settings
from local.sigv4 import LOCAL
from local.stack import Options, Stack
from tests.chromium import chromium_tab

pytestmark = pytest.mark.browser

PICTURES: Final = ROOT / "build" / "console"
AXE: Final = ROOT / ".venv" / "browser" / "node_modules" / "axe-core" / "axe.min.js"
CONNECTIONS: Final = 1_000
FAILING: Final = 20
WITH_TOKEN: Final = 300
# Simulators without a limit that a test could meet.
PROVIDERS: Final = ("unidy", "oauth2", "ucommerce", "unified-services")
WORST: Final = "eu-broken-00"
NEW_SECRET: Final = "the-new-secret-that-works"
WIDTHS: Final = (1280, 420)
TOO_WIDE: Final = """[...document.querySelectorAll("main *")]
    .filter((found) => found.getBoundingClientRect().right > innerWidth)
    .map((found) => found.outerHTML.slice(0, 100))"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    options = Options(api_environments=4, pages=True, sweep_interval_s=1.0, log_dir=tmp_path_factory.mktemp("logs"))
    with Stack(options) as stack:
        _add_connections(stack)
        yield stack


@pytest.fixture
def page(stack: Stack) -> Iterator[Page]:
    """A tab with a session of the console, which loads nothing from elsewhere and has no errors."""
    with chromium_tab(width=1280, height=900) as tab:
        # moto reads the tables of 1,000 connections slowly.
        tab.set_default_timeout(120_000)
        errors: list[str] = []
        requested: list[str] = []
        tab.on("request", lambda request: requested.append(request.url))
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        assert stack.console is not None
        tab.goto(stack.console.door.new_link())
        tab.wait_for_url(f"{stack.url}/")
        yield tab
        # Chromium reports a form that was refused (422) as an error of the page.
        assert [error for error in errors if "422" not in error] == []
        assert [url for url in requested if not url.startswith(stack.url)] == []


def test_an_incident(stack: Stack, page: Page) -> None:
    expect(page.get_by_role("heading", name="Connections", exact=True)).to_be_visible()
    expect(page.get_by_role("navigation", name="States")).to_contain_text("20 failing")
    _picture(page, "overview")

    page.get_by_role("navigation", name="States").get_by_role("link", name="20 failing").click()
    page.get_by_role("combobox", name="Provider").select_option("unidy")
    page.get_by_role("searchbox", name="Text").fill("broken")
    page.get_by_role("button", name="Filter").click()
    rows = page.locator("table.connections tbody tr")
    expect(rows.first).to_contain_text("The provider refused the credentials (invalid_client)")
    expect(rows).to_have_count(FAILING // len(PROVIDERS))
    _picture(page, "filtered")

    rows.first.locator(f'a[href="/connections/unidy/{WORST}"]').click()
    expect(page.locator("h1 .state")).to_have_text("failing")
    expect(page.get_by_text("What to do")).to_be_visible()
    _picture(page, "failing")

    page.get_by_role("link", name="Rotate the credentials").click()
    _picture(page, "rotate")
    page.locator("#credential-client_secret").fill("wrong-again")
    page.get_by_role("button", name="Rotate the credentials").click()
    expect(page.get_by_role("alert")).to_contain_text("Unidy gave no token")
    expect(page.get_by_role("alert")).to_contain_text("the old credentials stay current")
    expect(page.locator("#credential-client_secret")).to_have_value("")
    _picture(page, "refused")

    page.locator("#credential-client_id").fill(DEFAULT_ACCOUNTS["unidy"]["secret"]["client_id"])
    page.locator("#credential-client_secret").fill(DEFAULT_ACCOUNTS["unidy"]["secret"]["client_secret"])
    page.get_by_role("button", name="Rotate the credentials").click()
    expect(page.get_by_role("status").first).to_contain_text("The new credentials work and are current.")
    # A caller asks again. The page reloads by itself, so the person watches the connection recover.
    with closing(SignedClient(stack.url)) as client:
        assert client.call("GET", f"/v1/tokens/unidy/{WORST}").status == 200
    expect(page.locator("h1 .state")).to_have_text("ok", timeout=30_000)
    expect(page.get_by_text("expires in")).to_be_visible()
    _picture(page, "recovered")


def test_a_connection_is_added(stack: Stack, page: Page) -> None:
    page.get_by_role("link", name="Add a connection").click()
    page.get_by_label("Provider").fill("unid")
    expect(page.locator("#providers > li:visible")).to_have_count(1)
    _picture(page, "providers")
    page.get_by_role("link", name="Unidy").click()
    settings = default_settings("unidy", stack.providers_url)
    page.locator("#name").fill("added")
    page.locator("#setting-base_url").fill("nonsense")
    page.locator("#setting-scope").fill(settings["scope"])
    for field, value in DEFAULT_ACCOUNTS["unidy"]["secret"].items():
        page.locator(f"#credential-{field}").fill(value)
    _picture(page, "add")
    page.get_by_role("button", name="Try and add").click()
    expect(page.locator("#setting-base_url-fault")).to_be_visible()
    _picture(page, "add-fault")
    page.locator("#setting-base_url").fill(settings["base_url"])
    for field, value in DEFAULT_ACCOUNTS["unidy"]["secret"].items():
        page.locator(f"#credential-{field}").fill(value)
    page.get_by_role("button", name="Try and add").click()
    expect(page.get_by_role("status").first).to_contain_text("unidy/added is ready.")


def test_settings_are_changed(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.url}/connections/unidy/demo/edit")
    lifetime = page.locator("#setting-lifetime_s")
    if not lifetime.is_visible():
        page.get_by_text("Further settings").click()
    lifetime.fill("600")
    page.get_by_role("button", name="Review the change").click()
    expect(page.locator("table.diff")).to_contain_text("lifetime_s")
    _picture(page, "review")
    page.get_by_role("button", name="Store").click()
    expect(page.get_by_role("status").first).to_contain_text("The settings are stored.")
    expect(page.locator("[data-load] table")).to_contain_text("lifetime_s absent → 600")
    page.get_by_role("link", name="History").click()
    _picture(page, "history")


def test_a_leaked_token_is_found_and_ended(stack: Stack, page: Page) -> None:
    with closing(SignedClient(stack.url)) as client:
        leaked = client.call("GET", "/v1/tokens/unidy/demo").body
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url + (request.post_data or "")))
    page.get_by_role("link", name="Audit").click()
    page.get_by_label("Token, or its token_id").fill(f"Bearer {leaked['access_token']}")
    page.get_by_role("button", name="Find who has it").click()
    page.wait_for_url(re.compile(leaked["token_id"]))
    expect(page.get_by_text("is ours")).to_be_visible()
    expect(page.locator("table.rows").last).to_contain_text("assumed-role/local")
    _picture(page, "leaked")
    page.get_by_role("link", name="End it").click()
    page.get_by_label("Suspend the connection first").check()
    _picture(page, "revoke")
    page.get_by_role("button", name="Revoke the tokens").click()
    expect(page.get_by_role("status").first).to_contain_text("1 revoked at the provider")
    expect(page.locator("h1 .state")).to_have_text("suspended")
    assert leaked["access_token"] not in "".join(sent)
    live = stack.providers.simulator("unidy").report()["live_tokens"]
    assert leaked["token_id"] not in [item["token_id"] for item in live]


def test_the_keyboard_reaches_everything(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.textContent.trim() || document.activeElement.name"))
    assert {"Add a connection", "text", "Filter"} <= reached


def test_the_overview_of_1000_connections_opens_at_once(stack: Stack, page: Page) -> None:
    """The limit is far above what it takes, because the machine may be busy."""
    began = time.monotonic()
    page.goto(stack.url)
    assert time.monotonic() - began < 3
    expect(page.get_by_role("navigation", name="States")).to_contain_text("1,00")


def _picture(page: Page, name: str) -> None:
    """Pictures for people at both widths, light and dark, and axe-core on each. git ignores them."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(TOO_WIDE) == [], f"{name} is wider than {width} px"
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=PICTURES / f"{name}-{width}-{scheme}.png", full_page=True)
            _check_accessibility(page, f"{name} at {width} px, {scheme}")
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.emulate_media(color_scheme="light")


def _check_accessibility(page: Page, where: str) -> None:
    # The page's policy admits no script of ours; evaluate() runs beside it.
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found: Any = page.evaluate("axe.run({resultTypes: ['violations']})")
    faults = [
        (fault["id"], fault["help"], [node["html"] for node in fault["nodes"]][:3])
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
    assert faults == [], where


def _add_connections(stack: Stack) -> None:
    """Connections at several providers. Some fail, and some have a token."""
    secrets = aws_client("secretsmanager", stack.endpoint_url)

    def add(number: int) -> None:
        provider = PROVIDERS[number % len(PROVIDERS)]
        fails = number < FAILING
        name = f"eu-broken-{number:02}" if fails else f"shop-{number:03}"
        secret = dict(DEFAULT_ACCOUNTS[provider]["secret"])
        if fails:
            secret["client_secret"] = "an-old-secret"
        secrets.create_secret(
            Name=f"{stack.resources.secret_prefix}/{provider}/{name}", SecretString=json.dumps(secret)
        )
        settings = {"allowed_callers": [LOCAL.arn], **default_settings(provider, stack.providers_url)}
        with closing(SignedClient(stack.url)) as client:
            assert client.call("PUT", f"/v1/connections/{provider}/{name}", body=settings).status == 201
            if number < WITH_TOKEN:
                status = client.call("GET", f"/v1/tokens/{provider}/{name}").status
                assert (status == 502) == fails, f"{provider}/{name}: {status}"

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, range(CONNECTIONS - len(DEMO_PROVIDERS))))

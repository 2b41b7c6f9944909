"""The documentation page of `make run`, also in a real browser. That needs Chromium: make browser."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
import requests
from playwright.sync_api import Page, expect

from local.client import SignedClient
from local.docs_page import pages
from local.front import Front
from local.ports import listen
from local.process import ROOT
from local.sigv4 import LOCAL
from local.stack import Options, Stack
from tests.chromium import chromium_tab

SCREENSHOT: Final = ROOT / "build" / "docs.png"
TOKEN_OF_UNIDY: Final = "/v1/tokens/unidy/demo"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    options = Options(api_environments=2, worker_environments=1, ticks=False, log_dir=tmp_path_factory.mktemp("logs"))
    with Stack(options) as stack:
        yield stack


@pytest.fixture
def docs(stack: Stack) -> Iterator[str]:
    """The stack's gateway with the page. Signatures are verified."""
    with closing(Front(listen(0), stack.gateway(stack.pools), pages(LOCAL, stack.providers_url))) as front:
        yield front.url


def test_the_page_and_the_document_need_no_signature_and_the_api_does(docs: str) -> None:
    assert requests.get(f"{docs}/docs", timeout=5).headers["content-type"].startswith("text/html")
    document = requests.get(f"{docs}/openapi.json", timeout=5).json()
    checked_in = json.loads((ROOT / "docs" / "openapi.json").read_text())
    assert document["paths"] == checked_in["paths"]
    assert document["security"] == checked_in["security"]
    assert requests.get(f"{docs}{TOKEN_OF_UNIDY}", timeout=5).json()["code"] == "access_denied"
    assert requests.post(f"{docs}/docs", timeout=5).json()["code"] == "access_denied"


def test_the_prefilled_put_creates_a_connection(docs: str) -> None:
    shown = requests.get(f"{docs}/docs/document.json", timeout=5).json()
    put = shown["paths"]["/v1/connections/{provider}/{connection}"]["put"]
    path = "/v1/connections/{provider}/{connection}"
    for parameter in put["parameters"]:
        if parameter.get("in") == "path":
            path = path.replace("{" + parameter["name"] + "}", parameter["example"])
    examples = put["requestBody"]["content"]["application/json"]["examples"]
    first = next(iter(examples.values()))["value"]
    with closing(SignedClient(docs)) as client:
        created = client.call("PUT", path, body=first)
        client.call("DELETE", path)
    assert created.status == 201, created.body
    assert len(examples) == 6


def test_the_page_does_not_prompt_for_a_signature(docs: str) -> None:
    shown = requests.get(f"{docs}/docs/document.json", timeout=5).json()
    assert "security" not in shown
    assert "securitySchemes" not in shown["components"]


@pytest.fixture
def page() -> Iterator[Page]:
    with chromium_tab(width=1200, height=1400) as tab:
        yield tab


@pytest.mark.browser
def test_a_token_is_requested_through_the_page(docs: str, page: Page) -> None:
    requested: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(f"{docs}/docs")
    page.locator("#operations-Tokens-get_token .opblock-summary-control").click()
    operation = page.locator("#operations-Tokens-get_token")
    operation.locator("tr[data-param-name=scope] input").fill("users:write users:read")
    operation.locator("tr[data-param-name=rejected] input").fill("")
    operation.get_by_role("button", name="Execute").click()
    response = operation.locator(".live-responses-table .response")
    expect(response.locator(".response-col_status")).to_contain_text("200", timeout=20_000)
    _screenshot(page, SCREENSHOT)
    body: Any = json.loads(response.locator(".highlight-code code").first.inner_text())
    assert (body["provider"], body["scope"], body["source"]) == ("unidy", "users:read users:write", "provider")
    assert body["headers"]["Authorization"] == f"Bearer {body['access_token']}"
    assert errors == []
    assert [url for url in requested if not url.startswith((docs, "data:"))] == []


@pytest.mark.browser
def test_a_connection_is_created_through_the_page_as_it_is_prefilled(docs: str, page: Page) -> None:
    page.goto(f"{docs}/docs")
    page.locator("#operations-Connections-put_connection .opblock-summary-control").click()
    operation = page.locator("#operations-Connections-put_connection")
    operation.get_by_role("button", name="Execute").click()
    response = operation.locator(".live-responses-table .response")
    expect(response.locator(".response-col_status")).to_contain_text("201", timeout=20_000)
    expect(page.get_by_role("button", name="Authorize")).to_have_count(0)


def _screenshot(page: Page, path: Path) -> None:
    """For people. git ignores it."""
    path.parent.mkdir(exist_ok=True)
    page.locator("#operations-Tokens-get_token").screenshot(path=path)

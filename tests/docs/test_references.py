"""What the documentation refers to exists: make targets, commands, routes, files, events, links."""

from __future__ import annotations

import re
from typing import Final

import pytest

from local.process import ROOT
from local.resources import load_template, routes_of, translate
from tests.cli.test_usage import LEAVES, TYPED, words
from tests.docs.markdown import PAGES, Page, page
from token_broker_cli.agent.routes import ROUTE as AGENT_ROUTE
from token_broker_cli.usage import parse

MAKEFILE: Final = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS: Final = set(re.findall(r"^([a-z0-9-]+):.*## ", MAKEFILE, re.MULTILINE))
BROKER: Final = ROOT / "layers" / "broker" / "token_broker"
# Folders that only exist after a command.
WRITTEN: Final = ("build/", ".aws-sam/", ".venv/")
# A method and path, or a URL of the local stack.
ROUTE: Final = re.compile(r"\b(?:(GET|PUT|POST|DELETE) |http://127\.0\.0\.1:3000)(/v1/[^\s`?\".,;)]*)")
PATH: Final = re.compile(r"(?:[\w.-]+/)+[\w.-]+\.(?:py|md|toml|json|yaml|txt|in)")


def ids(value: object) -> str:
    return str(value)


@pytest.mark.parametrize("document", PAGES, ids=ids)
def test_every_make_command_that_a_page_names_exists(document: Page) -> None:
    for command in document.commands():
        for line in re.findall(r"(?:^|&& |; )make ([^|;&#`]+)", command):
            targets = [word for word in line.split() if re.fullmatch(r"[a-z][a-z0-9-]*", word)]
            assert set(targets) <= TARGETS, command


def test_contributing_describes_every_make_command() -> None:
    described = set(re.findall(r"^\| `make ([a-z0-9-]+)", page("CONTRIBUTING.md").text, re.MULTILINE))
    assert described == TARGETS - {"help"}


@pytest.mark.parametrize("document", PAGES, ids=ids)
def test_every_command_line_that_a_page_shows_is_valid(document: Page) -> None:
    for command in document.commands():
        for typed in TYPED.findall(command):
            # Prose can name a command without its arguments.
            if typed.strip() not in LEAVES and "--help" not in typed:
                assert parse(words(typed)).command, typed


@pytest.mark.parametrize("document", PAGES, ids=ids)
def test_every_module_that_a_page_runs_exists(document: Page) -> None:
    for command in document.commands():
        for module in re.findall(r"python -m ((?:local|tests)[\w.]*)", command):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), command


@pytest.fixture(scope="module")
def routes() -> list[tuple[str, re.Pattern[str]]]:
    """Method and path of each route, as a pattern that a path with or without placeholders matches."""
    found = routes_of(translate(load_template(), region="eu-west-1"), {"ConsentCallback": "true"})
    return [(route.method, re.compile(re.sub(r"\{\w+\}", r"(\\{\\w+\\}|[\\w-]+)", route.path))) for route in found]


@pytest.mark.parametrize("document", PAGES, ids=ids)
def test_every_route_that_a_page_names_exists(document: Page, routes: list[tuple[str, re.Pattern[str]]]) -> None:
    for method, path in ROUTE.findall(document.text):
        if path.endswith("/") or "…" in path:  # not the whole path
            continue
        of_the_agent = AGENT_ROUTE.fullmatch(f"{method} {re.sub(r'{[a-z]+}', 'x', path)}")
        assert of_the_agent or any(method in ("", known) and pattern.fullmatch(path) for known, pattern in routes), path


@pytest.mark.parametrize("document", PAGES, ids=ids)
def test_every_link_to_a_file_or_heading_leads_there(document: Page) -> None:
    for target in document.links():
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        path = (document.path.parent / file).resolve() if file else document.path
        assert path.exists(), target
        if anchor:
            assert anchor in Page(path).anchors(), target


@pytest.mark.parametrize("document", PAGES, ids=ids)
def test_every_file_that_a_page_names_exists(document: Page) -> None:
    for code in document.inline():
        for name in PATH.findall(code):
            if not name.startswith(WRITTEN) and "<" not in code and "*" not in code:
                assert any((root / name).exists() for root in (ROOT, BROKER, document.path.parent)), code

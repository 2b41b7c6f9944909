"""Whatever somebody writes into settings or makes the audit hold is shown as text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest

from local.stack import Stack
from token_broker_cli.screen import UNSAFE

from .conftest import Cli
from .console import Console, fields_of, running_console

HOSTILE = [
    "<script>alert(1)</script>",
    "</textarea></table><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "{{ 7 * 7 }} {% raw %}",
    "a\x00b\x1b[31mc\x7f\x9bd\r\nSet-Cookie: x=y",
    "\u202etxt.exe\u2066\u2069\u200f שלום مرحبا",
    "\ud800 a lone surrogate",
    "&lt;b&gt; &amp;amp;",
    "x" * 10_000,
]
PARAMS = {f"field{number}": text for number, text in enumerate(HOSTILE[:4] + HOSTILE[5:6] + HOSTILE[7:8])}


@pytest.fixture
def hostile_log(tmp_path: Path) -> Path:
    """An audit log with hostile text in each field."""
    lines = [
        {
            "service": "audit",
            "message": text,
            "timestamp": f"2999-01-01T00:00:{number:02}+00:00",
            "caller": text,
            "provider": "unidy",
            "connection": "demo",
            "decision": text,
            "detail": text,
            "token_id": text,
            "scope": text,
            "changes": [{"field": text, "old": text, "new": [text]}],
        }
        for number, text in enumerate(HOSTILE)
    ]
    (tmp_path / "hostile.log").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


@pytest.fixture
def console(running: Stack, hostile_log: Path) -> Iterator[Console]:
    with running_console(running) as console:
        console.site._context.log = hostile_log
        yield console


class Reader(HTMLParser):
    """The elements and attributes of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.text += "".join(value or "" for _, value in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def check(page: str, shown: list[str]) -> None:
    """No text became an element, and all of it can be read."""
    reader = Reader(page)
    assert not reader.tags & {"img"}
    assert not {name for name in reader.attributes if name.startswith("on")}
    assert page.count("<script") == 1, "the console's own"
    assert UNSAFE.search(page.replace("\t", "")) is None
    for text in shown:
        visible = UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
        assert visible.replace("\r\n", "\n") in reader.text, text[:50]


def test_audit_lines(console: Console) -> None:
    page = console.visitor().get("/audit?connection=unidy%2Fdemo&since=1h")
    assert page.status == 200
    check(page.text, HOSTILE)


def test_recent_activity(console: Console) -> None:
    page = console.visitor().get("/connections/unidy/demo/recent")
    assert page.status == 200
    check(f"<script></script>{page.text}", HOSTILE)


def test_settings(cli: Cli, console: Console) -> None:
    name = cli.connect("oauth2", params=PARAMS, api_base_url="https://x.example/" + "x" * 1500)
    visitor = console.visitor()
    for path in ("", "/edit", "/history"):
        page = visitor.get(f"/connections/oauth2/{name}{path}")
        assert page.status == 200
        # Params are shown as JSON.
        check(page.text, [json.dumps(text, ensure_ascii=False)[1:-1] for text in PARAMS.values()])


def test_an_edit_leaves_what_was_not_changed(cli: Cli, console: Console) -> None:
    """The form shows escapes. They are not stored in place of the characters that they stand for."""
    name = cli.connect("oauth2", params=PARAMS)
    visitor = console.visitor()
    path = f"/connections/oauth2/{name}/edit"
    review = visitor.submit(path, {**visitor.form(path), "setting.lifetime_s": "600"})
    assert review.status == 200
    assert visitor.submit(path, fields_of(review.text)).status == 303
    assert cli.settings("oauth2", name)["params"] == PARAMS
    assert cli.settings("oauth2", name)["lifetime_s"] == 600


def test_names_states_and_failures_in_the_list(console: Console) -> None:
    """The broker admits no such names. The page does not rely on that."""
    listed = console.site._context.connections
    failure = {"at": "2999-01-01T00:00:00Z", "retry_at": "2999-01-01T00:00:00Z", "count": 1}
    listed._rows = {
        (text, text): {
            **dict.fromkeys(("provider", "connection", "state"), text),
            "tokens": 0,
            "next_expiry": None,
            "next_renewal": None,
            "missing_secret": False,
            "last_failure": {**failure, **dict.fromkeys(("code", "detail", "provider_error"), text)},
            "deadlines": [{"what": text, "scope": text, "at": "2026-01-01T00:00:00Z", "days_left": -1}],
        }
        for text in HOSTILE
    }
    listed._read_at = console.seconds.now
    page = console.visitor().get("/")
    assert page.status == 200
    check(page.text, HOSTILE)


@pytest.mark.parametrize("text", HOSTILE[:4])
def test_what_was_typed(cli: Cli, console: Console, text: str) -> None:
    name = cli.connect()
    visitor = console.visitor()
    path = f"/connections/unidy/{name}/edit"
    page = visitor.submit(path, {**visitor.form(path), "setting.scope": text, "setting.lifetime_s": text})
    assert page.status == 422
    check(page.text, [text])


@pytest.mark.parametrize("text", HOSTILE[:4])
def test_filters(console: Console, text: str) -> None:
    page = console.visitor().get(f"/?text={quote(text)}&state={quote(text)}&provider={quote(text)}")
    assert page.status == 200
    check(page.text, [text[:64]])

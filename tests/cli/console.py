"""The console on a socket, and a browser without a window."""

from __future__ import annotations

import argparse
import http.client
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode, urlsplit

from local.stack import Stack
from token_broker_cli.console.context import ConsoleContext
from token_broker_cli.console.door import Door
from token_broker_cli.console.pages import Renderer
from token_broker_cli.console.server import Server, listen
from token_broker_cli.console.site import Site
from token_broker_cli.screen import Screen
from token_broker_cli.target import Target
from token_broker_cli.usage import DEFAULTS


class Seconds:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Page:
    """A received response."""

    status: int
    headers: http.client.HTTPMessage
    text: str


@dataclass
class Visitor:
    """A browser without a window: it keeps cookies and sends what it is told."""

    origin: str
    cookie: str = ""

    def send(self, method: str, path: str, *, body: str = "", headers: list[tuple[str, str]] | None = None) -> Page:
        """Sends these header lines and no others, except for the cookie and the length."""
        lines = [("Host", urlsplit(self.origin).netloc)] if headers is None else headers
        connection = http.client.HTTPConnection("127.0.0.1", urlsplit(self.origin).port or 0, timeout=30)
        with closing(connection):
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in lines:
                connection.putheader(name, value)
            if self.cookie:
                connection.putheader("Cookie", self.cookie)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body.encode())
            response = connection.getresponse()
            return Page(response.status, response.headers, response.read().decode())

    def get(self, path: str) -> Page:
        """A page."""
        return self.send("GET", path)

    def open(self, link: str) -> Page:
        """Follows a link of the door and keeps the session."""
        page = self.get(link.removeprefix(self.origin))
        if page.headers["Set-Cookie"]:
            self.cookie = page.headers["Set-Cookie"].partition(";")[0]
        return page

    def csrf_token(self, path: str) -> str:
        """The token in the forms of a page."""
        return self.form(path).get("csrf_token", "")

    def form(self, path: str) -> dict[str, str]:
        """The fields of the form of a page, as they are filled in."""
        return fields_of(self.get(path).text)

    def submit(self, path: str, fields: Mapping[str, str]) -> Page:
        """Sends a form as a browser does."""
        return self.send("POST", path, body=urlencode(fields), headers=self.form_headers)

    def post(self, path: str, fields: Mapping[str, str]) -> Page:
        """Sends the form of the page at `path` with these fields filled in."""
        return self.submit(path, {**self.form(path), **fields})

    @property
    def form_headers(self) -> list[tuple[str, str]]:
        """What a browser sends with a form."""
        return [
            ("Host", urlsplit(self.origin).netloc),
            ("Origin", self.origin),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ]


@dataclass(frozen=True)
class Console:
    """A running console over the test's stack, and its clock."""

    site: Site
    seconds: Seconds

    def visitor(self) -> Visitor:
        """A browser that came in by a link."""
        visitor = self.stranger()
        visitor.open(self.site.door.new_link())
        return visitor

    def stranger(self) -> Visitor:
        """A browser without a session."""
        return Visitor(self.site.door.origin)


@contextmanager
def running_console(
    stack: Stack, *, read_only: bool = False, options: Mapping[str, Any] | None = None
) -> Iterator[Console]:
    """The console on a socket of its own. `options`: of the command line, which name another broker."""
    given = {"local": True, "url": stack.url, "aws_endpoint": stack.endpoint_url, **(options or {})}
    target = Target(argparse.Namespace(**{**DEFAULTS, **given}), Screen(as_json=True))
    seconds = Seconds()
    listener = listen(0)
    door = Door(f"http://127.0.0.1:{listener.getsockname()[1]}", clock=seconds)
    site = Site(ConsoleContext(target, Renderer(), read_only=read_only, log=stack.options.log_dir, clock=seconds), door)
    with closing(Server(listener, site.respond)):
        yield Console(site, seconds)


def fields_of(text: str) -> dict[str, str]:
    """The fields of the first form with a CSRF token, by name, without boxes that can be ticked."""
    reader = _FormReader()
    reader.feed(text)
    return reader.fields


class _FormReader(HTMLParser):
    """Reads what a browser would send of the form."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self._is_post = False
        self._open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self._is_post = given.get("method") == "post"
        if not self._is_post:
            return
        name = given.get("name") or ""
        if tag == "input" and name and given.get("type") != "checkbox":
            self.fields[name] = given.get("value") or ""
        elif tag in ("textarea", "select"):
            self._open = name
            self.fields[name] = ""
        elif tag == "option" and "selected" in given:
            self.fields[self._open] = given.get("value") or "?"

    def handle_data(self, data: str) -> None:
        if not self._open:
            return
        if self.fields.get(self._open) == "?":
            self.fields[self._open] = data
        elif self.get_starttag_text() is not None and (self.get_starttag_text() or "").startswith("<textarea"):
            # HTML drops a line end right after the tag.
            self.fields[self._open] += data.removeprefix("\n") if not self.fields[self._open] else data

    def handle_endtag(self, tag: str) -> None:
        if tag in ("textarea", "select"):
            self._open = ""

"""What the console receives and sends, without sockets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qs

FORM: Final = "application/x-www-form-urlencoded"
HTML: Final = "text/html; charset=utf-8"
MAX_FIELDS: Final = 500


class Denied(Exception):
    """The request gets no page. `what` says why, and `todo` what helps."""

    def __init__(self, status: int, what: str, todo: str = "") -> None:
        super().__init__(what)
        self.status = status
        self.what = what
        self.todo = todo


@dataclass(frozen=True)
class Request:
    """A received request. `path` and `query` are as sent. The body can hold credentials, so it has no repr."""

    method: str
    path: str
    query: str
    header_lines: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str | None:
        """A header's value; None if it is missing. Raises Denied if it is repeated."""
        found = [value for given, value in self.header_lines if given.lower() == name.lower()]
        if len(found) > 1:
            raise Denied(400, f"The header {name} is repeated.")
        return found[0] if found else None

    @cached_property
    def parameters(self) -> Mapping[str, str]:
        """The query's fields. Raises Denied."""
        return _fields(self.query)

    @cached_property
    def form(self) -> Mapping[str, str]:
        """The body's fields. Raises Denied."""
        if (self.header("Content-Type") or "").partition(";")[0].strip().lower() != FORM:
            raise Denied(415, f"The body must be {FORM}.")
        try:
            return _fields(self.body.decode("ascii"))
        except UnicodeDecodeError:
            raise Denied(400, "The form is not readable.") from None

    def cookie(self, name: str) -> str | None:
        """A cookie's value; None if it is missing or the header is not readable."""
        try:
            cookies = SimpleCookie(self.header("Cookie") or "")
        except CookieError:
            return None
        return cookies[name].value if name in cookies else None


@dataclass(frozen=True)
class Response:
    """A response. `Site` adds the headers that all have."""

    status: int = 200
    body: bytes = field(default=b"", repr=False)
    content_type: str = HTML
    headers: tuple[tuple[str, str], ...] = ()


def redirect(path: str) -> Response:
    """To another page, after a change. `path`: of this console."""
    return Response(303, headers=(("Location", path),))


def _fields(text: str) -> dict[str, str]:
    try:
        found = parse_qs(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        raise Denied(400, "The fields are not readable.") from None
    if any(len(values) > 1 for values in found.values()):
        raise Denied(400, "A field is repeated.")
    return {name: values[0] for name, values in found.items()}

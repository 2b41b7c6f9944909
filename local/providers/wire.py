"""HTTP messages of the simulators: the received request, the reply to send, and how their bodies are encoded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from email.utils import formatdate
from http.client import responses
from urllib.parse import parse_qsl

# RFC 6749 sections 5.1 and 5.2: a reply with a token or about credentials must not be cached.
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


@dataclass(frozen=True, slots=True)
class Request:
    """A request. `path`: the part below the simulator's prefix, percent-encoded. `query`: without '?'."""

    method: str
    path: str
    query: str = field(repr=False)
    headers: Message = field(repr=False)
    body: bytes = field(repr=False)

    def header(self, name: str) -> str | None:
        """The header's only value, or None. Raises `Refusal` if it was sent twice."""
        values = self.headers.get_all(name, [])
        if len(values) > 1:
            raise Refusal("invalid_request", f"header {name} sent twice")
        return str(values[0]) if values else None

    @property
    def media_type(self) -> str:
        """The Content-Type without parameters, in lower case; '' if there is none."""
        return (self.header("Content-Type") or "").partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply. `outcome`: a word for the journal, never a secret."""

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    outcome: str = "answered"

    def head(self, *, now: float, content_length: int | None = None) -> bytes:
        """Status line and headers with the empty line. `now`: epoch seconds by the provider's clock."""
        length = len(self.body) if content_length is None else content_length
        headers = {"Date": formatdate(now, usegmt=True), **self.headers, "Content-Length": str(length)}
        status_line = f"HTTP/1.1 {self.status} {responses.get(self.status, '')}"
        lines = [status_line, *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1")


class Refusal(Exception):
    """The simulated vendor refuses the request. `code`: OAuth's error code. Each vendor has its own form of it."""

    def __init__(self, code: str, description: str, *, status: int | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.description = description
        self.status = status or (401 if code == "invalid_client" else 400)


def json_reply(status: int, document: object, *, outcome: str, headers: Mapping[str, str] | None = None) -> Reply:
    """A JSON reply that must not be cached."""
    all_headers = {"Content-Type": "application/json; charset=utf-8", **NO_STORE, **(headers or {})}
    return Reply(status, json.dumps(document).encode(), all_headers, outcome)


def html_reply(status: int, text: str, *, outcome: str) -> Reply:
    """An HTML page for people."""
    page = f"<!DOCTYPE html><html><head><title>{text}</title></head><body><h1>{text}</h1></body></html>"
    return Reply(status, page.encode(), {"Content-Type": "text/html; charset=utf-8"}, outcome)


def pairs_of(encoded: str) -> dict[str, str]:
    """The fields of a query or form body. Raises `Refusal` if one is malformed or repeated (RFC 6749 section 3.2)."""
    try:
        pairs = parse_qsl(encoded, keep_blank_values=True, strict_parsing=bool(encoded), errors="strict")
    except ValueError:
        raise Refusal("invalid_request", "the fields are not form-encoded") from None
    return _once_each(list(pairs))


def fields_of(request: Request, encodings: tuple[str, ...]) -> dict[str, str]:
    """The fields of a body in one of `encodings` ('form', 'json'). Raises `Refusal` for any other body."""
    if request.query:
        raise Refusal("invalid_request", "parameters do not belong in the URL")
    if request.media_type == "application/x-www-form-urlencoded" and "form" in encodings:
        try:
            return pairs_of(request.body.decode())
        except UnicodeDecodeError:
            raise Refusal("invalid_request", "the body is not UTF-8") from None
    if request.media_type == "application/json" and "json" in encodings:
        return _json_fields(request.body)
    raise Refusal("invalid_request", f"the body has to be {' or '.join(encodings)}, with that Content-Type")


def _json_fields(body: bytes) -> dict[str, str]:
    try:
        document = json.loads(body, object_pairs_hook=_once_each)
    except (ValueError, RecursionError):
        raise Refusal("invalid_request", "the body is not JSON") from None
    if not isinstance(document, dict) or not all(isinstance(value, str) for value in document.values()):
        raise Refusal("invalid_request", "the body is not an object of strings")
    return document


def _once_each(pairs: list[tuple[str, str]]) -> dict[str, str]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Refusal("invalid_request", "a parameter was sent twice")
    return fields

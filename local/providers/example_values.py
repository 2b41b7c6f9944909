"""Values that an example shows and that are others in each request: codes, refresh tokens, states, accounts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from token_broker.catalogue.examples import STATE, Body, ExpectedRequest
from token_broker.oauth.exchange import HttpRequest

# query or body, and the name of the field
Place = tuple[str, str]


def place_of(expected: ExpectedRequest, value: str) -> Place | None:
    """Where a request has a value: a field of its query or body."""
    body = expected.body.value if expected.body is not None and isinstance(expected.body.value, Mapping) else {}
    for where, pairs in (("query", expected.query), ("body", tuple(body.items()))):
        for name, found in pairs:
            if found == value:
                return where, name
    return None


def field_at(sent: HttpRequest, place: Place | None) -> str | None:
    """The text that was sent there; None if there is none."""
    if place is None:
        return None
    where, name = place
    return (texts_in_body(sent) if where == "body" else dict(sent.query)).get(name)


def texts_in_body(sent: HttpRequest) -> dict[str, str]:
    """The texts among the fields of a form or JSON body."""
    text = (sent.body or b"").decode(errors="replace")
    try:
        fields = json.loads(text)
    except ValueError:
        fields = dict(parse_qsl(text, keep_blank_values=True))
    return {name: value for name, value in fields.items() if isinstance(value, str)} if isinstance(fields, dict) else {}


def with_values(expected: ExpectedRequest, changes: Mapping[str, str]) -> ExpectedRequest:
    """The request with other values in the place of the example's."""
    body = expected.body
    if body is not None and isinstance(body.value, Mapping):
        pairs = body.value.items()
        body = Body(
            body.kind, {name: changes.get(item, item) if isinstance(item, str) else item for name, item in pairs}
        )
    query = tuple((name, changes.get(value, value)) for name, value in expected.query)
    return replace(expected, query=query, body=body)


def uri_and_state(written: str, given: str, redirect_uri: str) -> tuple[str | None, str | None]:
    """What was sent in place of the example's redirect URI and `{state}`, where its field holds them."""
    pattern = re.escape(written)
    pattern = pattern.replace(re.escape(redirect_uri), "(?P<uri>.+?)").replace(re.escape(STATE), "(?P<state>.+)")
    match = re.fullmatch(pattern, given)
    found = match.groupdict() if match is not None else {}
    return found.get("uri"), found.get("state")


def with_value_at(document: Any, path: tuple[str, ...], value: Any) -> Any:
    """A JSON document with another value at a path."""
    if not path:
        return value
    step = path[0]
    rest = path[1:]
    if isinstance(document, dict):
        return {**document, step: with_value_at(document.get(step), rest, value)}
    if isinstance(document, list):
        return [with_value_at(item, rest, value) if str(index) == step else item for index, item in enumerate(document)]
    return document

"""The JSON Schema of provider files agrees with the check."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.docs.provider_schema import schema
from tests.unit.test_catalogue import FILES, WHOLE
from token_broker.core.provider_files import CatalogueError, parse_provider
from token_broker.oauth.grants import GRANTS

VALIDATOR = Draft202012Validator(schema())


def faults(data: Mapping[str, Any]) -> dict[str, str]:
    """What the check finds, by field."""
    try:
        parse_provider("example", data, grants=GRANTS, file="example.toml")
    except CatalogueError as error:
        return {fault.field: fault.reason for fault in error.faults}
    return {}


def fields_of(part: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in part.get("properties", {}).items():
        yield (*prefix, name)
        yield from fields_of(field, (*prefix, name))


def with_field(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A valid file with one field set."""
    data: dict[str, Any] = {**WHOLE}
    part = data
    for name in path[:-1]:
        part[name] = {**part.get(name, {})}
        part = part[name]
    part[path[-1]] = value
    return data


FIELDS = list(fields_of(schema()))
TABLES = [path for path in FIELDS if any(other[: len(path)] == path != other for other in FIELDS)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_of_the_catalogue_fits(path: Path) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(tomllib.loads(path.read_text()))] == []


@pytest.mark.parametrize("path", FIELDS, ids=".".join)
def test_the_check_knows_every_field(path: tuple[str, ...]) -> None:
    """A value that no field can have is a fault of its own."""
    found = faults(with_field(path, object()))
    assert not found.get(".".join(path), "").startswith("is not a known field")


@pytest.mark.parametrize("path", [(), *TABLES], ids=lambda path: ".".join(path) or "file")
def test_neither_takes_an_unknown_field(path: tuple[str, ...]) -> None:
    data = with_field((*path, "unknwon"), 1)
    assert not VALIDATOR.is_valid(data)
    assert "is not a known field" in faults(data)[".".join((*path, "unknwon"))]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("title",), 7),
        (("documentation",), "docs.example.com"),
        (("grant",), "implicit"),
        (("credentials",), "client_id"),
        (("request",), {}),
        (("request", "method"), "PUT"),
        (("request", "fields_in"), "xml"),
        (("request", "client_auth"), "mtls"),
        (("request", "basic_charset"), "utf-16"),
        (("request", "headers"), {"X": 7}),
        (("response", "token"), 7),
        (("response", "error"), "a..b"),
        (("response", "errors"), {"x": "unheard_of"}),
        (("response", "success"), {"field": "status"}),
        (("response", "expiry"), {"field": "a", "as": "weeks"}),
        (("response", "zero_means_never"), 1),
        (("send", "headers"), {"X": 7}),
        (("send", "base_url"), {"field": "url"}),
        (("scope", "required"), "yes"),
        (("scope", "separator"), "-"),
        (("refresh", "use"), "no"),
        (("lifetime", "default_s"), 0),
        (("renewal", "reissue_window_s"), 60),
        (("limits",), {"requests": 5}),
        (("limits",), {"requests": 5, "per": "week"}),
        (("settings",), [{"name": "base_url", "kind": "uri", "required": True, "help": "x"}]),
        (("settings",), [{"name": "base_url", "kind": "url", "required": True}]),
        (("settings",), "base_url"),
    ],
)
def test_a_broken_file_fails_in_both(path: tuple[str, ...], value: Any) -> None:
    data = with_field(path, value)
    assert not VALIDATOR.is_valid(data)
    assert faults(data)


def test_the_file_that_is_broken_above_is_whole() -> None:
    assert VALIDATOR.is_valid(WHOLE)
    assert faults(WHOLE) == {}

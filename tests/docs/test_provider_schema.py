"""The JSON Schema of provider files agrees with the check."""

from __future__ import annotations

import copy
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


def fields_of(part: Mapping[str, Any], prefix: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all fields. A list of tables is entered at its first table."""
    for name, field in part.get("properties", {}).items():
        yield (*prefix, name)
        yield from fields_of(field, (*prefix, name))
        yield from fields_of(field.get("items", {}), (*prefix, name, 0))


def with_field(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """A valid file with one field set."""
    data: dict[str, Any] = copy.deepcopy(WHOLE)
    part: Any = data
    for name in path[:-1]:
        part = part[name] if isinstance(name, int) else part.setdefault(name, {})
    part[path[-1]] = value
    return data


def name_of(path: tuple[str | int, ...]) -> str:
    """The name under which the check tells of a field, such as settings[0].kind."""
    return ".".join(map(str, path)).replace(".0.", "[0].")


FIELDS = list(fields_of(schema()))
# One of each kind, and some that only a few fields can have.
VALUES: tuple[Any, ...] = (7, -1, 1.5, True, "", "x", "{x}", "a..b", ["x"], [7], [], {}, {"x": "y"}, {"x": 7}, 10**12)
# How the check tells of a value that no file could have there.
SHAPES = (
    "must be a string",
    "must be true or false",
    "must be one of",
    "must be a list",
    "must be an object",
    "must be a whole number",
    "must be from",
    "must be a path",
    "must be a space",
    "must not be empty",
)
TABLES = sorted({path[:-1] for path in FIELDS} - {()}, key=str)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_of_the_catalogue_fits(path: Path) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(tomllib.loads(path.read_text()))] == []


@pytest.mark.parametrize("path", FIELDS, ids=name_of)
def test_the_check_knows_every_field(path: tuple[str | int, ...]) -> None:
    """A value that no field can have is a fault of its own."""
    found = faults(with_field(path, object()))
    assert not found.get(name_of(path), "").startswith("is not a known field")


@pytest.mark.parametrize("path", [(), *TABLES], ids=lambda path: name_of(path) or "file")
def test_neither_takes_an_unknown_field(path: tuple[str | int, ...]) -> None:
    data = with_field((*path, "unknwon"), 1)
    assert not VALIDATOR.is_valid(data)
    assert "is not a known field" in faults(data)[name_of((*path, "unknwon"))]


@pytest.mark.parametrize("path", FIELDS, ids=name_of)
def test_both_refuse_the_same_values(path: tuple[str | int, ...]) -> None:
    """What the schema refuses is a fault. A fault of a value's shape, not of what it means, is in the schema too."""
    for value in VALUES:
        data = with_field(path, value)
        found = faults(data)
        if not VALIDATOR.is_valid(data):
            assert found, value
        else:
            reason = found.get(name_of(path), "")
            assert reason != "is required", value
            assert not reason.startswith(SHAPES), value


def test_the_file_that_is_broken_above_is_whole() -> None:
    assert VALIDATOR.is_valid(WHOLE)
    assert faults(WHOLE) == {}

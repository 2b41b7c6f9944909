"""Templates: texts of a provider's file with names in braces, such as `Bearer {token}`.

A template is parsed once, when the file is read, and expanded in one pass: what was inserted is never expanded again.
`{{` and `}}` stand for a brace. `{secret:name:number}` is a text of digits that JSON gets as a number. Each place
encodes a value so that it stays in its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

Place = Literal["start", "host", "path", "query"]

SECRET = "secret:"  # noqa: S105  # how a template names a field of the secret
_PIECE = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]|[^{}]+")
_NAME = re.compile(r"((?:secret:)?[A-Za-z_][A-Za-z0-9_-]*)(:number)?")
_NUMBER = re.compile("0|-?[1-9][0-9]{0,17}")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_HEADER = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")


@dataclass(frozen=True, slots=True)
class Slot:
    """A name in braces: where a template's value goes. `is_number`: a text of digits is sent as a JSON number."""

    name: str
    is_number: bool = False

    def __str__(self) -> str:
        return f"{{{self.name}{':number' if self.is_number else ''}}}"


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed text. A template with a name that has no value has no value itself."""

    parts: tuple[str | Slot, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(part.name for part in self.parts if isinstance(part, Slot))

    @property
    def only_name(self) -> str | None:
        """The name, if the template is nothing else."""
        return self.names[0] if len(self.parts) == len(self.names) == 1 else None

    @property
    def is_number(self) -> bool:
        return any(isinstance(part, Slot) and part.is_number for part in self.parts)

    def __str__(self) -> str:
        return "".join(map(str, self.parts))

    def text(self, values: Mapping[str, Any]) -> str | None:
        """The text with its values; None if one of them is missing or empty."""
        if any(_is_missing(values.get(name)) for name in self.names):
            return None
        return "".join(as_text(values[part.name]) if isinstance(part, Slot) else part for part in self.parts)

    def value(self, values: Mapping[str, Any]) -> Any:
        """As `text`, but a template that is nothing but a name keeps its value's type."""
        name = self.only_name
        if name is None:
            return self.text(values)
        found = values.get(name)
        if _is_missing(found):
            return None
        return whole_number(found) if self.is_number else found


@dataclass(frozen=True, slots=True)
class UrlTemplate:
    """A parsed URL. `places`: where each name stands, in order."""

    template: Template
    places: tuple[Place, ...]

    @property
    def named_places(self) -> tuple[tuple[str, Place], ...]:
        return tuple(zip(self.template.names, self.places, strict=True))

    def __str__(self) -> str:
        return str(self.template)

    def expand(self, values: Mapping[str, Any]) -> str:
        """The URL; empty if a value is missing. Raises ValueError for a value in the host that is no DNS label.

        A value at the start is a checked URL and stays as it is.
        """
        encoded = {
            (name, place): _in_url(as_text(values[name]), place)
            for name, place in self.named_places
            if not _is_missing(values.get(name))
        }
        places = iter(self.named_places)
        found = [encoded.get(next(places), "") if isinstance(part, Slot) else part for part in self.template.parts]
        return "".join(found) if all(found) else ""


def parse_template(text: str) -> Template:
    """Raises ValueError for a brace without its pair, or a name that is none."""
    parts: list[str | Slot] = []
    for piece in _PIECE.findall(text):
        if len(piece) > 1 and piece[0] == "{" and piece[-1] == "}":
            match = _NAME.fullmatch(piece[1:-1])
            if match is None:
                raise ValueError(f"uses {piece[:64]}, which is not a name")
            if match[2] and piece != text:
                raise ValueError(f"uses {piece[:64]} beside other text. A number stands alone")
            parts.append(Slot(match[1], bool(match[2])))
            continue
        if piece in ("{", "}"):
            raise ValueError("has a brace without its pair (a brace itself is written twice)")
        literal = piece[0] if piece in ("{{", "}}") else piece
        if parts and isinstance(parts[-1], str):
            parts[-1] += literal
        else:
            parts.append(literal)
    return Template(tuple(parts))


def parse_url_template(text: str) -> UrlTemplate:
    """Raises ValueError, also where a value could become a part of the host that it is not meant for."""
    template = parse_template(text)
    places: list[Place] = []
    place: Place = "start"
    for index, part in enumerate(template.parts):
        if isinstance(part, Slot):
            if index and place == "start":
                raise ValueError(f"has {{{part.name}}} where neither host nor path has begun")
            places.append(place)
            continue
        if index and place == "start" and part[0] not in "/?":
            raise ValueError("must go on with / or ? after a setting that is a URL")
        place = _place_after(part, place, follows_url=bool(index))
    return UrlTemplate(template, tuple(places))


def _place_after(literal: str, place: Place, *, follows_url: bool) -> Place:
    """Where the next name stands. `follows_url`: the literal does not begin the URL."""
    rest = literal
    if place == "start" and not follows_url:
        scheme, separator, rest = literal.partition("://")
        if not separator:
            # A relative reference.
            return "query" if "?" in scheme else "path"
    if "?" in rest or place == "query":
        return "query"
    if place == "path" or (follows_url and place == "start"):
        return "path"
    return "path" if "/" in rest else "host"


def parse_value(value: Any) -> Any:
    """A field's value: texts become templates, also in tables and lists. Numbers and booleans stay.

    Raises ValueError for anything else.
    """
    if isinstance(value, str):
        return parse_template(value)
    if isinstance(value, Mapping):
        return {name: parse_value(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(parse_value(item) for item in value)
    if not isinstance(value, (bool, int, float)):
        raise ValueError("must have strings, numbers, booleans, tables or lists")
    return value


def expand_value(value: Any, values: Mapping[str, Any]) -> Any:
    """What `parse_value` parsed, with its values; None for one that is missing. A table leaves those out."""
    if isinstance(value, Template):
        return value.value(values)
    if isinstance(value, Mapping):
        return expand_fields(value, values)
    if isinstance(value, tuple):
        return [item for item in (expand_value(entry, values) for entry in value) if item is not None]
    return value


def expand_fields(fields: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that have a value."""
    found = {name: expand_value(value, values) for name, value in fields.items()}
    return {name: value for name, value in found.items() if value is not None}


def names_in(value: Any) -> Iterator[str]:
    """The names that a parsed value uses."""
    for template in templates_in(value):
        yield from template.names


def templates_in(value: Any) -> Iterator[Template]:
    """The templates of a parsed value."""
    if isinstance(value, Template):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from templates_in(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from templates_in(item)


def as_text(value: Any) -> str:
    """Text as it is; numbers and booleans as JSON writes them."""
    return value if isinstance(value, str) else json.dumps(value)


def whole_number(value: Any) -> int:
    """The number that a text of digits stands for. Raises ValueError, which does not quote it."""
    if not _NUMBER.fullmatch(as_text(value)):
        raise ValueError("must be a whole number")
    return int(value)


def header_value(value: str) -> str:
    """The value of a header: visible ASCII and inner spaces. Raises ValueError, which does not quote it."""
    if not _HEADER.fullmatch(value):
        raise ValueError("has a character that no header can hold")
    return value


def host_label(value: str) -> str:
    """One part of a host name. Raises ValueError."""
    if not _LABEL.fullmatch(value):
        raise ValueError("must be one part of a host name: letters, digits and inner hyphens, at most 63")
    return value


def _in_url(value: str, place: Place) -> str:
    if place == "start":
        return value
    return host_label(value) if place == "host" else quote(value, safe="")


def _is_missing(value: Any) -> bool:
    return value is None or value in ("", [], ())

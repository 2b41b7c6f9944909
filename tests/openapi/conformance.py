"""Checks a response against the document: status, content type, headers, and every field of the body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

Schema = dict[str, Any]


def closed(document: Schema) -> Schema:
    """The document with every object closed. Readers accept new fields; these tests do not."""
    copy = deepcopy(document)
    for schema in _objects(copy):
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return copy


def _objects(value: Any) -> Iterator[Schema]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


class Documented:
    """Checks responses against a document whose objects are closed."""

    def __init__(self, document: Schema) -> None:
        self._document = closed(document)

    def faults(self, method: str, route: str, status: int, headers: Mapping[str, str], body: Any) -> list[str]:
        """How a response differs from the document. Header names in lower case. `route`: a path template."""
        responses = self._document["paths"][route][method.lower()]["responses"]
        if str(status) not in responses:
            return [f"{method} {route}: status {status} is not documented"]
        response = responses[str(status)]
        kind = headers.get("content-type", "")
        if kind not in response["content"]:
            return [f"{method} {route}: {status} is not documented as {kind!r}"]
        found = self.schema_faults(response["content"][kind]["schema"], body)
        for name, reference in response["headers"].items():
            header = self._document["components"]["headers"][reference["$ref"].rpartition("/")[2]]
            if name.lower() in headers:
                found += self._header_faults(name, header["schema"], headers[name.lower()])
            elif header.get("required"):
                found.append(f"{name} is missing")
        return [f"{method} {route} {status}: {fault}" for fault in found]

    def schema_faults(self, schema: Schema, value: Any) -> list[str]:
        """How a value differs from a schema of the document."""
        validator = Draft202012Validator(
            {**schema, "components": self._document["components"]}, format_checker=FormatChecker()
        )
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]

    def _header_faults(self, name: str, schema: Schema, text: str) -> list[str]:
        value: Any = int(text) if schema.get("type") == "integer" and text.isdecimal() else text
        return [f"{name} {fault}" for fault in self.schema_faults(schema, value)]

"""docs/openapi.json is valid OpenAPI 3.1, up to date with the routes, and complete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from local.aws import REGION
from local.resources import load_template, routes_of, translate
from tests.openapi import problems, settings
from tests.openapi.conformance import Documented, Schema
from tests.openapi.document import DOCUMENT, RESOLVERS, Undescribed, document, render
from tests.openapi.operations import OPERATIONS, PARAMETERS
from token_broker.catalogue import load_catalogue
from token_broker.http import problems as http_problems

EXAMPLES: dict[str, Any] = {"operations": {}, "problems": {}}


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == render(), "make openapi writes it anew"


def test_it_is_valid_openapi(checked_in: Schema) -> None:
    validate(checked_in, cls=OpenAPIV31SpecValidator)


def test_its_routes_are_those_of_the_template(checked_in: Schema) -> None:
    template = {(route.method, route.path) for route in routes_of(translate(load_template(), region=REGION))}
    documented = {(method.upper(), path) for path, methods in checked_in["paths"].items() for method in methods}
    assert documented == template


def test_a_route_without_description_is_an_error() -> None:
    resolver = http_problems.new_resolver()

    @resolver.get("/v1/surprise")
    def surprise() -> None:
        """Has no description."""

    with pytest.raises(Undescribed, match="surprise"):
        document(EXAMPLES, (*RESOLVERS, resolver))


def test_a_description_without_a_route_is_an_error() -> None:
    with pytest.raises(Undescribed, match="/v1/health"):
        document(EXAMPLES, RESOLVERS[:1])


def test_every_code_is_raised_by_some_operation_and_explained(checked_in: Schema) -> None:
    documented = {code for operation in OPERATIONS.values() for code in operation.codes} | {problems.INTERNAL_ERROR}
    assert documented == {error.code for error in http_problems.STATUS} | {problems.INTERNAL_ERROR}
    schema = checked_in["components"]["schemas"]["Problem"]["properties"]["code"]
    assert {"access_denied", "throttled", "gateway_timeout"} | documented == set(schema["enum"])
    assert all(f"| `{code}` |" in schema["description"] for code in schema["enum"])


def test_every_parameter_and_schema_is_used(checked_in: Schema) -> None:
    used = set(_references(checked_in))
    for kind in ("schemas", "parameters", "headers", "examples"):
        for name in checked_in["components"][kind]:
            whole = f"#/components/{kind}/{name}"
            assert any(reference == whole or reference.startswith(f"{whole}/") for reference in used)
    assert {parameter for operation in OPERATIONS.values() for parameter in operation.parameters} == set(PARAMETERS)


def test_every_field_is_described(checked_in: Schema) -> None:
    bare = [
        f"{name}.{field}"
        for name, schema in checked_in["components"]["schemas"].items()
        for field, described in schema.get("properties", {}).items()
        if not any(key in described for key in ("description", "$ref", "const", "anyOf", "enum"))
        and described.get("type") != "boolean"
    ]
    assert bare == []


@pytest.mark.parametrize(
    ("slug", "change", "is_valid"),
    [
        ("unidy", lambda body: body, True),
        ("unidy", lambda body: body | {"scope": None}, False),
        ("unidy", lambda body: body | {"lifetime_s": None}, True),
        ("unidy", lambda body: body | {"lifetime_s": 0}, False),
        ("unidy", lambda body: body | {"colour": "red"}, False),
        ("unidy", lambda body: body | {"allowed_callers": ["nobody"]}, False),
        ("unidy", lambda body: {**body, "base_url": "http://id.example.com"}, False),
        ("unicommerce", lambda body: body | {"method": "POST"}, True),
        ("unicommerce", lambda body: body | {"method": "PUT"}, False),
        ("unicommerce", lambda body: body | {"client_auth": "basic"}, False),
        ("oauth2", lambda body: body | {"params": {"audience": "x"}}, True),
        ("oauth2", lambda body: body | {"params": {"grant_type": "x", "resource": ["a", 1, True]}}, True),
        ("oauth2", lambda body: body | {"params": {"client_id": "x"}}, False),
        ("ucommerce", lambda body: body | {"redirect_uri": "https://x.example.com/#top"}, False),
    ],
)
def test_the_schema_of_settings_agrees_with_the_brokers_check(
    documented: Documented, checked_in: Schema, slug: str, change: Callable[[Schema], Schema], *, is_valid: bool
) -> None:
    put = checked_in["paths"]["/v1/connections/{provider}/{connection}"]["put"]
    example = put["requestBody"]["content"]["application/json"]["examples"][slug]["value"]
    schema = {"$ref": f"#/components/schemas/{settings.schema_name(load_catalogue()[slug])}"}
    assert (documented.schema_faults(schema, change(example)) == []) is is_valid


def test_every_example_is_valid(documented: Documented, checked_in: Schema) -> None:
    checked = 0
    for content in _contents(checked_in):
        for example in content["examples"].values():
            found = example
            if "$ref" in example:
                found = checked_in["components"]["examples"][example["$ref"].rpartition("/")[2]]
            assert documented.schema_faults(content["schema"], found["value"]) == []
            checked += 1
    assert checked > len(OPERATIONS)


def _contents(value: Any) -> list[Schema]:
    """Every media type object."""
    if isinstance(value, list):
        return [found for item in value for found in _contents(item)]
    if not isinstance(value, dict):
        return []
    if {"schema", "examples"} <= set(value):
        return [value]
    return [found for item in value.values() for found in _contents(item)]


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [found for item in value for found in _references(item)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return own + [found for item in value.values() for found in _references(item)]

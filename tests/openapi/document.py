"""Makes docs/openapi.json from the routes that the functions register: OpenAPI 3.1.

A route without description is an error, and so is a description without route. `make openapi` writes the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from aws_lambda_powertools.event_handler import APIGatewayRestResolver

import get_token.app
import manage_connections.app
import obtain_consent.app
from tests.openapi import problems
from tests.openapi.bodies import SCHEMAS
from tests.openapi.operations import OPERATIONS, PARAMETERS, Operation
from tests.openapi.settings import schemas as settings_schemas
from token_broker import __version__

Schema = dict[str, Any]

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "openapi.json"
EXAMPLES: Final = Path(__file__).with_name("examples.json")
RESOLVERS: Final = (get_token.app.app, manage_connections.app.app, obtain_consent.app.app)

DESCRIPTION: Final = """\
Internal services get valid access tokens for third-party APIs. They need no credentials and no token endpoints.

Every request is signed with AWS Signature Version 4 (service `execute-api`). IAM permissions (`execute-api:Invoke`)
name paths, and each connection has its own list of callers. A signature in the query is rejected. Every error is
`application/problem+json` with a stable `code`. Retry only if the response has `Retry-After`.

The query must be sorted by name and encoded as the signature needs it (a space is `%20`). Repeated and unknown
parameters are rejected.
"""
HEADERS: Final[dict[str, Schema]] = {
    "CacheControl": {
        "description": "No cache may store the response.",
        "schema": {"type": "string", "const": "no-store"},
    },
    "Pragma": {"description": "The same, for HTTP/1.0.", "schema": {"type": "string", "const": "no-cache"}},
    "RequestId": {
        "description": "API Gateway's id of the request. It is also in the audit log.",
        "schema": {"type": "string"},
    },
    "ETag": {
        "description": "The settings' version in quotes, for If-Match.",
        "schema": {"type": "string", "pattern": '^"[^"]+"$'},
    },
    "RetryAfter": {
        "description": "Seconds to wait before the next request.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "RetryAfterIfItHelps": {
        "description": "Seconds to wait. Left out if waiting does not help.",
        "schema": {"type": "integer", "minimum": 1},
    },
}
EVERYWHERE: Final = {
    "Cache-Control": {"$ref": "#/components/headers/CacheControl"},
    "Pragma": {"$ref": "#/components/headers/Pragma"},
    "x-amzn-RequestId": {"$ref": "#/components/headers/RequestId"},
}
OPTIONAL_HEADERS: Final = frozenset({"RetryAfterIfItHelps"})
TAGS: Final = {
    "Tokens": "For service developers.",
    "Connections": "For platform engineers.",
    "Consents": "For platform engineers: tokens that begin with a person's consent.",
    "Broker": "The catalogue and the health of the broker.",
}


class Undescribed(Exception):
    """The routes of the functions and the tables of this package do not agree."""


def document(examples: dict[str, Any], resolvers: Iterable[APIGatewayRestResolver] = RESOLVERS) -> Schema:
    """The document of these functions' routes, with examples from `recording.record`. Raises Undescribed."""
    registered = {
        (route.method, route.openapi_path): route.func
        for resolver in resolvers
        for route in (*resolver._static_routes, *resolver._dynamic_routes)
    }
    if differing := sorted(set(registered) ^ set(OPERATIONS)):
        raise Undescribed(f"either no route or no description: {differing}")
    paths: dict[str, Schema] = {}
    for (method, path), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method.lower()] = _operation(operation, registered[method, path], examples)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Token broker",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [
            {
                "url": "https://{api}.execute-api.{region}.amazonaws.com/api",
                "description": "The stack's output ApiUrl.",
                "variables": {"api": {"default": "abcdef1234"}, "region": {"default": "eu-west-1"}},
            },
            {"url": "http://127.0.0.1:3000", "description": "make run"},
        ],
        "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
        "security": [{"sigv4": []}],
        "paths": paths,
        "components": {
            "schemas": {
                **SCHEMAS,
                **settings_schemas(),
                "Problem": problems.problem_schema(),
                "FieldFault": problems.FIELD_FAULT,
            },
            "parameters": PARAMETERS,
            "headers": {
                name: {**header, **({} if name in OPTIONAL_HEADERS else {"required": True})}
                for name, header in HEADERS.items()
            },
            "examples": problems.gateway_examples()
            | {code: {"value": body} for code, body in examples["problems"].items()},
            "securitySchemes": {
                "sigv4": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "AWS Signature Version 4, service `execute-api`, with the caller's AWS credentials.",
                    "x-amazon-apigateway-authtype": "awsSigv4",
                }
            },
        },
    }


def _operation(operation: Operation, handler: Any, examples: dict[str, Any]) -> Schema:
    name = handler.__name__
    if not handler.__doc__:
        raise Undescribed(f"{name} has no docstring to be its summary")
    errors = problems.responses(operation.codes, EVERYWHERE, has_body=operation.body is not None)
    described: Schema = {
        "operationId": name,
        "tags": [operation.tag],
        "summary": handler.__doc__.strip().rstrip("."),
        "description": operation.description,
        "parameters": [{"$ref": f"#/components/parameters/{parameter}"} for parameter in operation.parameters],
        "responses": {},
    }
    recorded = examples["operations"][name]
    if operation.body is not None:
        described["requestBody"] = {
            "required": operation.body_required,
            "content": {
                "application/json": {
                    "schema": {"$ref": f"#/components/schemas/{operation.body}"},
                    "examples": {slug: {"value": body} for slug, body in recorded["request"].items()},
                }
            },
        }
    for status, schema in operation.responses.items():
        response = _response(status, schema, recorded[str(status)], etag=operation.etag)
        described["responses"][str(status)] = _joined(response, errors.pop(str(status), None))
    described["responses"] |= errors
    described["responses"] = dict(sorted(described["responses"].items()))
    return described


def _response(status: int, schema: str, examples: dict[str, Any], *, etag: bool) -> Schema:
    kind = "application/json" if status < 400 else "application/problem+json"
    headers = dict(EVERYWHERE) | ({"ETag": {"$ref": "#/components/headers/ETag"}} if etag else {})
    return {
        "description": SCHEMAS[schema]["description"],
        "headers": headers,
        "content": {
            kind: {
                "schema": {"$ref": f"#/components/schemas/{schema}"},
                "examples": {name: {"value": body} for name, body in examples.items()},
            }
        },
    }


def _joined(own: Schema, gateways: Schema | None) -> Schema:
    """Joins a response of the route and API Gateway's with the same status, both problem+json."""
    if gateways is None:
        return own
    (kind, content), theirs = next(iter(own["content"].items())), gateways["content"]
    return {
        "description": f"{own['description']}\n{gateways['description']}",
        "headers": own["headers"] | gateways["headers"],
        "content": {
            kind: {
                "schema": {"anyOf": [content["schema"], theirs[kind]["schema"]]},
                "examples": content["examples"] | theirs[kind]["examples"],
            }
        },
    }


def render() -> str:
    """The content of docs/openapi.json."""
    return as_text(document(json.loads(EXAMPLES.read_text())))


def as_text(value: Any) -> str:
    """JSON as it is checked in."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"

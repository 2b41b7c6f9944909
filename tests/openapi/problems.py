"""The errors in the document: each code with its statuses and its meaning.

They come from the broker's error classes, its table of statuses, and the template's GatewayResponses.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from local.resources import load_template
from token_broker.core.providers import KNOWN_ERRORS
from token_broker.errors import BrokerError
from token_broker.http import problems as http_problems

Schema = dict[str, Any]

INTERNAL_ERROR: Final = "internal_error"
# Statuses that API Gateway gives only to requests with a body.
OF_BODIES: Final = frozenset({413, 415})
# Waiting helps, so these responses always have Retry-After.
WAITING: Final = frozenset({429, 503, 504})
# 502 has Retry-After only if the provider may recover by itself.
SOMETIMES_WAITING: Final = frozenset({502})

# Codes of API Gateway, and the code of unexpected errors.
WHEN: Final = {
    "access_denied": "API Gateway rejects the request: signature, clock, or no `execute-api:Invoke` on this path.",
    "throttled": "API Gateway's request rate or quota is used up.",
    "gateway_timeout": "The broker did not respond in time.",
    INTERNAL_ERROR: "An unexpected error. The broker's log has the cause under the request's id.",
}


def gateway_codes() -> dict[int, dict[str, Mapping[str, Any]]]:
    """API Gateway's own responses: status → code → the body of the first response type with both."""
    api = load_template()["Resources"]["TokenBrokerApi"]["Properties"]
    found: dict[int, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for response in api["GatewayResponses"].values():
        body = json.loads(response["ResponseTemplates"]["application/json"])
        found[int(response["StatusCode"])].setdefault(body["code"], body)
    return dict(found)


def own_statuses() -> dict[str, int]:
    """The broker's own codes and their statuses."""
    return {error.code: status for error, status in http_problems.STATUS.items()} | {INTERNAL_ERROR: 500}


def meanings() -> dict[str, str]:
    """The meaning of each code, in a sentence. Raises LookupError for a code without one."""
    found = {error.code: _sentence(error) for error in http_problems.STATUS} | WHEN
    gateway = {code for codes in gateway_codes().values() for code in codes}
    if unexplained := gateway - set(found):
        raise LookupError(f"API Gateway's codes without an explanation: {sorted(unexplained)}")
    return found


def _sentence(error: type[BrokerError]) -> str:
    if not error.__doc__:
        raise LookupError(f"{error.__name__} has no docstring that says what it means")
    return " ".join(error.__doc__.split())


def statuses() -> dict[str, list[int]]:
    """Every code with all its statuses, in ascending order."""
    found: dict[str, set[int]] = defaultdict(set)
    for code, status in own_statuses().items():
        found[code].add(status)
    for status, codes in gateway_codes().items():
        for code in codes:
            found[code].add(status)
    return {code: sorted(found[code]) for code in sorted(found, key=lambda code: (min(found[code]), code))}


def problem_schema() -> Schema:
    """The schema of every error: RFC 9457 with our `code`."""
    meaning = meanings()
    rows = [
        f"| `{code}` | {', '.join(str(status) for status in known)} | {meaning[code]} |"
        for code, known in statuses().items()
    ]
    return {
        "type": "object",
        "description": "A problem (RFC 9457). `code` is stable. The texts are for people and hold no secret.",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": {"const": "about:blank"},
            "title": {"type": "string", "description": "The code in words."},
            "status": {"type": "integer", "enum": sorted({s for known in statuses().values() for s in known})},
            "code": {
                "enum": list(statuses()),
                "description": "\n".join(["| code | status | meaning |", "|---|---|---|", *rows]),
            },
            "detail": {"type": "string", "description": "What is wrong with this request, connection or provider."},
            "errors": {
                "type": "array",
                "description": "With `invalid_request`, and with `connection_misconfigured` if stored settings are not "
                "valid: every fault, not only the first.",
                "items": {"$ref": "#/components/schemas/FieldFault"},
            },
            "provider_error": {
                "enum": [*sorted(KNOWN_ERRORS), "unrecognised"],
                "description": "The provider's own error code, from a fixed list.",
            },
        },
    }


FIELD_FAULT: Final[Schema] = {
    "type": "object",
    "required": ["field", "reason"],
    "properties": {
        "field": {"type": "string", "description": "Parameter, header or field; empty for the body as a whole."},
        "reason": {"type": "string", "description": "What is wrong with it. It reads as a sentence after the name."},
    },
}


def responses(codes: Iterable[str], headers: Mapping[str, Any], *, has_body: bool) -> dict[str, Schema]:
    """The error responses of an operation that raises `codes`, with those of API Gateway, by status."""
    own = own_statuses()
    meaning = meanings()
    gateway = gateway_codes()
    found: dict[int, set[str]] = defaultdict(set)
    for code in (*codes, INTERNAL_ERROR):
        found[own[code]].add(code)
    for status, theirs in gateway.items():
        if has_body or status not in OF_BODIES:
            found[status] |= set(theirs)
    return {
        str(status): {
            "description": "\n".join(f"- `{code}`: {meaning[code]}" for code in sorted(found[status])),
            "headers": dict(headers) | _retry_after(status),
            "content": {
                "application/problem+json": {
                    "schema": {
                        "allOf": [
                            {"$ref": "#/components/schemas/Problem"},
                            {"properties": {"status": {"const": status}, "code": {"enum": sorted(found[status])}}},
                        ]
                    },
                    "examples": {
                        code: {"$ref": f"#/components/examples/{example_name(code, status)}"}
                        for code in sorted(found[status])
                    },
                }
            },
        }
        for status in sorted(found)
    }


def _retry_after(status: int) -> dict[str, Schema]:
    if status in WAITING:
        return {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}}
    if status in SOMETIMES_WAITING:
        return {"Retry-After": {"$ref": "#/components/headers/RetryAfterIfItHelps"}}
    return {}


def example_name(code: str, status: int) -> str:
    """The name of a problem's example in the components."""
    return code if own_statuses().get(code, status) == status else f"{code}_{status}"


def gateway_examples() -> dict[str, Schema]:
    """API Gateway's responses from the template."""
    return {
        example_name(code, status): {"value": dict(body)}
        for status, codes in gateway_codes().items()
        for code, body in codes.items()
    }

"""What the document says of each route: parameters, body, answers and the codes that it raises itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from manage_connections.app import DEFAULT_LIMIT, MAX_LIMIT
from tests.openapi.bodies import NAME_SCHEMA, TOKEN_ID_SCHEMA
from tests.openapi.settings import SCOPE

Schema = dict[str, Any]
MAX_MIN_TTL_S: Final = 3600


@dataclass(frozen=True)
class Operation:
    """A route's description. `answers`: status → schema. `codes`: its errors, but those that any route may raise."""

    tag: str
    description: str
    answers: dict[int, str]
    codes: tuple[str, ...]
    parameters: tuple[str, ...] = ()
    body: str | None = None
    etag: bool = False


def _parameter(name: str, place: str, description: str, schema: Schema, **more: Any) -> Schema:
    return {"name": name, "in": place, "description": description, "schema": schema, **more}


def _in_path(name: str, description: str, example: str) -> Schema:
    return _parameter(name, "path", description, NAME_SCHEMA, required=True, example=example)


PARAMETERS: Final[dict[str, Schema]] = {
    "provider": _in_path("provider", "A provider of the catalogue.", "unidy"),
    "connection": _in_path("connection", "A connection at the provider.", "demo"),
    "scope": _parameter(
        "scope",
        "query",
        "Scope items separated by single spaces (%20). Left out: the connection's own scope.",
        {**SCOPE, "minLength": 1},
    ),
    "purged_scope": _parameter(
        "scope",
        "query",
        "The scope set whose token is dropped. Left out: all of the connection's tokens.",
        {**SCOPE, "minLength": 1},
    ),
    "min_ttl": _parameter(
        "min_ttl",
        "query",
        "Seconds that the token must still live. Where none such can be had, the longest there is, with the warning "
        "`min_ttl_unmet`.",
        {"type": "integer", "minimum": 0, "maximum": MAX_MIN_TTL_S, "default": 30},
    ),
    "rejected": _parameter(
        "rejected",
        "query",
        "The `token_id` of a token that the provider's API refused. If it is still the current one, it is replaced, at "
        "a bounded rate.",
        TOKEN_ID_SCHEMA,
    ),
    "force": _parameter(
        "force",
        "query",
        "Try the credentials even where that ends the live token.",
        {"type": "boolean", "default": False},
    ),
    "limit": _parameter(
        "limit",
        "query",
        "The most connections in one answer.",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    ),
    "cursor": _parameter("cursor", "query", "The `cursor` of the answer before.", {"type": "string"}),
    "if_match": _parameter(
        "If-Match",
        "header",
        "The ETag of the settings that may be replaced or deleted, or `*` for any that are there (RFC 9110).",
        {"type": "string"},
    ),
    "if_none_match": _parameter(
        "If-None-Match",
        "header",
        "`*`: only if there are no settings yet. Not together with If-Match.",
        {"type": "string", "const": "*"},
    ),
}
_ONE: Final = ("provider", "connection")
_ANY_ROUTE: Final = ("invalid_request",)
_OWN_SERVICES: Final = ("broker_unavailable",)
_KNOWN: Final = (*_ANY_ROUTE, "unknown_provider", "unknown_connection", *_OWN_SERVICES)
_ACQUIRING: Final = (
    *_KNOWN,
    "connection_suspended",
    "connection_misconfigured",
    "provider_refused",
    "provider_invalid_response",
    "provider_unavailable",
    "provider_rate_limited",
    "acquisition_in_progress",
)

OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("GET", "/v1/tokens/{provider}/{connection}"): Operation(
        tag="Tokens",
        description="From the instance's memory, the table or the provider, whichever has one. Send `headers` to the "
        "provider's API, keep the token until `renew_at`, and ask again then. If the API refuses it, ask again with "
        "`rejected`.",
        parameters=(*_ONE, "scope", "min_ttl", "rejected"),
        answers={200: "Token"},
        codes=(
            *_ACQUIRING,
            "caller_not_allowed",
            "scope_not_allowed",
            "too_many_scope_sets",
            "too_many_rejections",
        ),
    ),
    ("DELETE", "/v1/tokens/{provider}/{connection}"): Operation(
        tag="Tokens",
        description="Every instance stops handing them out within 30 s. What could not be revoked is tried again until "
        "it ends. The next GET gets a new one: suspend the connection first to stop that.",
        parameters=(*_ONE, "purged_scope"),
        answers={200: "Purge"},
        codes=_KNOWN,
    ),
    ("GET", "/v1/connections"): Operation(
        tag="Connections",
        description="Each with its state, its tokens' number and its last failure.",
        parameters=("limit", "cursor"),
        answers={200: "ConnectionList"},
        codes=(*_ANY_ROUTE, *_OWN_SERVICES),
    ),
    ("GET", "/v1/connections/{provider}/{connection}"): Operation(
        tag="Connections",
        description="Never a secret, never a token.",
        parameters=_ONE,
        answers={200: "Connection"},
        codes=_KNOWN,
        etag=True,
    ),
    ("PUT", "/v1/connections/{provider}/{connection}"): Operation(
        tag="Connections",
        description="The settings are checked whole, and all their faults are named at once. They act within 30 s. The "
        "credentials are a secret of their own, `{SecretPrefix}/{provider}/{connection}`, which this does not touch.",
        parameters=(*_ONE, "if_match", "if_none_match"),
        body="ConnectionSettings",
        answers={200: "StoredConnection", 201: "StoredConnection"},
        codes=(*_ANY_ROUTE, "unknown_provider", "version_conflict", *_OWN_SERVICES),
        etag=True,
    ),
    ("DELETE", "/v1/connections/{provider}/{connection}"): Operation(
        tag="Connections",
        description="The tokens are dropped at once and revoked by the worker.",
        parameters=(*_ONE, "if_match"),
        answers={200: "Deletion"},
        codes=(*_KNOWN, "version_conflict"),
    ),
    ("POST", "/v1/connections/{provider}/{connection}/trial"): Operation(
        tag="Connections",
        description="Runs the grant once with the secret's pending version, else with its current one, and keeps no "
        "token. A success with the current version ends the connection's rests. Once in 5 min.",
        parameters=(*_ONE, "force"),
        answers={200: "Trial"},
        codes=(*_ACQUIRING, "would_revoke", "too_many_trials"),
    ),
    ("GET", "/v1/providers"): Operation(
        tag="Broker",
        description="What to ask for when a connection is added.",
        answers={200: "ProviderList"},
        codes=_ANY_ROUTE,
    ),
    ("GET", "/v1/health"): Operation(
        tag="Broker",
        description="For monitors: 200, or 503.",
        answers={200: "Health", 503: "HealthFailing"},
        codes=(*_ANY_ROUTE, *_OWN_SERVICES),
    ),
}

"""The bodies of successful answers as JSON Schema. Every field stands in every answer, so all of them are required."""

from __future__ import annotations

from typing import Any, Final

from token_broker.core.deadlines import CREDENTIALS, REFRESH_TOKEN
from token_broker.core.names import NAME, TOKEN_ID
from token_broker.oauth.grants import GRANTS
from token_broker.errors import PROVIDER_ERRORS, BrokerUnavailable, ConnectionMisconfigured
from token_broker.oauth.responses import KNOWN_ERRORS
from token_broker.service.trial import CURRENT, PENDING

Schema = dict[str, Any]


def _exactly(schema: str) -> str:
    return f"^{schema}$"


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(description: str, properties: dict[str, Schema]) -> Schema:
    return {"type": "object", "description": description, "required": list(properties), "properties": properties}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


def _count(description: str) -> Schema:
    return {"type": "integer", "minimum": 0, "description": description}


def _moment(description: str) -> Schema:
    return {
        "type": "string",
        "format": "date-time",
        "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$",
        "description": description,
    }


def _list(items: Schema, description: str) -> Schema:
    return {"type": "array", "items": items, "description": description}


NAME_SCHEMA: Final[Schema] = {
    "type": "string",
    "pattern": _exactly(NAME.pattern),
    "maxLength": 63,
}
TOKEN_ID_SCHEMA: Final[Schema] = {
    "type": "string",
    "pattern": _exactly(TOKEN_ID.pattern),
    "description": "The first 16 hex digits of the token's SHA-256: names a token without being one.",
}
SCOPE_TOLD: Final = _text("Scope items, sorted, separated by single spaces; empty for none.")

WARNINGS: Final = {
    "renewal_failing": "the token is good, but its successor could not be had; look before it ends",
    "min_ttl_unmet": "no longer one can be had now",
    "same_token_reissued": "the reported token was issued again: the refusal had another reason",
    "scope_differs": "the provider granted another scope than asked; `scope` is the granted one",
    "expiry_disputed": "the token's own `exp` claims to be past; `expires_in` was believed",
}
REASONS: Final = {
    "queued": "the worker does it",
    "rate_limited": "tried again by the worker",
    "provider_unavailable": "tried again by the worker",
    "broker_unavailable": "tried again by the worker",
    "credentials_missing": "tried again by the worker",
    "credentials_refused": "tried again by the worker",
    "not_supported": "the provider has no revocation",
    "provider_refused": "the provider will not",
    "issued_elsewhere": "the settings name another endpoint now",
    "settings_invalid": "the settings of then do not hold together",
    "unreadable": "the sealed token does not open",
}
STATES: Final = {
    "ok": "holds a token",
    "failing": "the last attempt failed and nothing was mended since",
    "suspended": "switched off in its settings",
    "misconfigured": "its settings or its secret are not complete",
    "idle": "has no token",
}


def _one_of(words: dict[str, str]) -> Schema:
    return {"enum": list(words), "description": "; ".join(f"`{word}`: {meaning}" for word, meaning in words.items())}


_NAMED: Final = {
    "provider": {**NAME_SCHEMA, "description": "The provider's name in the catalogue."},
    "connection": {**NAME_SCHEMA, "description": "The connection's name at the provider."},
}
_VERSION: Final = _text("The settings' version: without its quotes the ETag, which If-Match takes.")
_SETTINGS: Final[Schema] = {
    "type": "object",
    "description": "The settings as they were PUT: see ConnectionSettings. Never a credential.",
}
_SUMMARY: Final = {
    **_NAMED,
    "state": _one_of(STATES),
    "tokens": _count("How many tokens are alive."),
    "next_expiry": _or_null(_moment("When the first of them ends.")),
    "last_failure": _or_null(_ref("Failure")),
}
_PURGE: Final = {
    "dropped": _count("How many tokens are handed out no more."),
    "revoked": _list(_ref("TokenId"), "Which of them the provider has ended."),
    "not_revoked": _list(_ref("NotRevoked"), "Which of them may still live at the provider."),
}
_CHECKS: Final = {"connections": "the table of settings", "tokens": "the table of tokens"}

SCHEMAS: Final[dict[str, Schema]] = {
    "TokenId": TOKEN_ID_SCHEMA,
    "Token": _object(
        "A valid token. The first fields read as an answer of RFC 6749 section 5.1.",
        {
            "access_token": _text("The token. `headers` has it ready to send."),
            "token_type": _text("`Bearer`, or `N_A` (RFC 8693) where the token goes into a header of the provider's."),
            "expires_in": _count("Seconds left, rounded down."),
            "expires_at": _moment("When it ends."),
            "expires_assumed": {"type": "boolean", "description": "The provider told no lifetime; it is assumed."},
            "renew_at": _moment("When the broker gets its successor: ask again then."),
            "scope": SCOPE_TOLD,
            "token_id": _ref("TokenId"),
            **_NAMED,
            "headers": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "Send these to the provider's API as they are.",
            },
            "api_base_url": _or_null(_text("The provider's API, if the settings name it.")),
            "source": {"enum": ["memory", "table", "provider"], "description": "Where the broker had it from."},
            "warnings": _list(_one_of(WARNINGS), "What to look after."),
        },
    ),
    "Purge": _object("What was dropped, revoked and left.", _PURGE),
    "Deletion": _object(
        "What a connection's end left.",
        {**_PURGE, "secret": {"const": "kept"}, "note": _text("Which secret is still there.")},
    ),
    "NotRevoked": _object(
        "A dropped token that may still live at the provider.",
        {"token_id": _ref("TokenId"), "reason": _one_of(REASONS), "expires_at": _moment("When it ends by itself.")},
    ),
    "Trial": _object(
        "What the tried credentials brought. The token itself is gone.",
        {
            "expires_in": _count("Seconds that the token had."),
            "scope": SCOPE_TOLD,
            "token_id": _ref("TokenId"),
            "stage": {"enum": [CURRENT, PENDING], "description": "Which version of the secret was tried."},
        },
    ),
    "Failure": _object(
        "A remembered failure.",
        {
            "code": {"enum": [*PROVIDER_ERRORS, ConnectionMisconfigured.code]},
            "detail": _text("The cause in words; never the provider's."),
            "provider_error": _or_null({"enum": [*sorted(KNOWN_ERRORS), "unrecognised"]}),
            "at": _moment("When it was met."),
            "retry_at": _moment("Until when nobody asks again."),
            "count": {"type": "integer", "minimum": 1, "description": "Failures of its kind in a row."},
        },
    ),
    "ConnectionSummary": _object("A connection in a list.", _SUMMARY),
    "ConnectionList": _object(
        "Some connections.",
        {
            "connections": _list(_ref("ConnectionSummary"), "In no order that means anything."),
            "cursor": _or_null(_text("What to ask for the next ones with; null where there are none.")),
        },
    ),
    "TokenState": _object(
        "What is known of one scope set's token; never the token.",
        {
            "scope": SCOPE_TOLD,
            "token_id": _or_null(_ref("TokenId")),
            "expires_at": _or_null(_moment("When it ends.")),
            "renew_at": _or_null(_moment("When its successor is got.")),
            "last_renewal": _or_null(_moment("When it was issued.")),
            "failure": _or_null(_ref("Failure")),
        },
    ),
    "Deadline": _object(
        "What ends by itself, beside tokens.",
        {
            "what": {"enum": [CREDENTIALS, REFRESH_TOKEN]},
            "scope": _or_null(_text("Whose refresh token.")),
            "at": _moment("When."),
            "days_left": {"type": "number", "description": "Below zero once it has passed."},
        },
    ),
    "Connection": _object(
        "A connection whole.",
        {
            **_SUMMARY,
            "version": _VERSION,
            "settings": _SETTINGS,
            "deadlines": _list(_ref("Deadline"), "The next one first."),
            "tokens": _list(_ref("TokenState"), "One per scope set."),
        },
    ),
    "StoredConnection": _object("Settings as stored.", {**_NAMED, "version": _VERSION, "settings": _SETTINGS}),
    "Credential": _object(
        "A field of a connection's secret.", {"name": _text("Its name."), "required": {"type": "boolean"}}
    ),
    "Setting": _object(
        "A setting of a provider's connections.",
        {
            "name": _text("Its name."),
            "required": {"type": "boolean"},
            "default": {"description": "What stands for it if it is left out; null for nothing."},
            "help": _text("What it is for."),
        },
    ),
    "Provider": _object(
        "What a connection of a provider needs.",
        {
            "slug": {**NAME_SCHEMA, "description": "Its name in paths."},
            "title": _text("Its name for people."),
            "grant": {"enum": list(GRANTS)},
            "credentials": _list(_ref("Credential"), "What the secret holds."),
            "settings": _list(_ref("Setting"), "Its own first, then those of every connection."),
            "documentation": {"type": "string", "format": "uri", "description": "The vendor's page."},
        },
    ),
    "ProviderList": _object("The catalogue.", {"providers": _list(_ref("Provider"), "By name.")}),
    "Health": _object(
        "All is well.",
        {
            "status": {"const": "ok"},
            "version": _text("The broker's version."),
            "checks": _object("Each that answers.", {name: {"const": "ok"} for name in _CHECKS}),
        },
    ),
    "HealthFailing": _object(
        "One of the broker's own services does not answer. A problem but for `status`: monitors read it as a word.",
        {
            "type": {"const": "about:blank"},
            "title": _text("The code in words."),
            "status": {"const": "failing"},
            "code": {"const": BrokerUnavailable.code},
            "detail": _text("What is wrong."),
            "version": _text("The broker's version."),
            "checks": _object(
                "Which does not.",
                {name: {"enum": ["ok", "failing"], "description": what} for name, what in _CHECKS.items()},
            ),
        },
    ),
}

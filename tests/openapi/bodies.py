"""The bodies of successful responses as JSON Schema. Every response has every field, but for a few optional ones."""

from __future__ import annotations

from typing import Any, Final

from token_broker.catalogue.proof import NO_PROOF, PROOFS
from token_broker.core.connections import COMMON_SETTINGS
from token_broker.core.consent_sessions import OUTCOME_UNKNOWN, SETTINGS_CHANGED, UNREADABLE, SessionState
from token_broker.core.expiries import CREDENTIALS, REFRESH_TOKEN
from token_broker.core.names import CONSENT_ID, NAME, TOKEN_ID
from token_broker.core.provider_files import SETTING_KINDS
from token_broker.core.providers import KNOWN_ERRORS
from token_broker.errors import (
    PROVIDER_ERRORS,
    BrokerUnavailable,
    ConnectionMisconfigured,
    InvalidRequest,
    UnknownConnection,
    UnknownProvider,
)
from token_broker.oauth.grants import GRANTS
from token_broker.service.trial import CURRENT, PENDING

Schema = dict[str, Any]


def _exactly(schema: str) -> str:
    return f"^{schema}$"


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(description: str, properties: dict[str, Schema], *, optional: dict[str, Schema] | None = None) -> Schema:
    return {
        "type": "object",
        "description": description,
        "required": list(properties),
        "properties": properties | (optional or {}),
    }


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
    "description": "The first 16 hex digits of the token's SHA-256. It identifies the token without revealing it.",
}
CONSENT_ID_SCHEMA: Final[Schema] = {
    "type": "string",
    "pattern": _exactly(CONSENT_ID.pattern),
    "description": "The SHA-256 of the `state` of the authorization request. It is safe to show.",
}
SCOPE_TEXT: Final = _text("Scope items, sorted, separated by single spaces; empty for none.")

WARNINGS: Final = {
    "renewal_failing": "the token is valid, but its renewal fails; act before it expires",
    "min_ttl_unmet": "no token with a longer lifetime is available now",
    "same_token_reissued": "the provider issued the reported token again, so its API rejected it for another reason",
    "scope_differs": "the provider granted another scope than requested; `scope` is the granted one",
    "expiry_disputed": "the token's own `exp` is in the past; `expires_in` was used",
}
REASONS: Final = {
    "queued": "the worker revokes it",
    "rate_limited": "the worker tries again",
    "provider_unavailable": "the worker tries again",
    "broker_unavailable": "the worker tries again",
    "credentials_missing": "the worker tries again",
    "credentials_refused": "the worker tries again",
    "not_supported": "the provider has no revocation",
    "would_end_consent": "that would end the person's consent too; the token expires by itself",
    "in_use": "the refresh token was being sent, or its outcome is unknown; the provider may have issued another one",
    "provider_refused": "the provider refused",
    "issued_elsewhere": "the settings now name another endpoint",
    "settings_invalid": "the settings at that time are not valid",
    "unreadable": "the sealed token cannot be opened",
}
STATES: Final = {
    "ok": "has a live token",
    "failing": "the last token request failed, and nothing changed since",
    "reported": "its tokens are reported as rejected faster than new ones may be requested",
    "suspended": "suspended in its settings",
    "misconfigured": "its settings or its secret are incomplete or not valid",
    "consent_required": "a person must consent (again)",
    "idle": "has no live token",
}


def _one_of(words: dict[str, str]) -> Schema:
    return {"enum": list(words), "description": "; ".join(f"`{word}`: {meaning}" for word, meaning in words.items())}


_NAMED: Final = {
    "provider": {**NAME_SCHEMA, "description": "The provider's name in the catalogue."},
    "connection": {**NAME_SCHEMA, "description": "The connection's name at the provider."},
}
_VERSION: Final = _text("The settings' version. In quotes it is the ETag, for If-Match.")
_SETTINGS: Final[Schema] = {
    "type": "object",
    "description": "The settings as PUT: see ConnectionSettings. They hold no credential.",
}
_SUMMARY: Final = {
    **_NAMED,
    "state": _one_of(STATES),
    "tokens": _count("How many live tokens it has."),
    "next_expiry": _or_null(_moment("When the first of them expires.")),
    "next_renewal": _or_null(_moment("When the first of them is due for renewal.")),
    "last_failure": _or_null(_ref("Failure")),
    "missing_secret": {"type": "boolean", "description": "The last acquisition found no secret."},
    "deadlines": _list(_ref("ExpiryDate"), "The earliest first."),
}
_PURGE: Final = {
    "dropped": _count("How many tokens were dropped."),
    "revoked": _list(_ref("TokenId"), "The tokens that the provider revoked."),
    "not_revoked": _list(_ref("NotRevoked"), "The tokens that may still be live at the provider."),
}
_FAULTY_FILES: Final = _list(
    _object("A file and its faults.", {"file": _text("Its name."), "errors": _list(_ref("FieldFault"), "By field.")}),
    "Provider files of the deployment's own layer that are not used. Only where there are some.",
)
_CHECKS: Final = {"connections": "the table of settings", "tokens": "the table of tokens"}

_CONSENT_FAILURES: Final = {
    **dict.fromkeys(PROVIDER_ERRORS, "the provider refused, failed, or returned no refresh token"),
    BrokerUnavailable.code: "one of the broker's own services failed",
    ConnectionMisconfigured.code: "the settings or the secret are no longer complete",
    InvalidRequest.code: "the redirect brought a value that differs from the connection's setting",
    UnknownProvider.code: "the provider is gone",
    UnknownConnection.code: "the connection is gone",
    SETTINGS_CHANGED: "settings or client changed after the consent began",
    OUTCOME_UNKNOWN: "the code was sent, and what came of it is not known; begin anew",
    UNREADABLE: "a sealed value could not be opened",
}
_CONSENT: Final[dict[str, Schema]] = {
    "consent_id": _ref("ConsentId"),
    "state": {"enum": [state.value for state in SessionState]},
    "account": _or_null(_text("The account at the provider that the consent is of; null while it is not known.")),
    "pinned_account": _or_null(_text("The account of the connection's consent now; null if there is none.")),
    "scope": _text("The requested scope; from `quarantined` on, the granted one."),
    "expires_at": _moment("When it expires: 10 min for the approval, 24 h for the confirmation."),
    "failure": _or_null(
        _object(
            "Why no consent came.",
            {
                "code": {
                    "enum": list(_CONSENT_FAILURES),
                    "description": "; ".join(f"`{code}`: {what}" for code, what in _CONSENT_FAILURES.items()) + ".",
                },
                "provider_error": _or_null({"enum": [*sorted(KNOWN_ERRORS), "unrecognised"]}),
            },
        )
    ),
}

SCHEMAS: Final[dict[str, Schema]] = {
    "TokenId": TOKEN_ID_SCHEMA,
    "Token": _object(
        "A valid token. The first fields are those of RFC 6749 section 5.1.",
        {
            "access_token": _text("The token. `headers` has it ready to send."),
            "token_type": _text("`Bearer`, or `N_A` (RFC 8693) if the provider uses its own header."),
            "expires_in": _count("Remaining seconds, rounded down."),
            "expires_at": _moment("When it expires."),
            "expires_assumed": {"type": "boolean", "description": "The provider gave no lifetime, so it is assumed."},
            "renew_at": _moment("When the broker renews it. Request it again then."),
            "scope": SCOPE_TEXT,
            "token_id": _ref("TokenId"),
            **_NAMED,
            "headers": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "Send these to the provider's API unchanged.",
            },
            "api_base_url": _or_null(_text("The provider's API, if the settings name it.")),
            "source": {"enum": ["memory", "table", "provider"], "description": "Where the broker got it from."},
            "warnings": _list(_one_of(WARNINGS), "Conditions to note."),
        },
    ),
    "Purge": _object("What was dropped, revoked and not revoked.", _PURGE),
    "Deletion": _object(
        "What a deleted connection left.",
        {**_PURGE, "secret": {"const": "kept"}, "note": _text("Which secret still exists.")},
    ),
    "NotRevoked": _object(
        "A dropped token that may still be live at the provider.",
        {"token_id": _ref("TokenId"), "reason": _one_of(REASONS), "expires_at": _moment("When it expires.")},
    ),
    "Trial": _object(
        "What the credentials brought. The token itself is discarded.",
        {
            "expires_in": _count("The token's lifetime in seconds."),
            "scope": SCOPE_TEXT,
            "token_id": _ref("TokenId"),
            "stage": {"enum": [CURRENT, PENDING], "description": "The version of the secret that was used."},
            "warnings": {
                "type": "array",
                "items": {"type": "string"},
                "description": "What is odd about the credentials, such as a space at the end of one.",
            },
        },
    ),
    "StartedConsent": _object(
        "Where a person gives the consent. With a redirect: open `authorize_url`. In the device flow: open "
        "`verification_uri` and enter `user_code`.",
        {
            "consent_id": _ref("ConsentId"),
            "expires_at": _moment("The person must have approved by then."),
        },
        optional={
            "authorize_url": _text("Open it in a browser. It holds the `state` of this consent: keep it to yourself."),
            "redirect_uri": _text("Where the browser returns to. Send the whole address to `finish`."),
            "user_code": _text("What the person enters."),
            "verification_uri": _text("Where the person enters it."),
            "verification_uri_complete": _or_null(_text("The same with the code in it.")),
            "interval": _count("Seconds between two polls of the broker."),
        },
    ),
    "ConsentSession": _object("A consent session. It holds no secret and no token.", _CONSENT),
    "ConfirmedConsent": _object(
        "The consent is live.",
        {**_CONSENT, "dropped": _count("Tokens that callers no longer get, because they were of another account.")},
    ),
    "ConsentStart": {
        "type": "object",
        "description": "How the person gives the consent. May be left out.",
        "additionalProperties": False,
        "properties": {
            "flow": {"enum": ["redirect", "device"], "default": "redirect"},
            "redirect_uri": _text(
                "`http://127.0.0.1:PORT/path`, where the provider accepts a redirect to the own machine. Default: the "
                "setting `redirect_uri`."
            ),
        },
    },
    "ConsentRedirect": {
        "type": "object",
        "description": "The redirect that came back.",
        "additionalProperties": False,
        "required": ["redirect_url"],
        "properties": {"redirect_url": _text("The whole address to which the browser was redirected.")},
    },
    "ConsentId": CONSENT_ID_SCHEMA,
    "Failure": _object(
        "A remembered failure.",
        {
            "code": {"enum": [*PROVIDER_ERRORS, ConnectionMisconfigured.code, BrokerUnavailable.code]},
            "detail": _text("The cause, in the broker's own words."),
            "provider_error": _or_null({"enum": [*sorted(KNOWN_ERRORS), "unrecognised"]}),
            "at": _moment("When it happened."),
            "retry_at": _moment("The end of the cooldown: the provider is not asked before."),
            "count": {"type": "integer", "minimum": 1, "description": "Consecutive failures of this kind."},
        },
    ),
    "ConnectionSummary": _object("A connection in a list.", _SUMMARY),
    "ConnectionList": _object(
        "Some connections.",
        {
            "connections": {
                "type": "array",
                "items": {"anyOf": [_ref("ConnectionSummary"), _ref("Connection")]},
                "description": "By name. With `details`, each is a Connection.",
            },
            "cursor": _or_null(_text("The `cursor` for the next page; null on the last one.")),
        },
    ),
    "TokenState": _object(
        "The state of one scope set's token, without the token.",
        {
            "scope": SCOPE_TEXT,
            "token_id": _or_null(_ref("TokenId")),
            "expires_at": _or_null(_moment("When it expires.")),
            "renew_at": _or_null(_moment("When it is due for renewal.")),
            "last_renewal": _or_null(_moment("When the token was issued.")),
            "failure": _or_null(_ref("Failure")),
        },
    ),
    "ExpiryDate": _object(
        "An expiry other than a token's.",
        {
            "what": {"enum": [CREDENTIALS, REFRESH_TOKEN]},
            "scope": _or_null(_text("The scope set of the refresh token.")),
            "at": _moment("When it expires."),
            "days_left": {"type": "number", "description": "Negative after the expiry."},
        },
    ),
    "Connection": _object(
        "A whole connection.",
        {
            **_SUMMARY,
            "version": _VERSION,
            "settings": _SETTINGS,
            "consent": _or_null(_ref("Consent")),
            "tokens": _list(_ref("TokenState"), "One per scope set."),
        },
    ),
    "Consent": _object(
        "A person's consent, where the grant needs one.",
        {
            "account": _or_null(_text("The account at the vendor, if that is known.")),
            "scope": _or_null(_text("The granted scope, if that is known.")),
            "refresh_id": _ref("TokenId"),
            "obtained_at": _or_null(_moment("When it was given.")),
            "refreshed_at": _or_null(_moment("When its refresh token was last used.")),
            "expires_at": _or_null(_moment("When its refresh token expires, if that is known.")),
        },
    ),
    "DroppedConsent": _object(
        "What became of a connection's consent.",
        {
            "dropped": _count("How many live tokens were dropped."),
            "refresh_id": _or_null(_ref("TokenId")),
            "revoked": {"type": "boolean", "description": "Whether the provider revoked the refresh token."},
            "reason": _or_null(_one_of(REASONS)),
        },
    ),
    "StoredConnection": _object("Settings as stored.", {**_NAMED, "version": _VERSION, "settings": _SETTINGS}),
    "SettingsToCheck": {
        "type": "object",
        "description": "Settings as they may be PUT: see ConnectionSettings. They need not be complete or valid.",
    },
    "CheckedSettings": _object(
        "The faults of settings that were only checked.",
        {"errors": _list(_ref("FieldFault"), "Empty if the settings are valid.")},
    ),
    "SettingsVersion": _object(
        "A version of a connection's settings.",
        {
            "version": _VERSION,
            "at": _or_null(_moment("When it was stored.")),
            "caller": _or_null(_text("Who stored it, as an ARN.")),
            "changed": _list(_text("A setting."), "What differs from the version before, if that is known."),
            "settings": _SETTINGS,
        },
    ),
    "History": _object(
        "The versions of a connection's settings.",
        {"versions": _list(_ref("SettingsVersion"), "The current one first.")},
    ),
    "Credential": _object(
        "A field of a connection's secret.", {"name": _text("Its name."), "required": {"type": "boolean"}}
    ),
    "Setting": _object(
        "A setting of a provider's connections.",
        {
            "name": _text("Its name."),
            "kind": {
                "enum": sorted({*SETTING_KINDS, *(setting.kind for setting in COMMON_SETTINGS)}),
                "description": "What its value is.",
            },
            "choices": _list({"type": "string"}, "The values that a choice can have."),
            "required": {"type": "boolean"},
            "default": {"description": "Its value if it is left out; null for none."},
            "help": _text("What it does."),
        },
    ),
    "Provider": _object(
        "What a connection to a provider needs.",
        {
            "slug": {**NAME_SCHEMA, "description": "Its name in paths."},
            "title": _text("Its display name."),
            "grant": {"enum": list(GRANTS)},
            "consent": _or_null(
                _object(
                    "How a person can give consent; null where none is needed, or the provider's file does not say.",
                    {
                        "redirect": {"type": "boolean", "description": "In a browser, which is then redirected."},
                        "loopback": {"type": "boolean", "description": "The redirect may go to 127.0.0.1."},
                        "device": {"type": "boolean", "description": "With a code for a device (RFC 8628)."},
                    },
                )
            ),
            "credentials": _list(_ref("Credential"), "The fields of the secret."),
            "settings": _list(_ref("Setting"), "The provider's own first, then the common ones."),
            "documentation": {"type": "string", "format": "uri", "description": "The vendor's page."},
            "proof": {
                "enum": [*PROOFS, NO_PROOF],
                "description": "Where its examples are from: the vendor's page, elsewhere, or nowhere.",
            },
        },
    ),
    "ProviderList": _object("The catalogue.", {"providers": _list(_ref("Provider"), "By name.")}),
    "Health": _object(
        "Everything works.",
        {
            "status": {"const": "ok"},
            "version": _text("The release, and after a + the first 12 digits of what was deployed (CodeDigest)."),
            "checks": _object("The checks.", {name: {"const": "ok"} for name in _CHECKS}),
        },
        optional={"faulty_provider_files": _FAULTY_FILES},
    ),
    "HealthFailing": _object(
        "One of the broker's own services fails. A problem document, but with `status` as a word for monitors.",
        {
            "type": {"const": "about:blank"},
            "title": _text("The code in words."),
            "status": {"const": "failing"},
            "code": {"const": BrokerUnavailable.code},
            "detail": _text("What is wrong."),
            "version": _text("The release, and after a + the first 12 digits of what was deployed (CodeDigest)."),
            "checks": _object(
                "Which checks fail.",
                {name: {"enum": ["ok", "failing"], "description": what} for name, what in _CHECKS.items()},
            ),
        },
        optional={"faulty_provider_files": _FAULTY_FILES},
    ),
}

"""The descriptions of the routes: parameters, body, responses and error codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from manage_connections.app import DEFAULT_LIMIT, MAX_LIMIT
from tests.openapi.bodies import CONSENT_ID_SCHEMA, NAME_SCHEMA, TOKEN_ID_SCHEMA
from tests.openapi.settings import SCOPE
from token_broker.ports import KEPT_VERSIONS
from token_broker.service.connections import STATES

Schema = dict[str, Any]
MAX_MIN_TTL_S: Final = 3600
CONSENT: Final = "/v1/connections/{provider}/{connection}/consent"
SESSION: Final = f"{CONSENT}/{{consent_id}}"


@dataclass(frozen=True)
class Operation:
    """A route's description. `responses`: status → schema. `codes`: its errors, except those of every route."""

    tag: str
    description: str
    responses: dict[int, str]
    codes: tuple[str, ...]
    parameters: tuple[str, ...] = ()
    body: str | None = None
    etag: bool = False
    body_required: bool = True


def _parameter(name: str, place: str, description: str, schema: Schema, **more: Any) -> Schema:
    return {"name": name, "in": place, "description": description, "schema": schema, **more}


def _in_path(name: str, description: str, example: str) -> Schema:
    return _parameter(name, "path", description, NAME_SCHEMA, required=True, example=example)


PARAMETERS: Final[dict[str, Schema]] = {
    "provider": _in_path("provider", "A provider of the catalogue.", "unidy"),
    "connection": _in_path("connection", "A connection at the provider.", "demo"),
    "consent_id": _parameter(
        "consent_id",
        "path",
        "A consent session of the connection.",
        CONSENT_ID_SCHEMA,
        required=True,
        example="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ),
    "scope": _parameter(
        "scope",
        "query",
        "Scope items separated by single spaces (%20). Default: the connection's own scope.",
        {**SCOPE, "minLength": 1},
    ),
    "purged_scope": _parameter(
        "scope",
        "query",
        "The scope set whose token is dropped. Default: all tokens of the connection.",
        {**SCOPE, "minLength": 1},
    ),
    "min_ttl": _parameter(
        "min_ttl",
        "query",
        "The least remaining lifetime in seconds. If no such token is available, the response has the longest one "
        "available, with the warning `min_ttl_unmet`.",
        {"type": "integer", "minimum": 0, "maximum": MAX_MIN_TTL_S, "default": 30},
    ),
    "rejected": _parameter(
        "rejected",
        "query",
        "The `token_id` of a token that the provider's API rejected. If it is still the current one, the broker "
        "replaces it, at a limited rate.",
        TOKEN_ID_SCHEMA,
    ),
    "force": _parameter(
        "force",
        "query",
        "Try the credentials even if that revokes the live token.",
        {"type": "boolean", "default": False},
    ),
    "limit": _parameter(
        "limit",
        "query",
        "The most connections in one response.",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    ),
    "cursor": _parameter("cursor", "query", "The `cursor` of the previous response.", {"type": "string"}),
    "of_provider": _parameter("provider", "query", "Only connections of this provider.", NAME_SCHEMA),
    "state": _parameter(
        "state",
        "query",
        "Only connections in this state. A page reads `limit` connections and has those that match, so it can be empty "
        "although there are more: continue until `cursor` is null.",
        {"enum": list(STATES)},
    ),
    "details": _parameter(
        "details",
        "query",
        "Each connection as GET /v1/connections/{provider}/{connection} shows it. A page then ends early where the "
        "response would get too long.",
        {"type": "boolean", "default": False},
    ),
    "version": _parameter(
        "version",
        "query",
        "The version to restore, from the history.",
        {"type": "string"},
        required=True,
    ),
    "if_match": _parameter(
        "If-Match",
        "header",
        "The ETag of the settings to replace or delete, or `*` for any existing ones (RFC 9110).",
        {"type": "string"},
    ),
    "if_none_match": _parameter(
        "If-None-Match",
        "header",
        "`*`: only if there are no settings yet. It cannot be combined with If-Match.",
        {"type": "string", "const": "*"},
    ),
}
_ONE: Final = ("provider", "connection")
_SESSION: Final = (*_ONE, "consent_id")
_ANY_ROUTE: Final = ("invalid_request",)
_OWN_SERVICES: Final = ("broker_unavailable",)
_KNOWN: Final = (*_ANY_ROUTE, "unknown_provider", "unknown_connection", *_OWN_SERVICES)
_CONSENT_CODES: Final = (*_ANY_ROUTE, "unknown_consent", *_OWN_SERVICES)
_OWN_CONSENT: Final = ("unknown_provider", "unknown_connection", "caller_not_allowed", "wrong_consent_state")
_ACQUIRING: Final = (
    *_KNOWN,
    "connection_suspended",
    "connection_misconfigured",
    "provider_refused",
    "consent_required",
    "provider_invalid_response",
    "provider_unavailable",
    "provider_rate_limited",
    "acquisition_in_progress",
)

OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("GET", "/v1/tokens/{provider}/{connection}"): Operation(
        tag="Tokens",
        description="The token comes from the instance's memory, the table or the provider. Send `headers` to the "
        "provider's API. Keep the token until `renew_at`, then request it again. If the API rejects it, request it "
        "again with `rejected`.",
        parameters=(*_ONE, "scope", "min_ttl", "rejected"),
        responses={200: "Token"},
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
        description="Every instance stops returning them within 30 s. A failed revocation is repeated until the token "
        "expires. The next GET gets a new token. To prevent that, suspend the connection first.",
        parameters=(*_ONE, "purged_scope"),
        responses={200: "Purge"},
        codes=_KNOWN,
    ),
    ("GET", "/v1/connections"): Operation(
        tag="Connections",
        description="By name, each with its state, its number of live tokens, its next expiry and renewal, its "
        "deadlines and its last failure.",
        parameters=("limit", "cursor", "of_provider", "state", "details"),
        responses={200: "ConnectionList"},
        codes=(*_ANY_ROUTE, *_OWN_SERVICES),
    ),
    ("GET", "/v1/connections/{provider}/{connection}"): Operation(
        tag="Connections",
        description="The response holds no secret and no token.",
        parameters=_ONE,
        responses={200: "Connection"},
        codes=_KNOWN,
        etag=True,
    ),
    ("PUT", "/v1/connections/{provider}/{connection}"): Operation(
        tag="Connections",
        description="The response to invalid settings names every fault. Changes apply within 30 s. The credentials "
        "are in the secret `{SecretPrefix}/{provider}/{connection}`, which this does not change.",
        parameters=(*_ONE, "if_match", "if_none_match"),
        body="ConnectionSettings",
        responses={200: "StoredConnection", 201: "StoredConnection"},
        codes=(*_ANY_ROUTE, "unknown_provider", "version_conflict", *_OWN_SERVICES),
        etag=True,
    ),
    ("POST", "/v1/connections/{provider}/{connection}/check"): Operation(
        tag="Connections",
        description="For forms: the settings may be incomplete. The connection need not exist.",
        parameters=_ONE,
        body="SettingsToCheck",
        responses={200: "CheckedSettings"},
        codes=(*_ANY_ROUTE, "unknown_provider"),
    ),
    ("GET", "/v1/connections/{provider}/{connection}/history"): Operation(
        tag="Connections",
        description=f"The last {KEPT_VERSIONS} versions, the current one first. A deleted connection has none.",
        parameters=_ONE,
        responses={200: "History"},
        codes=_KNOWN,
    ),
    ("POST", "/v1/connections/{provider}/{connection}/restore"): Operation(
        tag="Connections",
        description="The settings become a new version. `suspended` stays as it is now.",
        parameters=(*_ONE, "version", "if_match"),
        responses={200: "StoredConnection"},
        codes=(*_KNOWN, "version_conflict"),
        etag=True,
    ),
    ("DELETE", "/v1/connections/{provider}/{connection}"): Operation(
        tag="Connections",
        description="The tokens are dropped at once and revoked by the worker.",
        parameters=(*_ONE, "if_match"),
        responses={200: "Deletion"},
        codes=(*_KNOWN, "version_conflict"),
    ),
    ("POST", "/v1/connections/{provider}/{connection}/trial"): Operation(
        tag="Connections",
        description="Runs the grant once with the secret's pending version, else with its current one, and keeps no "
        "token. A success with the current version ends the connection's cooldowns. "
        "Allowed five times in 15 min, and once in 5 min with the same version.",
        parameters=(*_ONE, "force"),
        responses={200: "Trial"},
        codes=(*_ACQUIRING, "would_revoke", "would_consume_grant", "too_many_trials"),
    ),
    ("DELETE", "/v1/connections/{provider}/{connection}/grant"): Operation(
        tag="Connections",
        description="Ends the person's consent: drops its refresh token and all tokens of the connection, and revokes "
        "the refresh token where the provider can. Only a new consent, or a `refresh_token` that the secret never had, "
        "brings tokens again. `wrong_consent_state`: another consent was given at the same moment.",
        parameters=_ONE,
        responses={200: "DroppedConsent"},
        codes=(*_KNOWN, "wrong_consent_state"),
    ),
    ("POST", CONSENT): Operation(
        tag="Consents",
        description="For providers whose tokens begin with a person's consent. The person has 10 min to approve at the "
        "provider. Only the caller who began a consent, in the same session, may finish and confirm it.",
        parameters=_ONE,
        body="ConsentStart",
        body_required=False,
        responses={201: "StartedConsent"},
        codes=(
            *_KNOWN,
            "connection_misconfigured",
            "provider_refused",
            "provider_invalid_response",
            "provider_unavailable",
            "provider_rate_limited",
        ),
    ),
    ("GET", SESSION): Operation(
        tag="Consents",
        description="Poll it until the state is `quarantined`, `failed` or `expired`.",
        parameters=_SESSION,
        responses={200: "ConsentSession"},
        codes=_CONSENT_CODES,
    ),
    ("POST", f"{SESSION}/finish"): Operation(
        tag="Consents",
        description="The code in it is exchanged in the background, once. What comes is kept in quarantine for 24 h. "
        "The same redirect may be sent again. A redirect with an error ends the consent.",
        parameters=_SESSION,
        body="ConsentRedirect",
        responses={202: "ConsentSession"},
        codes=(*_CONSENT_CODES, *_OWN_CONSENT, "connection_misconfigured"),
    ),
    ("POST", f"{SESSION}/confirm"): Operation(
        tag="Consents",
        description="From now on the connection's tokens come from it. It replaces an earlier consent only if both are "
        "known to be of the same account.",
        parameters=_SESSION,
        responses={200: "ConfirmedConsent"},
        codes=(*_CONSENT_CODES, *_OWN_CONSENT, "connection_misconfigured", "new_account"),
    ),
    ("POST", f"{SESSION}/confirm-new-account"): Operation(
        tag="Consents",
        description="As `confirm`, whatever the account is. The connection's tokens are dropped, because they are of "
        "the old one.",
        parameters=_SESSION,
        responses={200: "ConfirmedConsent"},
        codes=(*_CONSENT_CODES, *_OWN_CONSENT, "connection_misconfigured"),
    ),
    ("GET", "/v1/providers"): Operation(
        tag="Broker",
        description="Credentials and settings that a connection to each provider needs.",
        responses={200: "ProviderList"},
        codes=_ANY_ROUTE,
    ),
    ("GET", "/v1/health"): Operation(
        tag="Broker",
        description="For monitors: 200 or 503. A faulty provider file of the deployment's own layer is named; it is no "
        "failure of the broker.",
        responses={200: "Health", 503: "HealthFailing"},
        codes=(*_ANY_ROUTE, *_OWN_SERVICES),
    ),
}

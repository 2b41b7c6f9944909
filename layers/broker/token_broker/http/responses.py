"""Successful responses. Only `token_body` holds a token."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.event_handler import Response

from token_broker.catalogue import FaultyFile
from token_broker.core.connections import COMMON_SETTINGS
from token_broker.core.failures import SECRET_MISSING, Failure
from token_broker.core.names import ConnectionName
from token_broker.core.providers import ConsentSpec, Provider
from token_broker.core.records import TokenRecord
from token_broker.errors import FieldError
from token_broker.service.get_token import TokenResponse
from token_broker.service.revoke import PurgeResult

if TYPE_CHECKING:
    from token_broker.core.consents import Consent
    from token_broker.service.connections import ConnectionState, SettingsVersion
    from token_broker.service.consent_sessions import ShownConsent, StartedConsent
    from token_broker.service.drop_consent import DroppedConsent
    from token_broker.service.trial import TrialResult


# Lambda returns at most 6 MB.
MAX_PAGE = 4 * 1024 * 1024
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def json_response(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response[str]:
    """A successful response that no cache may store."""
    return Response(status, "application/json", json.dumps(body), headers={**NO_STORE, **(headers or {})})


def timestamp(at: datetime) -> str:
    """A moment as `2026-11-22T12:00:00Z`."""
    return at.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def whole_seconds(duration: timedelta) -> int:
    """Rounded down, at least 0."""
    return max(int(duration.total_seconds()), 0)


def token_body(response: TokenResponse) -> dict[str, Any]:
    """A token. The first fields are those of RFC 6749 section 5.1. `headers` is ready to send."""
    token = response.token
    connection = response.connection
    return {
        "access_token": response.access_token,
        "token_type": connection.provider.send.token_type,
        "expires_in": whole_seconds(token.remaining(response.now)),
        "expires_at": timestamp(token.expires_at),
        "expires_assumed": token.expires_assumed,
        "renew_at": timestamp(token.renew_at),
        "scope": token.scope,
        "token_id": token.token_id,
        "provider": connection.name.provider,
        "connection": connection.name.connection,
        "headers": response.headers,
        "api_base_url": response.api_base_url,
        "source": response.source,
        "warnings": list(response.warnings),
    }


def purge_body(result: PurgeResult) -> dict[str, Any]:
    """What a DELETE dropped, revoked and did not revoke."""
    return {
        "dropped": result.dropped,
        "revoked": list(result.revoked),
        "not_revoked": [
            {"token_id": item.token_id, "reason": item.reason, "expires_at": timestamp(item.expires_at)}
            for item in result.not_revoked
        ],
    }


def dropped_consent_body(result: DroppedConsent) -> dict[str, Any]:
    """What became of a connection's consent. `dropped`: how many live tokens."""
    return {
        "dropped": result.tokens,
        "refresh_id": result.refresh_id,
        "revoked": result.refresh_id is not None and result.reason is None,
        "reason": result.reason,
    }


def trial_body(result: TrialResult) -> dict[str, Any]:
    """The token that the credentials would bring."""
    return {
        "expires_in": whole_seconds(result.expires_in),
        "scope": result.scope,
        "token_id": result.token_id,
        "stage": result.stage,
        "warnings": list(result.warnings),
    }


def started_consent_body(started: StartedConsent) -> dict[str, Any]:
    """Where a person gives the consent: by a redirect, or with a code that they enter (RFC 8628 section 3.2)."""
    session = started.session
    device = started.device
    common = {"consent_id": session.consent_id, "expires_at": timestamp(session.expires_at)}
    if device is None:
        return {**common, "authorize_url": started.authorize_url, "redirect_uri": session.redirect_uri}
    return {
        **common,
        "user_code": device.user_code,
        "verification_uri": device.verification_uri,
        "verification_uri_complete": device.verification_uri_complete,
        "interval": whole_seconds(device.interval),
    }


def consent_body(shown: ShownConsent) -> dict[str, Any]:
    """A consent session: its state, and whose consent it is. Never a secret."""
    session = shown.session
    failure = session.failure_at(shown.now)
    return {
        "consent_id": session.consent_id,
        "state": session.state_at(shown.now).value,
        "account": session.account,
        "account_verified": session.account_verified,
        "pinned_account": shown.pinned_account,
        "scope": session.scope,
        "expires_at": timestamp(session.expires_at),
        "failure": {"code": failure.code, "provider_error": failure.provider_error} if failure is not None else None,
    }


def summary_body(state: ConnectionState, now: datetime) -> dict[str, Any]:
    """A connection in a list."""
    return {
        "provider": state.name.provider,
        "connection": state.name.connection,
        "state": state.state,
        "tokens": state.live,
        "next_expiry": timestamp(state.next_expiry) if state.next_expiry else None,
        "next_renewal": timestamp(state.next_renewal) if state.next_renewal else None,
        "last_failure": failure_body(state.last_failure),
        "missing_secret": state.last_failure is not None and state.last_failure.rule == SECRET_MISSING,
        "deadlines": [
            {
                "what": deadline.what,
                "scope": deadline.scope,
                "at": timestamp(deadline.at),
                "days_left": round(deadline.days_left(now), 1),
            }
            for deadline in state.deadlines
        ],
    }


def connection_body(state: ConnectionState, now: datetime) -> dict[str, Any]:
    """A connection: its summary, settings, version, and the state of each token."""
    return {
        **summary_body(state, now),
        "version": state.version,
        "settings": dict(state.settings),
        "consent": _consent_body(state.consent),
        "tokens": [_token_state(record) for record in state.records if record.token or record.failure],
    }


def page_body(
    states: Sequence[ConnectionState], last: ConnectionName | None, now: datetime, *, details: bool
) -> dict[str, Any]:
    """A page of connections. It ends early where the response would get too long; the cursor continues from there."""
    body: list[dict[str, Any]] = []
    size = 0
    for number, state in enumerate(states):
        found = connection_body(state, now) if details else summary_body(state, now)
        size += len(json.dumps(found))
        if number and size > MAX_PAGE:
            last = states[number - 1].name
            break
        body.append(found)
    return {"connections": body, "cursor": None if last is None else write_cursor(last)}


def write_cursor(last: ConnectionName) -> str:
    """The cursor after a connection: its name in base64. `requests.cursor` reads it."""
    return base64.urlsafe_b64encode(str(last).encode()).decode().rstrip("=")


def stored_body(name: ConnectionName, version: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as stored."""
    return {"provider": name.provider, "connection": name.connection, "version": version, "settings": dict(settings)}


def faults_body(faults: Sequence[FieldError]) -> list[dict[str, str]]:
    """The faults of single fields."""
    return [{"field": fault.field, "reason": fault.reason} for fault in faults]


def history_body(versions: Sequence[SettingsVersion]) -> dict[str, Any]:
    """The versions of a connection's settings, the current one first."""
    return {
        "versions": [
            {
                "version": found.stored.version,
                "at": timestamp(found.stored.changed_at) if found.stored.changed_at else None,
                "caller": found.stored.changed_by,
                "changed": list(found.changed),
                "settings": dict(found.stored.settings),
            }
            for found in versions
        ]
    }


def _consent_body(consent: Consent | None) -> dict[str, Any] | None:
    """A person's consent; None where there is none."""
    if consent is None or consent.token is None:
        return None
    moments = {
        "obtained_at": consent.obtained_at,
        "refreshed_at": consent.refreshed_at,
        "expires_at": consent.token.expires_at,
    }
    return {
        "account": consent.account,
        "scope": consent.scope,
        "refresh_id": consent.token.refresh_id,
        **{name: timestamp(at) if at is not None else None for name, at in moments.items()},
    }


def failure_body(found: Failure | None) -> dict[str, Any] | None:
    """A remembered failure."""
    if found is None:
        return None
    return {
        "code": found.code,
        "detail": found.detail,
        "provider_error": found.provider_error,
        "at": timestamp(found.at),
        "retry_at": timestamp(found.retry_at),
        "count": found.count,
    }


def provider_body(found: Provider, proof: str) -> dict[str, Any]:
    """What a connection of the provider needs: the provider's own settings first, then the common ones.

    `proof`: how sure its file is.
    """
    own = [
        {
            "name": spec.name,
            "kind": spec.kind,
            "choices": list(spec.choices),
            "required": spec.required,
            "default": spec.default,
            "help": spec.help,
        }
        for spec in found.settings
    ]
    common = [
        {
            "name": spec.name,
            "kind": spec.kind,
            "choices": list(found.client_auths if spec.name == "client_auth" else spec.choices),
            "required": spec.required or (spec.name == "scope" and found.scope.required),
            "default": found.request.client_auth if spec.name == "client_auth" else spec.default,
            "help": spec.help,
        }
        for spec in COMMON_SETTINGS
    ]
    return {
        "slug": found.slug,
        "title": found.title,
        "grant": found.grant.name,
        "consent": _ways_to_consent(found.consent),
        "credentials": [{"name": name, "required": True} for name in found.credentials]
        + [{"name": name, "required": False} for name in found.optional_credentials],
        "settings": own + common,
        "documentation": found.documentation,
        "proof": proof,
    }


def _ways_to_consent(spec: ConsentSpec | None) -> dict[str, bool] | None:
    """How a person can give consent; None where the provider's file does not say, or none is needed."""
    if spec is None:
        return None
    return {
        "redirect": spec.authorize_url is not None,
        "loopback": spec.loopback,
        "device": spec.device_url is not None,
    }


def health_body(version: str, checks: Mapping[str, str], faulty_files: Sequence[FaultyFile]) -> dict[str, Any]:
    """The broker's health without its status. Faulty files of the platform team are named where there are some."""
    body: dict[str, Any] = {"version": version, "checks": checks}
    if faulty_files:
        body["faulty_provider_files"] = [
            {"file": file.name, "errors": [{"field": fault.field, "reason": fault.reason} for fault in file.faults]}
            for file in faulty_files
        ]
    return body


def _token_state(record: TokenRecord) -> dict[str, Any]:
    token = record.token
    failures = record.failures()
    return {
        "scope": record.key.scope,
        "token_id": token.token_id if token else None,
        "expires_at": timestamp(token.expires_at) if token else None,
        "renew_at": timestamp(token.renew_at) if token else None,
        "last_renewal": timestamp(token.issued_at) if token else None,
        "failure": failure_body(max(failures, key=lambda found: found.at) if failures else None),
    }

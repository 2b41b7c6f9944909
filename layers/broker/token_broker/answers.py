"""The bodies of successful answers, as plain objects for JSON. Only `handout` carries a token."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from token_broker.broker import Handout, Purge
from token_broker.core.connections import COMMON_SETTINGS
from token_broker.core.failures import Failure
from token_broker.core.providers import Provider
from token_broker.core.tokens import TokenRecord

if TYPE_CHECKING:
    from token_broker.broker.registry import ConnectionState
    from token_broker.broker.trial import TrialResult


def timestamp(at: datetime) -> str:
    """A moment as `2026-11-22T12:00:00Z`."""
    return at.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def whole_seconds(duration: timedelta) -> int:
    """Rounded down: nobody is told of a second that is not there."""
    return max(int(duration.total_seconds()), 0)


def handout(given: Handout) -> dict[str, Any]:
    """A token: the first fields read as an answer of RFC 6749 section 5.1, `headers` is ready to send."""
    token, connection = given.token, given.connection
    return {
        "access_token": given.access_token,
        "token_type": connection.provider.token_type,
        "expires_in": whole_seconds(token.left(given.now)),
        "expires_at": timestamp(token.expires_at),
        "expires_assumed": token.expires_assumed,
        "renew_at": timestamp(token.renew_at),
        "scope": token.scope,
        "token_id": token.token_id,
        "provider": connection.name.provider,
        "connection": connection.name.connection,
        "headers": given.headers,
        "api_base_url": connection.api_base_url,
        "source": given.source,
        "warnings": list(given.warnings),
    }


def purge(done: Purge) -> dict[str, Any]:
    """What a DELETE dropped, revoked and left."""
    return {
        "dropped": done.dropped,
        "revoked": list(done.revoked),
        "not_revoked": [
            {"token_id": item.token_id, "reason": item.reason, "expires_at": timestamp(item.expires_at)}
            for item in done.not_revoked
        ],
    }


def trial(result: TrialResult) -> dict[str, Any]:
    """What the tried credentials would bring."""
    return {
        "expires_in": whole_seconds(result.expires_in),
        "scope": result.scope,
        "token_id": result.token_id,
        "stage": result.stage,
    }


def summary(state: ConnectionState) -> dict[str, Any]:
    """A connection in a list."""
    return {
        "provider": state.name.provider,
        "connection": state.name.connection,
        "state": state.state,
        "tokens": state.live,
        "next_expiry": timestamp(state.next_expiry) if state.next_expiry else None,
        "last_failure": failure(state.last_failure),
    }


def connection(state: ConnectionState, now: datetime) -> dict[str, Any]:
    """A connection whole: settings, version, what ends, and each token's state."""
    return {
        **summary(state),
        "version": state.version,
        "settings": dict(state.settings),
        "deadlines": [
            {
                "what": deadline.what,
                "scope": deadline.scope,
                "at": timestamp(deadline.at),
                "days_left": round(deadline.days_left(now), 1),
            }
            for deadline in state.deadlines
        ],
        "tokens": [_token(record) for record in state.records if record.token or record.failure],
    }


def failure(found: Failure | None) -> dict[str, Any] | None:
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


def provider(found: Provider) -> dict[str, Any]:
    """What a provider's connections need: its own settings first, then those of every connection."""
    own = [
        {"name": spec.name, "required": spec.required, "default": spec.default, "help": spec.help}
        for spec in found.settings
    ]
    common = [
        {
            "name": spec.name,
            "required": spec.required or (spec.name == "scope" and found.scope.required),
            "default": found.client_auth if spec.name == "client_auth" else spec.default,
            "help": spec.help,
        }
        for spec in COMMON_SETTINGS
    ]
    return {
        "slug": found.slug,
        "title": found.title,
        "grant": found.grant,
        "credentials": [{"name": name, "required": True} for name in found.credentials]
        + [{"name": name, "required": False} for name in found.optional_credentials],
        "settings": own + common,
        "documentation": found.documentation,
    }


def _token(record: TokenRecord) -> dict[str, Any]:
    token, failures = record.token, record.failures()
    return {
        "scope": record.key.scope,
        "token_id": token.token_id if token else None,
        "expires_at": timestamp(token.expires_at) if token else None,
        "renew_at": timestamp(token.renew_at) if token else None,
        "last_renewal": timestamp(token.issued_at) if token else None,
        "failure": failure(max(failures, key=lambda found: found.at) if failures else None),
    }

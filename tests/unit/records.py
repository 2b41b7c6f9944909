"""Token records, failures and policies for the tests of `decide`, all around one moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from token_broker.core.failures import Failure
from token_broker.core.health import ConnectionHealth
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.policy import RenewalPolicy, TokenCriteria
from token_broker.core.records import Lease, Token, TokenRecord

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
KEY = TokenKey(ConnectionName("unidy", "main"), "users:read")
ISSUER = "https://id.example.com/oauth/token"
CURRENT = "c" * 16
OTHER = "0" * 16


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def policy(**changes: Any) -> RenewalPolicy:
    return RenewalPolicy(**{"token_endpoint": ISSUER, "settings_digest": "s1", **changes})


def token(*, age: float = 600, remaining: float = 3000, **changes: Any) -> Token:
    """A token issued `age` seconds ago that expires in `remaining` seconds."""
    plain: dict[str, Any] = {
        "token_id": CURRENT,
        "scope": KEY.scope,
        "issued_at": NOW - seconds(age),
        "expires_at": NOW + seconds(remaining),
        "renew_at": NOW + seconds(remaining - 0.2 * (age + remaining)),
        "expires_assumed": False,
        "expiry_disputed": False,
        "token_endpoint": ISSUER,
        "settings_digest": "s1",
        "secret_version": "v1",
        "sealed": b"sealed",
    }
    return Token(**{**plain, **changes})


def failure(*, ago: float = 10, cooldown: float = 20, **changes: Any) -> Failure:
    """A transient failure `ago` seconds ago. Its cooldown lasts `cooldown` seconds more."""
    plain: dict[str, Any] = {
        "code": "provider_unavailable",
        "detail": "It failed.",
        "provider_error": None,
        "at": NOW - seconds(ago),
        "retry_at": NOW + seconds(cooldown),
        "count": 1,
        "secret_version": "v1",
        "settings_digest": "s1",
        "rule": "server_failed",
    }
    return Failure(**{**plain, **changes})


def refused(**changes: Any) -> Failure:
    return failure(**{"code": "provider_refused", "rule": "credentials_refused", "cooldown": 900, **changes})


def rate_limited(**changes: Any) -> Failure:
    return failure(**{"code": "provider_rate_limited", "rule": "rate_limited", "cooldown": 60, **changes})


def record(found: Token | None = None, **changes: Any) -> TokenRecord:
    return TokenRecord(**{"key": KEY, "token": found, "revision": "r1", **changes})


def with_health(failed: Failure, found: Token | None = None, **changes: Any) -> TokenRecord:
    """A record whose connection failed."""
    return record(found, health=ConnectionHealth(failure=failed), **changes)


def lease(until: float = 17, *, age: float = 0) -> Lease:
    """A lease that was taken `age` seconds ago and expires in `until` seconds."""
    return Lease("another", since=NOW - seconds(age), until=NOW + seconds(until))


def criteria(**changes: Any) -> TokenCriteria:
    return TokenCriteria(**{"requested_at": NOW, "min_ttl": seconds(30), **changes})

"""Records to write and read back. Moments are whole milliseconds, as the table stores them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import RefreshToken, RetiredToken, Token, TokenRecord
from token_broker.ports import Commit, TokenStore

NOW = datetime(2026, 11, 22, 12, 0, 0, 123_000, tzinfo=UTC)
LEASE = timedelta(seconds=17)
HOUR = timedelta(hours=1)
SETTINGS = {"token_url": "https://id.example/token"}

ISSUER = "https://id.example/token"


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def new_key(scope: str = "users:read") -> TokenKey:
    """A key that no other test has: a DynamoDB table serves the whole session."""
    return TokenKey(ConnectionName("oauth2", f"c-{uuid4().hex}"), scope)


def a_token(token_id: str = "0123456789abcdef", **fields: Any) -> Token:
    values: dict[str, Any] = {
        "token_id": token_id,
        "scope": "users:read",
        "issued_at": NOW,
        "expires_at": NOW + HOUR,
        "renew_at": NOW + timedelta(minutes=48),
        "expires_assumed": False,
        "expiry_disputed": True,
        "issuer": ISSUER,
        "secret_version": "v1",
        "sealed": b"sealed " + token_id.encode(),
    }
    return Token(**values | fields)


def a_refresh(refresh_id: str = "fedcba9876543210", expires_at: datetime | None = None) -> RefreshToken:
    return RefreshToken(refresh_id, expires_at, sent=False, sealed=b"sealed " + refresh_id.encode())


def a_failure(code: str = "provider_unavailable", at: datetime = NOW, **fields: Any) -> Failure:
    values: dict[str, Any] = {
        "code": code,
        "detail": "The provider failed.",
        "provider_error": "server_error",
        "at": at,
        "retry_at": at + timedelta(seconds=30),
        "count": 2,
        "secret_version": "v1",
        "settings_digest": "s1",
        "rule": "temporary_error",
    }
    return Failure(**values | fields)


def a_commit(token: Token | None = None, *, refresh: RefreshToken | None = None, **fields: Any) -> Commit:
    values: dict[str, Any] = {
        "read_as": TokenRecord(new_key()),
        "token": token or a_token(),
        "refresh_token": refresh,
        "retired": (),
        "due_at": after(2880),
        "now": after(1),
        "used": True,
        "keep_rejections": False,
    }
    return Commit(**values | fields)


def a_retired(
    token_id: str = "1111111111111111", *, revoke: bool = True, expires_at: datetime = NOW + HOUR
) -> RetiredToken:
    return RetiredToken(token_id, expires_at, ISSUER, revoke, b"sealed " + token_id.encode())


def lease(store: TokenStore, key: TokenKey, owner: str = "owner", *, at: datetime = NOW, mark: bool = False) -> bool:
    return store.take_lease(store.read(key)[1], owner, now=at, until=at + LEASE, mark_refresh=mark)[0]


def stored(store: TokenStore, key: TokenKey, commit: Commit | None = None, *, owner: str = "owner") -> TokenRecord:
    """A key with a token, committed as an acquisition commits it."""
    assert lease(store, key, owner)
    assert store.commit(key, owner, commit or a_commit()) is None
    return read(store, key)


def read(store: TokenStore, key: TokenKey) -> TokenRecord:
    return store.read(key)[1]

"""The stores under test, and records to put into them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from token_broker.core.consents import Consent, ConsentToken
from token_broker.core.failures import Failure
from token_broker.core.health import ConnectionHealth
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import Lease, RefreshToken, RetiredToken, Token, TokenRecord
from token_broker.ports import (
    Budgets,
    ConnectionStore,
    ConsentSessionStore,
    ConsentStore,
    DueIndex,
    HealthStore,
    TokenStore,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SETTINGS = {"allowed_callers": ["*"], "token_url": "https://id.example/token"}


@dataclass(frozen=True)
class Stores:
    """All stores over one TokenTable and one GrantTable."""

    tokens: TokenStore
    health: HealthStore
    due_index: DueIndex
    budgets: Budgets
    connections: ConnectionStore
    consents: ConsentStore
    consent_sessions: ConsentSessionStore


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def new_key(scope: str = "a b") -> TokenKey:
    """A key that no other test has."""
    return TokenKey(ConnectionName("oauth2", f"c{uuid4().hex[:12]}"), scope)


def a_token(token_id: str = "9f86d081884c7d65", **changes: Any) -> Token:
    token = Token(
        token_id=token_id,
        scope="a b",
        issued_at=NOW,
        expires_at=after(3600),
        renew_at=after(2880),
        expires_assumed=True,
        expiry_disputed=True,
        token_endpoint="https://id.example/token",
        settings_digest="digest",
        secret_version="v1",
        sealed=b"sealed",
    )
    return replace(token, **changes)


def a_failure(**changes: Any) -> Failure:
    failure = Failure(
        code="provider_refused",
        detail="The provider refused the credentials.",
        provider_error="invalid_client",
        at=NOW,
        retry_at=after(900),
        count=2,
        secret_version="v1",
        settings_digest="digest",
        rule="client_refused",
        one_more_try=True,
    )
    return replace(failure, **changes)


def full_record(key: TokenKey) -> TokenRecord:
    """A record with every field set."""
    return TokenRecord(
        key,
        token=a_token(),
        refresh_token=RefreshToken("0f0e0d0c0b0a0908", after(86_400), sent=True, sealed=b"refresh"),
        lease=Lease("owner", NOW, after(17)),
        failure=a_failure(),
        keep_warm="used",
        settings_digest="digest",
        last_used_at=after(1),
        stale_at=after(2),
        deferred_until=after(3),
        reports_until=after(4),
        due_at=after(100),
        delete_at=after(200_000),
        revision=uuid4().hex,
    )


def a_retired(key: TokenKey, token_id: str = "00112233445566aa", due_at: datetime | None = None) -> RetiredToken:
    return RetiredToken(
        key,
        token_id,
        after(3600),
        "https://id.example/token",
        revoke=True,
        sealed=b"retired",
        settings=SETTINGS,
        due_at=due_at,
    )


def some_health() -> ConnectionHealth:
    """Health with every field set."""
    return ConnectionHealth(
        failure=a_failure(),
        rate_limit=a_failure(code="provider_rate_limited", provider_error=None, secret_version=None),
        unresolved_logins=2,
        login_version="v1",
        new_versions=(("v1", NOW), ("v2", after(1))),
        refused_versions=("v1", "v2"),
        trials=(("v1", after(1)), ("v2", after(2))),
        delete_at=after(86_400),
        revision=uuid4().hex,
    )


def a_consent(name: ConnectionName) -> Consent:
    """A consent with every field set but `due_at`."""
    return Consent(
        name,
        token=ConsentToken("0f0e0d0c0b0a0908", b"refresh", after(86_400)),
        issuer="https://id.example/token",
        client_id="client",
        seed_id="0011223344556677",
        past_seeds=("8899aabbccddeeff", "ffeeddccbbaa9988"),
        lease=Lease("owner", NOW, after(17)),
        sent_at=after(1),
        refused="invalid_grant",
        generation=2,
        consent_id="c" * 64,
        scope="a b",
        account="seller-1",
        kept={"realmId": "123"},
        extends=True,
        obtained_at=after(2),
        refreshed_at=after(3),
        revision=uuid4().hex,
    )


def saved(stores: Stores, before: TokenRecord, **changes: Any) -> TokenRecord:
    """Saves a changed record, which must succeed."""
    record = replace(before, **{"revision": uuid4().hex, **changes})
    assert stores.tokens.save(before, record) is None
    return record


def read(stores: Stores, key: TokenKey) -> TokenRecord:
    return stores.tokens.read(key)[1]

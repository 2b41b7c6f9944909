"""What the store knows of a token key. Tokens themselves stay sealed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from token_broker.core.failures import Failure
from token_broker.core.names import TokenKey

# A lease may be taken over this long after it expired: clocks are assumed to agree within 1 s.
CLOCK_TOLERANCE = timedelta(seconds=1)
MAX_TOKENS_TO_REVOKE = 8


@dataclass(frozen=True, slots=True)
class Token:
    """An issued token. `scope`: the granted one. `issuer`: its token endpoint. `sealed`: its ciphertext."""

    token_id: str
    scope: str
    issued_at: datetime
    expires_at: datetime
    renew_at: datetime
    expires_assumed: bool
    expiry_disputed: bool
    issuer: str
    secret_version: str
    sealed: bytes = field(repr=False)

    @property
    def lifetime(self) -> timedelta:
        return self.expires_at - self.issued_at

    def remaining(self, now: datetime) -> timedelta:
        return self.expires_at - now

    def alive(self, now: datetime) -> bool:
        return self.expires_at > now


def pack_access_token(access_token: str, revocation_url: str | None) -> str:
    """The text that is sealed for an access token: the token and its revocation endpoint, one line each.

    The endpoint is sealed too, so that a writer of the table cannot redirect a revocation. Neither value can hold a
    line break (RFC 6750 section 2.1, RFC 3986 section 2).
    """
    return f"{access_token}\n{revocation_url or ''}"


def unpack_access_token(opened: str) -> tuple[str, str | None]:
    """The access token and its revocation endpoint."""
    access_token, _, revocation_url = opened.partition("\n")
    return access_token, revocation_url or None


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token. `sent`: it was sent, or may have been. It is never sent again."""

    refresh_id: str
    expires_at: datetime | None
    sent: bool
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RetiredToken:
    """A token that callers no longer get but that may be valid. `revoke`: it must be revoked, only at `issuer`."""

    token_id: str
    expires_at: datetime
    issuer: str
    revoke: bool
    sealed: bytes = field(repr=False)

    @classmethod
    def of(cls, token: Token, *, revoke: bool) -> RetiredToken:
        return cls(token.token_id, token.expires_at, token.issuer, revoke, token.sealed)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to ask the provider for a token key's token, until a moment."""

    owner: str
    until: datetime

    def holds(self, now: datetime) -> bool:
        return now < self.until + CLOCK_TOLERANCE


@dataclass(frozen=True, slots=True)
class ConnectionHealth:
    """What is remembered of a connection's credentials.

    `rate_limit`: the provider's last request to slow down. `failure`: the last failure of any other kind. Each has its
    own cooldown. `unresolved_logins`: logins that were sent and whose outcome is unknown. `new_versions`: the secret
    versions first used after a failure and when, newest last. `trial_at`: the last trial.
    """

    failure: Failure | None = None
    rate_limit: Failure | None = None
    unresolved_logins: int = 0
    new_versions: tuple[tuple[str, datetime], ...] = ()
    trial_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """All that the store knows of a token key, as of one read.

    `last_owner`: the owner of the last lease; it stays after the lease ended, so that late writes are recognised.
    `stale_at`: when the secret or the settings changed after the token was acquired. `revocation_settings`: the
    settings under which retired tokens are revoked.
    """

    key: TokenKey
    token: Token | None = None
    refresh_token: RefreshToken | None = None
    lease: Lease | None = None
    last_owner: str | None = None
    failure: Failure | None = None
    health: ConnectionHealth = field(default_factory=ConnectionHealth)
    rejections: int = 0
    rejected_until: datetime | None = None
    retired: tuple[RetiredToken, ...] = ()
    revocation_settings: Mapping[str, Any] | None = field(default=None, repr=False)
    last_used_at: datetime | None = None
    stale_at: datetime | None = None
    due_at: datetime | None = None
    exists: bool = False

    def live_token(self, now: datetime) -> Token | None:
        """The current token unless it has expired."""
        return self.token if self.token is not None and self.token.alive(now) else None

    def leased(self, now: datetime) -> bool:
        """Whether somebody holds the lease."""
        return self.lease is not None and self.lease.holds(now)

    def failures(self) -> tuple[Failure, ...]:
        """The failures that concern this key: its own and its connection's."""
        found = (self.health.failure, self.health.rate_limit, self.failure)
        return tuple(failure for failure in found if failure is not None)

    def tokens_to_revoke(self, now: datetime) -> tuple[RetiredToken, ...]:
        """All tokens of the key that have not expired, each marked to be revoked: what a purge leaves behind.

        At most MAX_TOKENS_TO_REVOKE, the newest ones: an item of the table has a size limit.
        """
        items = [replace(item, revoke=True) for item in self.retired]
        if self.token is not None:
            items.append(RetiredToken.of(self.token, revoke=True))
        return tuple(item for item in items if item.expires_at > now)[-MAX_TOKENS_TO_REVOKE:]

"""What is known of a token: facts for deciding. The token itself stays sealed beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from token_broker.core.failures import Failure
from token_broker.core.names import TokenKey

# A lease is taken over this long after its end: clocks are assumed within 1 s.
CLOCK_TOLERANCE = timedelta(seconds=1)
MAX_OUTSTANDING = 8


@dataclass(frozen=True, slots=True)
class Token:
    """An issued token. `scope`: as granted; `issuer`: the token endpoint it came from; `sealed`: its ciphertext."""

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
    def life(self) -> timedelta:
        return self.expires_at - self.issued_at

    def left(self, now: datetime) -> timedelta:
        return self.expires_at - now

    def alive(self, now: datetime) -> bool:
        return self.expires_at > now


def sealable(access_token: str, revocation: str | None) -> str:
    """What is sealed of an access token: with it goes where it may be revoked, for whoever may write the table could
    name another address beside it. Neither holds the end of a line (RFC 6750 2.1, RFC 3986 2)."""
    return f"{access_token}\n{revocation or ''}"


def unsealed(opened: str) -> tuple[str, str | None]:
    """The access token and its revocation endpoint, from what was sealed."""
    access_token, _, revocation = opened.partition("\n")
    return access_token, revocation or None


@dataclass(frozen=True, slots=True)
class Refresh:
    """A refresh token. `sent`: it went out once, or may have: never send it again."""

    refresh_id: str
    expires_at: datetime | None
    sent: bool
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Retired:
    """A token that is no longer handed out but may still live. `revoke`: it is to be ended, at `issuer` alone."""

    token_id: str
    expires_at: datetime
    issuer: str
    revoke: bool
    sealed: bytes = field(repr=False)

    @classmethod
    def of(cls, token: Token, *, revoke: bool) -> Retired:
        return cls(token.token_id, token.expires_at, token.issuer, revoke, token.sealed)


@dataclass(frozen=True, slots=True)
class Lease:
    """Who is asking the provider, and until when he may."""

    owner: str
    until: datetime

    def holds(self, now: datetime) -> bool:
        return now < self.until + CLOCK_TOLERANCE


@dataclass(frozen=True, slots=True)
class Guard:
    """What rests on a whole connection.

    `limited`: the provider's wish to be left alone; `failure`: the last one of any other kind. Both hold, each for its
    own time. `unresolved`: login attempts that were sent and whose outcome nobody knows. `tried`: when which secret
    versions were first tried, newest last. `trial_at`: the last trial.
    """

    failure: Failure | None = None
    limited: Failure | None = None
    unresolved: int = 0
    tried: tuple[tuple[str, datetime], ...] = ()
    trial_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """All that the store knows of a token key, as of one read.

    `last_owner`: who led last; it outlives the lease as its fence. `stale_at`: the secret changed after it was read for
    the token. `revoke_with`: the settings that the retired tokens were issued under, as PUT.
    """

    key: TokenKey
    token: Token | None = None
    refresh: Refresh | None = None
    lease: Lease | None = None
    last_owner: str | None = None
    failure: Failure | None = None
    guard: Guard = field(default_factory=Guard)
    rejections: int = 0
    rejected_until: datetime | None = None
    retired: tuple[Retired, ...] = ()
    revoke_with: Mapping[str, Any] | None = field(default=None, repr=False)
    last_used_at: datetime | None = None
    stale_at: datetime | None = None
    due_at: datetime | None = None
    exists: bool = False

    def failures(self) -> tuple[Failure, ...]:
        """The failures that bear on this key: its own and its connection's."""
        found = (self.guard.failure, self.guard.limited, self.failure)
        return tuple(failure for failure in found if failure is not None)

    def outstanding(self, now: datetime) -> tuple[Retired, ...]:
        """All tokens of the key that still live, each to be revoked: what a purge leaves."""
        items = [replace(item, revoke=True) for item in self.retired]
        if self.token is not None:
            items.append(Retired.of(self.token, revoke=True))
        # Bounded: an item that outgrows the table could not be written any more.
        return tuple(item for item in items if item.expires_at > now)[-MAX_OUTSTANDING:]

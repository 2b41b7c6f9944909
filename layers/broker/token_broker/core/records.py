"""What the store knows of a token key, and how it changes. Tokens themselves stay sealed.

Every change is a pure function of the record. What follows from a state (when the key is due, when its item may be
deleted) is derived by `token_broker.core.schedule` at each write.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from token_broker.core.failures import Failure
from token_broker.core.health import ConnectionHealth
from token_broker.core.names import TokenKey

# A lease may be taken over this long after it expired: clocks are assumed to agree within 1 s.
CLOCK_TOLERANCE = timedelta(seconds=1)
# Reports of rejected tokens: a bucket of 5 that refills by one a minute.
REPORT_INTERVAL = timedelta(minutes=1)
REPORT_BURST = 5


@dataclass(frozen=True, slots=True)
class Token:
    """An issued token. `scope`: the granted one. `token_endpoint`: who issued it. `sealed`: its ciphertext.

    `settings_digest` and `secret_version`: what it was requested with; None where that is not known. `reissued`: it had
    expired for us, and the provider issued it again with a new lifetime.
    """

    token_id: str
    scope: str
    issued_at: datetime
    expires_at: datetime
    renew_at: datetime
    expires_assumed: bool
    expiry_disputed: bool
    token_endpoint: str
    settings_digest: str | None
    secret_version: str
    sealed: bytes = field(repr=False)
    reissued: bool = False

    @property
    def lifetime(self) -> timedelta:
        return self.expires_at - self.issued_at

    def remaining(self, now: datetime) -> timedelta:
        return self.expires_at - now

    def alive(self, now: datetime) -> bool:
        return self.expires_at > now


# The purposes of sealed values.
ACCESS_TOKEN = "access_token"  # noqa: S105  # a name
REFRESH_TOKEN = "refresh_token"  # noqa: S105  # a name


@dataclass(frozen=True, slots=True)
class OpenedToken:
    """What is sealed with an access token: all that a caller's response and a revocation need besides the settings.

    `api_base_url`: from the provider's response. `credentials`: the public ones that callers send. `kept`: what is kept
    of a consent's redirect.
    """

    access_token: str = field(repr=False)
    revocation_url: str | None = None
    api_base_url: str | None = None
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    kept: Mapping[str, str] = field(default_factory=dict, repr=False)

    def pack(self) -> str:
        """The text to seal: one line each, empty ones at the end left out.

        The URLs are sealed too, so that a writer of the table can redirect neither a revocation nor a caller. No value
        can hold a line break (RFC 6750 section 2.1, RFC 3986 section 2, RFC 8259 section 7).
        """
        maps = (json.dumps(dict(values)) if values else "" for values in (self.credentials, self.kept))
        lines = (self.access_token, self.revocation_url or "", self.api_base_url or "", *maps)
        return "\n".join(lines).rstrip("\n")

    @classmethod
    def unpack(cls, opened: str) -> OpenedToken:
        """The reverse of `pack`."""
        access_token, revocation_url, api_base_url, *maps = (opened.split("\n") + [""] * 4)[:5]
        credentials, kept = (json.loads(values) if values else {} for values in maps)
        return cls(access_token, revocation_url or None, api_base_url or None, credentials, kept)


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token. `sent`: it was sent, or may have been. It is never sent again."""

    refresh_id: str
    expires_at: datetime | None
    sent: bool
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RetiredToken:
    """A token that callers no longer get but that may not have expired: an item of its own.

    `revoke`: it must be revoked, only at `token_endpoint`, under `settings` (as they were PUT).
    """

    key: TokenKey
    token_id: str
    expires_at: datetime
    token_endpoint: str
    revoke: bool
    sealed: bytes = field(repr=False)
    settings: Mapping[str, Any] | None = field(default=None, repr=False)
    due_at: datetime | None = None

    @classmethod
    def of(cls, key: TokenKey, token: Token) -> RetiredToken:
        """A superseded token. It expires by itself, unless a purge marks it."""
        return cls(key, token.token_id, token.expires_at, token.token_endpoint, revoke=False, sealed=token.sealed)

    def to_revoke(self, settings: Mapping[str, Any], due_at: datetime) -> RetiredToken:
        """The same token, to be revoked under these settings. The worker tries at `due_at`."""
        return replace(self, revoke=True, settings=settings, due_at=due_at)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to ask the provider for a token key's token, for a time."""

    owner: str
    since: datetime
    until: datetime

    def holds(self, now: datetime) -> bool:
        return now < self.until + CLOCK_TOLERANCE


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """All that the store knows of a token key, as of one read.

    `keep_warm`: the connection's setting, or `suspended`. `settings_digest`: of the settings last applied to the key.
    `stale_at`: when secret or settings changed after the token was acquired. `deferred_until`: the endpoint's budget is
    used up until then. `reports_until`: the state of the report bucket (see `report_allowed_at`). `reissues`: the
    provider was seen to give the same token again until it expires. `revision` names this state; None where nothing is
    stored.
    """

    key: TokenKey
    token: Token | None = None
    refresh_token: RefreshToken | None = None
    lease: Lease | None = None
    failure: Failure | None = None
    health: ConnectionHealth = field(default_factory=ConnectionHealth)
    keep_warm: str = "never"
    settings_digest: str | None = None
    last_used_at: datetime | None = None
    stale_at: datetime | None = None
    deferred_until: datetime | None = None
    reports_until: datetime | None = None
    reissues: bool = False
    due_at: datetime | None = None
    delete_at: datetime | None = None
    revision: str | None = None

    @property
    def exists(self) -> bool:
        return self.revision is not None

    def live_token(self, now: datetime) -> Token | None:
        """The current token unless it has expired."""
        return self.token if self.token is not None and self.token.alive(now) else None

    def leased(self, now: datetime) -> bool:
        """Whether somebody holds the lease."""
        return self.lease is not None and self.lease.holds(now)

    def last_leased_by(self, owner: str) -> bool:
        """Whether `owner` took the lease last. It may have expired, but nobody else has taken it."""
        return self.lease is not None and self.lease.owner == owner

    def failures(self) -> tuple[Failure, ...]:
        """The failures that concern this key: its connection's and its own."""
        return (*self.health.failures, *((self.failure,) if self.failure is not None else ()))

    def report_allowed_at(self) -> datetime | None:
        """When a report may next cause a token request; None: now.

        `reports_until` moves one interval ahead with each request, starting from now. A request is allowed while it is
        less than the burst ahead (a token bucket, kept as one moment).
        """
        if self.reports_until is None:
            return None
        return self.reports_until - (REPORT_BURST - 1) * REPORT_INTERVAL

    # ---------------------------------------------------------------- changes

    def lease_taken(
        self, lease: Lease, *, keep_warm: str, settings_digest: str, mark_refresh_token: bool
    ) -> TokenRecord:
        """The lease is taken, and the settings are applied. A stored refresh token is marked as sent."""
        refresh_token = self.refresh_token
        if mark_refresh_token and refresh_token is not None:
            refresh_token = replace(refresh_token, sent=True)
        applied = self.settings_applied(
            keep_warm=keep_warm, settings_digest=settings_digest, now=lease.since, resumed=False
        )
        return replace(applied, lease=lease, refresh_token=refresh_token)

    def lease_ended(self, before_lease: TokenRecord | None = None) -> TokenRecord:
        """The lease ends. `before_lease`: the record before the lease, if nothing was sent: its mark is restored."""
        refresh_token = self.refresh_token
        if before_lease is not None and before_lease.refresh_token is not None and refresh_token is not None:
            refresh_token = replace(refresh_token, sent=before_lease.refresh_token.sent)
        return replace(self, lease=None, refresh_token=refresh_token)

    def refresh_token_rotated(self, refresh_token: RefreshToken, *, sent: bool) -> TokenRecord:
        """The provider gave another refresh token and a token that has expired. It is asked again under this lease."""
        return replace(self, refresh_token=replace(refresh_token, sent=sent))

    def committed(
        self,
        token: Token,
        refresh_token: RefreshToken | None,
        *,
        at_lease: TokenRecord,
        now: datetime,
        used: bool,
        learns_reissue: bool = True,
    ) -> TokenRecord:
        """A token was issued. `at_lease`: the record as its lease was taken. `used`: a caller asked for it.

        The same token again never gets a later expiry while it lives. `learns_reissue`: it also shows that the provider
        gives no new one before, so that tokens are renewed when they expire; False where the provider's file says when.
        A secret or settings that changed since the lease was taken keep the key stale. The credentials work, so the
        failures known then are over.
        """
        reissues = learns_reissue and self._reissues(token, now)
        previous = self.token
        if previous is not None and previous.token_id == token.token_id:
            if previous.alive(now):
                token = replace(
                    token,
                    expires_at=min(token.expires_at, previous.expires_at),
                    renew_at=min(token.renew_at, previous.expires_at),
                    reissued=previous.reissued,
                )
            else:
                token = replace(token, reissued=True)
        if reissues:
            token = replace(token, renew_at=token.expires_at)
        stale_at = None if self.stale_at == at_lease.stale_at else self.stale_at
        if stale_at is None and token.settings_digest not in (None, self.settings_digest):
            stale_at = now
        return replace(
            self,
            token=token,
            refresh_token=refresh_token,
            lease=None,
            failure=None,
            health=self.health.succeeded(at_lease.health),
            stale_at=stale_at,
            deferred_until=None,
            last_used_at=now if used else self.last_used_at,
            reissues=reissues,
        )

    def _reissues(self, token: Token, now: datetime) -> bool:
        """Whether the provider gives the same token again until it expires, after it gave this one."""
        previous = self.token
        if previous is None or not previous.alive(now):
            return self.reissues or (previous is not None and previous.token_id == token.token_id)
        return previous.token_id == token.token_id

    def failed(self, failure: Failure | None, *, restore_mark_from: TokenRecord | None = None) -> TokenRecord:
        """The acquisition failed and its lease ends. `failure`: the key's own; None leaves the stored one.

        `restore_mark_from`: the record before the lease, if nothing was sent.
        """
        return replace(self.lease_ended(restore_mark_from), failure=failure if failure is not None else self.failure)

    def deferred(self, until: datetime) -> TokenRecord:
        """The budget is used up. The sweep does not come back before `until`."""
        return replace(self, deferred_until=until)

    def reported(self, now: datetime) -> TokenRecord:
        """A report causes a token request: one is taken from the bucket."""
        return replace(self, reports_until=max(self.reports_until or now, now) + REPORT_INTERVAL)

    def used(self, now: datetime) -> TokenRecord:
        """A caller got the token."""
        return replace(self, last_used_at=now) if self.token is not None else self

    def marked_stale(self, now: datetime) -> TokenRecord:
        """The secret changed: a token issued before is replaced."""
        return replace(self, stale_at=now)

    def settings_applied(self, *, keep_warm: str, settings_digest: str, now: datetime, resumed: bool) -> TokenRecord:
        """The settings were read or changed. Marks the token stale if it was requested with other ones.

        `resumed`: a suspension ended, during which the secret may have changed.
        """
        resumed = resumed or (self.keep_warm == "suspended" and keep_warm != "suspended")
        token_digest = self.token.settings_digest if self.token is not None else None
        outdated = token_digest is not None and token_digest != settings_digest
        stale_at = self.stale_at
        if self.token is not None and (resumed or outdated) and stale_at is None:
            stale_at = now
        return replace(self, keep_warm=keep_warm, settings_digest=settings_digest, stale_at=stale_at)

    def purged(self, *, deleted: bool = False) -> TokenRecord:
        """Token, refresh token, lease and failure are dropped. `deleted`: so is the connection."""
        return TokenRecord(
            self.key,
            health=self.health,
            keep_warm="never" if deleted else self.keep_warm,
            settings_digest=self.settings_digest,
            reports_until=self.reports_until,
            due_at=self.due_at,
            revision=self.revision,
        )

    def cooldowns_ended(self, health: ConnectionHealth) -> TokenRecord:
        """A trial of the current credentials succeeded. Nothing holds the sweep back any more."""
        return replace(self, health=health, failure=None, deferred_until=None)

    def health_changed(self, health: ConnectionHealth) -> TokenRecord:
        """The connection's health changed."""
        return replace(self, health=health)

"""When to serve, ask, wait or refuse. `decide` is the only place that decides; time is an argument."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from token_broker.core.failures import Failure
from token_broker.core.names import TokenKey, scope_items
from token_broker.core.tokens import Token, TokenRecord

MAX_REJECTION_REST = timedelta(minutes=15)
JITTER = 0.2


@dataclass(frozen=True, slots=True)
class RenewalPolicy:
    """The durations of one connection. `scale` shrinks all that follow a token's life together (local stack only).

    `reissue_window`: asked earlier than this before a token's end, the provider answers with the same token.
    `revokes_previous`: each issue ends the token before, so an early renewal costs every holder one report.
    """

    issuer: str
    settings_version: str
    reissue_window: timedelta | None = None
    revokes_previous: bool = False
    sweep_interval: timedelta = timedelta(seconds=60)
    slack: timedelta = timedelta(seconds=30)
    lease: timedelta = timedelta(seconds=17)
    widest_window: timedelta = timedelta(minutes=15)
    reissue_margin: timedelta = timedelta(seconds=60)
    early_spacing: timedelta = timedelta(seconds=30)
    default_min_ttl: timedelta = timedelta(seconds=30)

    def window(self, life: timedelta) -> timedelta:
        """How long before its end a token of this life is renewed."""
        if self.revokes_previous:
            return min(life / 2, self.slack)
        wanted = max(life * 0.2, self.sweep_interval + self.slack + self.lease)
        window = min(life / 2, wanted, self.widest_window)
        if self.reissue_window is not None:
            window = min(window, self.reissue_window - self.reissue_margin)
        return window

    def renew_at(
        self, key: TokenKey, issued_at: datetime, expires_at: datetime, refresh_in: timedelta | None
    ) -> datetime:
        """When to renew. The jitter of a key only ever shortens its window: keys made in one minute come due apart, and
        none before its reissue window opens."""
        life = expires_at - issued_at
        window = self.window(life)
        renew_at = expires_at - window + window * JITTER * key_fraction(key)
        if refresh_in is not None and self.reissue_window is None and not self.revokes_previous:
            renew_at = min(renew_at, issued_at + min(max(refresh_in, life / 10), life))
        return renew_at

    def swept_after(self, token: Token) -> datetime:
        """From when on the sweep may ask for a token's successor: of a life of seconds, once a minute at most."""
        return token.issued_at + (self.sweep_interval if token.life < 2 * self.sweep_interval else timedelta())

    def reissues(self, token: Token, now: datetime) -> bool:
        """Whether the provider would give a new token, and not the same one again."""
        return self.reissue_window is None or token.left(now) <= self.reissue_window

    def rejection_rest(self, rejections: int) -> timedelta:
        """How long after the n-th forced request the next one must wait: 30 s, doubling to 15 min."""
        doublings: int = 2 ** min(max(rejections - 1, 0), 16)
        return min(self.early_spacing * doublings, MAX_REJECTION_REST)


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What is asked of a key. `renewal`: by the sweep, ahead of need. `secret_version`: the current one, if known.
    `unreadable`: the token_id of a token whose seal is broken."""

    asked_at: datetime
    min_ttl: timedelta = timedelta()
    rejected: str | None = None
    renewal: bool = False
    secret_version: str | None = None
    unreadable: str | None = None


@dataclass(frozen=True, slots=True)
class Serve:
    """Hand out the record's token."""

    token: Token
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Acquire:
    """Ask the provider. `forced`: because a caller reported the current token as refused."""

    forced: bool = False


@dataclass(frozen=True, slots=True)
class AwaitOther:
    """Somebody else holds the lease; look again. `fallback` may be served if that takes too long."""

    until: datetime
    fallback: Serve | None


@dataclass(frozen=True, slots=True)
class Refuse:
    """No token until `retry_at`: `failure` rests, or (None) reports or renewals come too fast."""

    failure: Failure | None
    retry_at: datetime


Decision = Serve | Acquire | AwaitOther | Refuse


def decide(record: TokenRecord, request: TokenRequest, policy: RenewalPolicy, now: datetime) -> Decision:
    """The one decision on a token key.

    A valid token is refused to nobody but who reported it. A longer or newer one is asked for only where the provider
    would give it, nothing rests, and nobody else is asking.
    """
    token = valid_token(record, policy, now)
    if token is not None and token.token_id == request.unreadable:
        token = None
    is_rejected = token is not None and token.token_id == request.rejected
    leased = record.lease is not None and record.lease.holds(now)
    rest = resting(record, request, policy, now)
    fallback = Serve(token, warnings(record, request, policy, now)) if token is not None and not is_rejected else None

    if fallback is not None and not _newer_wanted(record, fallback.token, request, policy, now):
        return fallback
    if token is not None and is_rejected and token.issued_at > request.asked_at:
        # The provider gave the same one again while the report was under way: its refusal had another reason.
        return Serve(token, (*warnings(record, request, policy, now), "same_token_reissued"))
    if is_rejected and record.rejected_until is not None and record.rejected_until > now and not leased:
        return Refuse(None, record.rejected_until)
    if rest is not None:
        return fallback or Refuse(rest, rest.retry_at)
    if record.lease is not None and leased:
        return AwaitOther(record.lease.until, fallback)
    if request.renewal and record.token is not None and record.stale_at is None:
        soonest = policy.swept_after(record.token)
        if now < soonest:
            return Refuse(None, soonest)
    return Acquire(forced=is_rejected)


def valid_token(record: TokenRecord, policy: RenewalPolicy, now: datetime) -> Token | None:
    """The record's token if it lives and comes from the endpoint that the settings name now: a token of another
    endpoint belongs to another account or system."""
    token = record.token
    return token if token is not None and token.alive(now) and token.issuer == policy.issuer else None


def resting(record: TokenRecord, request: TokenRequest, policy: RenewalPolicy, now: datetime) -> Failure | None:
    """The failure that keeps this key from being asked for, the longest one first; None if none does.

    Other settings, or another secret version where it is known, lift a refusal. The sweep never repeats a refusal.
    """
    failures = record.failures()
    if not failures:
        return None
    found = [
        failure
        for failure in failures
        if not is_lifted(failure, policy, request.secret_version)
        # What is missing may be there a moment later: it is told to those who waited, and tried for anybody else.
        and (request.renewal or not failure.misconfigured or failure.at > request.asked_at)
        and (failure.retry_at > now or (failure.refused and request.renewal))
    ]
    return max(found, key=lambda failure: failure.retry_at, default=None)


def is_lifted(failure: Failure, policy: RenewalPolicy, secret_version: str | None) -> bool:
    """Whether what failed is no longer what would be sent. A provider's wish to be left alone holds all the same."""
    if failure.limited:
        return False
    if failure.settings_version != policy.settings_version:
        return True
    return failure.refused and secret_version is not None and secret_version != failure.secret_version


def is_due(record: TokenRecord, token: Token, policy: RenewalPolicy, now: datetime) -> bool:
    """Whether a token is to be renewed now: its time has come within one sweep's look-ahead, or its secret changed."""
    if record.stale_at is not None:
        return True
    return (
        now >= policy.swept_after(token)
        and token.renew_at <= now + policy.sweep_interval / 2
        and policy.reissues(token, now)
    )


def warnings(record: TokenRecord, request: TokenRequest, policy: RenewalPolicy, now: datetime) -> tuple[str, ...]:
    """What a caller should know of the token that he gets."""
    token = record.token
    if token is None:
        return ()
    found = []
    if any(failure.at >= token.issued_at and not is_lifted(failure, policy, None) for failure in record.failures()):
        found.append("renewal_failing")
    if token.left(now) < request.min_ttl:
        found.append("min_ttl_unmet")
    asked = record.key.scope
    if asked and token.scope != asked and scope_items(token.scope) != scope_items(asked):
        found.append("scope_differs")
    if token.expiry_disputed:
        found.append("expiry_disputed")
    return tuple(found)


def _newer_wanted(
    record: TokenRecord, token: Token, request: TokenRequest, policy: RenewalPolicy, now: datetime
) -> bool:
    if request.renewal:
        return is_due(record, token, policy, now)
    if token.left(now) >= request.min_ttl or token.issued_at >= request.asked_at:
        return False
    return _longer_can_be_had(token, request, policy, now)


def _longer_can_be_had(token: Token, request: TokenRequest, policy: RenewalPolicy, now: datetime) -> bool:
    """min_ttl is no lever: a longer token is asked for only where the last one was long enough when new, and not more
    often than once per `early_spacing`."""
    spacing = min(policy.early_spacing, token.life / 2)
    return request.min_ttl <= token.life and policy.reissues(token, now) and now - token.issued_at >= spacing


def key_fraction(key: TokenKey) -> float:
    """A fixed number from 0 to 1 for each key, to spread keys by."""
    digest = hashlib.sha256(f"{key.pk}\n{key.sk}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32

"""When to serve, acquire, wait or deny. `decide` is the only place that decides; time is an argument."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache

from token_broker.core.connections import Connection
from token_broker.core.failures import Failure
from token_broker.core.names import TokenKey, split_scope
from token_broker.core.records import Token, TokenRecord
from token_broker.core.schedule import SWEEP_INTERVAL

JITTER = 0.2


@dataclass(frozen=True, slots=True)
class RenewalPolicy:
    """What `decide` needs to know of a connection.

    `new_token_window`: the provider gives a new token only in this last part of the lifetime, and the same one before.
    `revokes_previous`: each new token revokes the one before. `safety_margin`: spare time for a renewal, besides sweep
    interval and lease. `wait_on_lease`: callers wait for another's acquisition while its lease is younger than this.
    `min_spacing`: the least time between two token requests that are caused by `min_ttl`. `nearly_expired`: a token
    that the provider gives again with less time left is not used. `reissue_pause`: how long after its expiry the
    provider gives a new one, because lifetimes are told in whole seconds.
    """

    token_endpoint: str
    settings_digest: str
    new_token_window: timedelta | None = None
    revokes_previous: bool = False
    sweep_interval: timedelta = SWEEP_INTERVAL
    safety_margin: timedelta = timedelta(seconds=30)
    lease: timedelta = timedelta(seconds=17)
    wait_on_lease: timedelta = timedelta(seconds=4)
    max_window: timedelta = timedelta(minutes=15)
    new_token_margin: timedelta = timedelta(seconds=60)
    min_spacing: timedelta = timedelta(seconds=30)
    default_min_ttl: timedelta = timedelta(seconds=30)
    nearly_expired: timedelta = timedelta(seconds=2)
    reissue_pause: timedelta = timedelta(seconds=1)

    def window(self, lifetime: timedelta) -> timedelta:
        """The renewal window: how long before its expiry a token is renewed.

        20 % of its lifetime, at least 107 s, at most 15 min or half the lifetime.
        """
        if self.revokes_previous:
            return min(lifetime / 2, self.safety_margin)
        wanted = max(lifetime * 0.2, self.sweep_interval + self.safety_margin + self.lease)
        window = min(lifetime / 2, wanted, self.max_window)
        if self.new_token_window is not None:
            window = min(window, self.new_token_window - self.new_token_margin)
        return window

    def renew_at(
        self, key: TokenKey, issued_at: datetime, expires_at: datetime, refresh_in: timedelta | None
    ) -> datetime:
        """When to renew.

        Each key's jitter shortens its window by up to a fifth, so that keys made in one minute are renewed apart. It
        never widens the window: renewal must not start before a reissue window.
        """
        lifetime = expires_at - issued_at
        window = self.window(lifetime)
        renew_at = expires_at - window + window * JITTER * key_fraction(key)
        if refresh_in is not None and self.new_token_window is None and not self.revokes_previous:
            renew_at = min(renew_at, issued_at + min(max(refresh_in, lifetime / 10), lifetime))
        return renew_at

    def earliest_renewal(self, token: Token) -> datetime:
        """The sweep renews no token earlier than this, so a very short one is renewed at most once a minute."""
        return token.issued_at + (self.sweep_interval if token.lifetime < 2 * self.sweep_interval else timedelta())

    def gives_new_token(self, record: TokenRecord, token: Token, now: datetime) -> bool:
        """Whether the provider would return a new token, and not the same one again."""
        if self.new_token_window is not None:
            return token.remaining(now) <= self.new_token_window
        return not record.reissues or token.remaining(now) <= self.nearly_expired

    def ask_again_at(
        self, record: TokenRecord, token_id: str, expires_at: datetime, *, sent_at: datetime, received_at: datetime
    ) -> datetime | None:
        """When to ask once more, because the provider gave a token that has (almost) no time left; None: it has.

        The same token again expires when it would have expired. If that was a while ago, or if the provider's file says
        when it reissues, the provider extended it. What is left counts from the response, because the provider counted
        it after the request was sent.
        """
        known = record.token
        least = timedelta()
        is_same = known is not None and known.token_id == token_id and self.new_token_window is None
        if known is not None and is_same and known.expires_at > sent_at - self.nearly_expired:
            expires_at = min(expires_at, known.expires_at)
            least = self.nearly_expired
        if expires_at - sent_at > least:
            return None
        return received_at + max(expires_at - sent_at, timedelta()) + self.reissue_pause


def policy_for(connection: Connection, lease: timedelta, wait_on_lease: timedelta, time_scale: float) -> RenewalPolicy:
    """The durations of a connection. `time_scale` shortens all that follow a token's lifetime (local stack only)."""
    return _policy(
        connection.endpoints.token,
        connection.settings_digest,
        connection.provider.reissue_window_s,
        connection.issue_revokes_previous,
        lease,
        wait_on_lease,
        time_scale,
    )


@lru_cache(maxsize=1000)  # a memory hit needs its connection's policy
def _policy(
    token_endpoint: str,
    settings_digest: str,
    reissue_window_s: int | None,
    revokes_previous: bool,
    lease: timedelta,
    wait_on_lease: timedelta,
    time_scale: float,
) -> RenewalPolicy:
    base = RenewalPolicy(
        token_endpoint=token_endpoint,
        settings_digest=settings_digest,
        new_token_window=timedelta(seconds=reissue_window_s) * time_scale if reissue_window_s else None,
        revokes_previous=revokes_previous,
        lease=lease,
        wait_on_lease=wait_on_lease,
    )
    if time_scale == 1.0:
        return base
    return replace(
        base,
        sweep_interval=base.sweep_interval * time_scale,
        safety_margin=base.safety_margin * time_scale,
        lease=base.lease * time_scale,
        max_window=base.max_window * time_scale,
        new_token_margin=base.new_token_margin * time_scale,
        min_spacing=base.min_spacing * time_scale,
        default_min_ttl=base.default_min_ttl * time_scale,
        nearly_expired=base.nearly_expired * time_scale,
        reissue_pause=base.reissue_pause * time_scale,
    )


@dataclass(frozen=True, slots=True)
class TokenCriteria:
    """What a token must satisfy. `renewal`: the sweep asks, ahead of need. `rejected_token_id`: a caller reported it.

    `secret_version`: the current one, if known. `unreadable_token_id`: the token_id of a token whose seal is broken.
    `keeps_consent`: the refresh token of a consent must be sent now, whatever token there is: within the vendor's
    window for a resend, or before it dies unused. `trial`: an operator tries the credentials.
    """

    requested_at: datetime
    min_ttl: timedelta = timedelta()
    rejected_token_id: str | None = None
    renewal: bool = False
    secret_version: str | None = None
    unreadable_token_id: str | None = None
    keeps_consent: bool = False
    trial: bool = False

    @property
    def forces(self) -> bool:
        """Whether a new token is wanted in any case."""
        return self.keeps_consent or self.trial

    def ignores(self, failure: Failure) -> bool:
        """Whether the cooldown of a failure does not hold for this request."""
        if self.trial:
            return not failure.rate_limited
        return self.keeps_consent and failure.passes


@dataclass(frozen=True, slots=True)
class Serve:
    """Return the record's token."""

    token: Token
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Acquire:
    """Ask the provider. `reported`: because a caller reported the current token as rejected."""

    reported: bool = False


@dataclass(frozen=True, slots=True)
class AwaitOther:
    """Somebody else holds the lease until `until`. A caller may read again until `wait_until`, then gets `fallback`."""

    until: datetime
    wait_until: datetime
    fallback: Serve | None


@dataclass(frozen=True, slots=True)
class Deny:
    """No token before `retry_at`. `failure`: the one whose cooldown lasts; None: reports or renewals come too fast."""

    failure: Failure | None
    retry_at: datetime


Decision = Serve | Acquire | AwaitOther | Deny


def decide(record: TokenRecord, criteria: TokenCriteria, policy: RenewalPolicy, now: datetime) -> Decision:
    """The one decision on a token key.

    A valid token is denied only to the caller who reported it. The provider is asked for a longer or newer one only
    where it would give one, no cooldown lasts, and nobody else is asking. A stale token (its secret or settings
    changed) is replaced before it is served; it is served while somebody else is replacing it, or if that failed.
    """
    token = usable_token(record, policy, now)
    if token is not None and token.token_id == criteria.unreadable_token_id:
        token = None
    reported = token is not None and token.token_id == criteria.rejected_token_id
    leased = record.leased(now)
    failure = active_cooldown(record, criteria, policy, now)
    fallback = fallback_for(record, criteria, policy, now)

    if fallback is not None and not _newer_wanted(record, fallback.token, criteria, policy, now):
        return fallback
    if token is not None and reported and token.issued_at > criteria.requested_at:
        # The provider issued the same token again during the report. The API rejected it for another reason.
        found = warnings(record, criteria, policy, now)
        return Serve(token, found if token.reissued else (*found, "same_token_reissued"))
    allowed_at = record.report_allowed_at()
    if reported and allowed_at is not None and allowed_at > now and not leased:
        return Deny(None, allowed_at)
    if failure is not None:
        return fallback or Deny(failure, failure.retry_at)
    if record.lease is not None and leased:
        if fallback is not None and not criteria.renewal and fallback.token.remaining(now) >= criteria.min_ttl:
            return fallback
        # After a failure nobody queues behind the next attempt.
        failing = any(not is_cleared(found, policy, None) for found in record.failures())
        wait_until = now if failing else record.lease.since + policy.wait_on_lease
        return AwaitOther(record.lease.until, wait_until, fallback)
    if (
        criteria.renewal
        and not criteria.forces
        and record.token is not None
        and not is_stale(record, record.token, criteria, policy)
    ):
        earliest = policy.earliest_renewal(record.token)
        if now < earliest:
            return Deny(None, earliest)
    return Acquire(reported=reported)


def fallback_for(record: TokenRecord, criteria: TokenCriteria, policy: RenewalPolicy, now: datetime) -> Serve | None:
    """The valid token to serve where no better one can be had: not to the caller who reported it."""
    token = usable_token(record, policy, now)
    if token is None or token.token_id in (criteria.unreadable_token_id, criteria.rejected_token_id):
        return None
    return Serve(token, warnings(record, criteria, policy, now))


def usable_token(record: TokenRecord, policy: RenewalPolicy, now: datetime) -> Token | None:
    """The live token, if the endpoint that the settings name issued it.

    A token of another endpoint belongs to another account or system.
    """
    token = record.live_token(now)
    return token if token is not None and token.token_endpoint == policy.token_endpoint else None


def active_cooldown(
    record: TokenRecord, criteria: TokenCriteria, policy: RenewalPolicy, now: datetime
) -> Failure | None:
    """The failure with the longest cooldown that holds for this request; None if the provider may be asked.

    The sweep never repeats a refusal. A misconfigured connection denies only requests that began before the fault was
    found, and the sweep. A later caller reads the secret again.
    """
    failures = record.failures()
    if not failures:
        return None
    found = [
        failure
        for failure in failures
        if not is_cleared(failure, policy, criteria.secret_version)
        and not criteria.ignores(failure)
        and (criteria.renewal or not failure.misconfigured or failure.at > criteria.requested_at)
        and (failure.retry_at > now or (criteria.renewal and not failure.repeated_by_sweep))
    ]
    return max(found, key=lambda failure: failure.retry_at, default=None)


def is_cleared(failure: Failure, policy: RenewalPolicy, secret_version: str | None) -> bool:
    """Whether settings or secret changed since, so that the failure says nothing any more. A rate limit stays."""
    if failure.rate_limited:
        return False
    if failure.settings_digest != policy.settings_digest:
        return True
    return failure.needs_change and secret_version is not None and secret_version != failure.secret_version


def is_stale(record: TokenRecord, token: Token, criteria: TokenCriteria, policy: RenewalPolicy) -> bool:
    """Whether secret or settings changed after the token was requested. What is not known does not count."""
    if record.stale_at is not None:
        return True
    if token.settings_digest is not None and token.settings_digest != policy.settings_digest:
        return True
    return criteria.secret_version is not None and criteria.secret_version != token.secret_version


def is_due(record: TokenRecord, token: Token, policy: RenewalPolicy, now: datetime) -> bool:
    """Whether a token must be renewed now: `renew_at` is near or past."""
    return (
        now >= policy.earliest_renewal(token)
        and token.renew_at <= now + policy.sweep_interval / 2
        and policy.gives_new_token(record, token, now)
    )


def warnings(record: TokenRecord, criteria: TokenCriteria, policy: RenewalPolicy, now: datetime) -> tuple[str, ...]:
    """What a caller should know about the token."""
    token = record.token
    if token is None:
        return ()
    found = []
    if any(failure.at >= token.issued_at and not is_cleared(failure, policy, None) for failure in record.failures()):
        found.append("renewal_failing")
    if token.remaining(now) < criteria.min_ttl:
        found.append("min_ttl_unmet")
    requested = record.key.scope
    if requested and token.scope != requested and split_scope(token.scope) != split_scope(requested):
        found.append("scope_differs")
    if token.expiry_disputed:
        found.append("expiry_disputed")
    if token.reissued:
        found.append("same_token_reissued")
    return tuple(found)


def _newer_wanted(
    record: TokenRecord, token: Token, criteria: TokenCriteria, policy: RenewalPolicy, now: datetime
) -> bool:
    if criteria.forces:
        return True
    if criteria.renewal:
        return is_stale(record, token, criteria, policy) or is_due(record, token, policy, now)
    if is_stale(record, token, criteria, policy):
        return True
    if token.remaining(now) >= criteria.min_ttl or token.issued_at >= criteria.requested_at:
        return False
    return _longer_can_be_had(record, token, criteria, policy, now)


def _longer_can_be_had(
    record: TokenRecord, token: Token, criteria: TokenCriteria, policy: RenewalPolicy, now: datetime
) -> bool:
    """Whether the provider would give a token that satisfies `min_ttl`.

    Only if the last one satisfied it when it was new, and at most once per `min_spacing`: otherwise a caller could
    cause a token request with each call.
    """
    spacing = min(policy.min_spacing, token.lifetime / 2)
    new_enough = now - token.issued_at >= spacing
    return criteria.min_ttl <= token.lifetime and policy.gives_new_token(record, token, now) and new_enough


def key_fraction(key: TokenKey) -> float:
    """A fixed number from 0 to 1 for each key: its jitter."""
    digest = hashlib.sha256(f"{key.name}\n{key.scope_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32

"""P4: checks which failures are remembered, for how long nobody may ask the provider, and what clears a failure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta

from tests.component.state_machine.servers import RETRY_AFTER_S, Received
from tests.component.state_machine.stage import Operation, Stage, Trace
from token_broker.core.connections import settings_digest
from token_broker.core.failures import UNKNOWN_ERROR, Failure
from token_broker.core.names import ConnectionName, TokenKey

REFUSED_COOLDOWNS = (timedelta(minutes=15), timedelta(hours=1), timedelta(hours=4), timedelta(hours=24))
OUTAGE_COOLDOWNS = tuple(timedelta(seconds=s) for s in (2, 30, 60, 120, 240, 300))
RATE_LIMIT_COOLDOWN = timedelta(seconds=RETRY_AFTER_S)
# Credentials that worked before, a secret that was never refused, and an unknown error get one more try.
SECOND_CHANCE_COOLDOWN = timedelta(seconds=60)
OUTAGES = ("503", "html", "no token", "unreachable", "hang", "lost")
REFUSALS = ("refused", "invalid_scope")
OUR_OWN = ("broker_unavailable", "connection_misconfigured")
MAX_NEW_SECRETS = 3
# A new secret is counted before its request is sent, by up to the 12 s of an acquisition.
NEW_SECRETS_PERIOD = timedelta(hours=1) - timedelta(seconds=12)


def digest_of(trace: Trace) -> str:
    """The digest of the settings that an operation read."""
    return settings_digest(trace.settings.settings) if trace.settings is not None else ""


class Cooldowns:
    """Checks every failure that is stored or forgotten, and each request against the failures that its sender knew."""

    def __init__(self, stage: Stage, breaks: Callable[[str], object], *, login: bool) -> None:
        self._stage = stage
        self._breaks = breaks
        self._login = login
        self._hosts: dict[str, tuple[int, datetime]] = {}
        self._doubted: dict[ConnectionName, set[str | None]] = defaultdict(set)
        self._new_versions: dict[ConnectionName, dict[str | None, datetime]] = defaultdict(dict)
        # Of each secret: when it was refused for the first time, and who makes its one more try until when.
        self._refused_at: dict[ConnectionName, dict[str | None, datetime]] = defaultdict(dict)
        self._trying: dict[ConnectionName, tuple[str | None, datetime]] = {}

    def host_cools_down(self, host: str, until: datetime) -> None:
        self._hosts[host] = (self._stage.next_seq(), until)

    def worked(self, name: ConnectionName) -> None:
        """A token was issued: failures are over, new secrets are counted anew."""
        self._doubted.pop(name, None)
        self._refused_at.pop(name, None)
        self._trying.pop(name, None)
        self._new_versions.pop(name, None)

    def forgotten(self) -> None:
        """TokenTable was emptied."""
        for known in (self._doubted, self._refused_at, self._trying, self._new_versions):
            known.clear()

    # ------------------------------------------------------------------ what is remembered
    def changed(self, trace: Trace, before: Failure | None, after: Failure | None, *, may_be_over: bool) -> None:
        """The stored failure of a key or connection changed. `may_be_over`: it may be forgotten now."""
        if after == before:
            return
        if after is None:
            if not may_be_over and before is not None and not before.consent_required:
                self._breaks("P4: a failure was forgotten although nothing succeeded")
            return
        if before is not None and (before.secret_version, before.settings_digest) == _input(after):
            if before.retry_at > after.retry_at:
                self._breaks("P4: a failure shortened the cooldown of another")
            if before.refused and not after.refused and _knew(trace, before):
                self._breaks("P4: an outage cleared a refusal")
        if after.code in OUR_OWN:
            if before is not None and before.refused and before.settings_digest == after.settings_digest:
                self._breaks(f"P4: {after.code} cleared a refusal")
            return
        if trace.met_at is not None and after.at >= trace.met_at:
            self._check_new(trace, before, after)

    def _check_new(self, trace: Trace, before: Failure | None, after: Failure) -> None:
        """A failure that was just met has the kind and the cooldown that it must have."""
        if after.retry_at - after.at < self._least(trace, after):
            self._breaks(f"P4: after {trace.met} a cooldown of only {after.retry_at - after.at}")
        if before is None or after.rate_limited or not _knew(trace, before) or before.refused != after.refused:
            return
        if before.consent_required:
            return
        same_secret = before.secret_version == after.secret_version
        is_apart = self._login or after.at - before.at >= SECOND_CHANCE_COOLDOWN
        if trace.met == "unknown" and before.rule == UNKNOWN_ERROR and same_secret and is_apart and not after.refused:
            self._breaks("P4: a second unknown error in a row did not count as a refusal")
        if before.one_more_try:
            return
        if after.count <= before.count and (same_secret or not after.refused):
            self._breaks(f"P4: failure {before.count} in a row is followed by failure {after.count}")

    def _least(self, trace: Trace, failure: Failure) -> timedelta:
        met = trace.met
        if failure.rate_limited or met == "429":
            if not failure.rate_limited or met != "429":
                self._breaks(f"P4: {met} counted as {failure.code}")
            return RATE_LIMIT_COOLDOWN
        if failure.refused:
            if met in OUTAGES and not self._login:
                self._breaks(f"P4: an outage ({met}) counted as a refusal")
            if failure.one_more_try:
                self._check_one_more_try(trace, failure)
                return SECOND_CHANCE_COOLDOWN
            return REFUSED_COOLDOWNS[min(failure.count, len(REFUSED_COOLDOWNS)) - 1]
        if met in OUTAGES:
            return OUTAGE_COOLDOWNS[min(failure.count, len(OUTAGE_COOLDOWNS)) - 1]
        if met in REFUSALS:
            self._check_second_chance(trace)
        return SECOND_CHANCE_COOLDOWN

    def _check_one_more_try(self, trace: Trace, failure: Failure) -> None:
        """Only the first refusal of a secret gets one, and no login. Refusals before the try are the first one too."""
        assert trace.key is not None
        refused_at = self._refused_at[trace.key.name]
        first = refused_at.get(failure.secret_version)
        if self._login or (first is not None and failure.at - first >= SECOND_CHANCE_COOLDOWN):
            self._breaks("P4: a secret that was refused before, or a login, gets one more try")
        refused_at[failure.secret_version] = failure.at

    def _check_second_chance(self, trace: Trace) -> None:
        """Unicommerce answers FAILED in an outage too. Credentials that worked before get one second chance."""
        token = trace.record.token if trace.record is not None else None
        name = trace.key.name if trace.key is not None else None
        worked_before = token is not None and token.secret_version == trace.secret_version
        if name is None or not self._login or not worked_before or trace.secret_version in self._doubted[name]:
            self._breaks("P4: a refusal counted as an outage")
        elif name is not None:
            self._doubted[name].add(trace.secret_version)

    # ------------------------------------------------------------------ what a cooldown forbids
    def check(self, operation: Operation, key: TokenKey, received: Received) -> None:
        """A grant's request leaves the broker."""
        trace, now = operation.trace, self._stage.clock()
        seq, until = self._hosts.get(received.host, (0, now))
        if seq < trace.lease_seq and now < until:
            self._breaks("P4: a request to a host during the host's cooldown")
        if operation.kind == "trial" or trace.record is None:
            return
        of_connection = trace.record.health.failure
        if of_connection is not None and of_connection.secret_version != trace.secret_version:
            self._check_new_version(key.name, trace.secret_version, now)
        is_renewal = operation.kind == "renew"
        for failure in trace.record.failures():
            other_secret = failure.needs_change and failure.secret_version != trace.secret_version
            other_settings = not failure.rate_limited and failure.settings_digest != digest_of(trace)
            if other_secret or other_settings or (failure.misconfigured and not is_renewal):
                continue
            if operation.kind == "keep_consent" and failure.passes:
                continue
            if now < failure.retry_at:
                self._breaks(f"P4: a {received.step} request during a cooldown until {failure.retry_at}")
            elif failure.one_more_try:
                self._check_alone(key.name, trace, now)
            elif failure.refused and is_renewal and failure.rule != "too_many_unresolved_logins":
                self._breaks("P4: the sweep repeated a refused request")

    def _check_alone(self, name: ConnectionName, trace: Trace, now: datetime) -> None:
        """The one more try is for the whole connection. If its process dies, another one tries after the lease."""
        owner, until = self._trying.get(name, (None, now))
        if now < until and owner != trace.owner:
            self._breaks("P4: two keys made the one more try of their connection")
        assert trace.lease_until is not None
        self._trying[name] = (trace.owner, trace.lease_until)

    def _check_new_version(self, name: ConnectionName, version: str | None, now: datetime) -> None:
        """After a failure a new secret is used, but not more often than an account tolerates."""
        used = self._new_versions[name]
        used.setdefault(version, now)
        if sum(1 for at in used.values() if now - at < NEW_SECRETS_PERIOD) > MAX_NEW_SECRETS:
            self._breaks(f"P4: more than {MAX_NEW_SECRETS} new secrets were used in an hour")


def _input(failure: Failure) -> tuple[str | None, str]:
    return failure.secret_version, failure.settings_digest


def _knew(trace: Trace, failure: Failure) -> bool:
    """Whether an operation had read a failure when it asked the provider."""
    return trace.record is not None and failure in trace.record.failures()

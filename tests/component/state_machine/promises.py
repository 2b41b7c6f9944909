"""Judges every change of the stores and every request to the provider, and lists the promises that were broken."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from tests.component.state_machine.budgets import Budgets
from tests.component.state_machine.cooldowns import Cooldowns, digest_of
from tests.component.state_machine.history import History, host_in
from tests.component.state_machine.logins import Logins
from tests.component.state_machine.servers import Received
from tests.component.state_machine.stage import Operation, Stage, Trace
from token_broker.core.health import ConnectionHealth
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import Token, TokenRecord
from token_broker.ports import StoredSettings

TOLERANCE = timedelta(seconds=1)
# Reports of rejected tokens: so many at once, and one more after each interval.
MAX_REPORTS = 5
REPORT_INTERVAL = timedelta(minutes=1)
TRIAL_SPACING = timedelta(minutes=5)
TRIALS_PERIOD = timedelta(minutes=15)
MAX_TRIALS = 5
# A caller waits for somebody else's acquisition only while its lease is younger than this.
MAX_WAIT = timedelta(seconds=4)


class Promises:
    """What happened so far, as far as the records do not hold it.

    `to_revoke`: the expiry of each dropped token. `purged_at`: place and time of its purge. `unreadable`: tokens that
    cannot be opened. `stored`: tokens that were committed at any time.
    """

    def __init__(self, stage: Stage, *, login: bool, limit: int | None, reissues: bool) -> None:
        self.broken: list[str] = []
        self.purged_at: dict[str, tuple[int, datetime]] = {}
        self.to_revoke: dict[str, datetime] = {}
        self.unreadable: set[str] = set()
        self.stored: set[str] = set()
        self.history = History(stage)
        self.cooldowns = Cooldowns(stage, self.breaks, login=login)
        self.logins = Logins(self.breaks)
        self.budgets = Budgets(self.breaks, limit)
        self._stage = stage
        # A server that gives the same token until it expires is asked once more, if the token has no time left.
        self._most_requests = 2 if reissues else 1
        self._lease_taken_away: dict[TokenKey, int] = {}
        self._reports: dict[TokenKey, list[datetime]] = defaultdict(list)

    def breaks(self, what: str) -> None:
        self.broken.append(what)

    def tokens_lost(self) -> None:
        """TokenTable was emptied: reports and refusals count anew."""
        self._reports.clear()
        self.cooldowns.forgotten()

    @property
    def trace(self) -> Trace | None:
        """Of the operation that runs."""
        return self._stage.running.trace if self._stage.running is not None else None

    # ------------------------------------------------------------------ the stores
    def read(self, settings: StoredSettings | None, record: TokenRecord | None) -> None:
        operation = self._stage.running
        if operation is None:
            return
        operation.trace.read_seq = self._stage.next_seq()
        operation.trace.record = record
        # A trial uses the settings that it read before.
        if operation.kind != "trial":
            operation.trace.settings = settings

    def saved(self, before: TokenRecord, after: TokenRecord) -> None:
        """A record changed."""
        operation = self._stage.running
        if operation is None:
            return
        trace, key = operation.trace, after.key
        had_lease = before.lease is not None and before.lease.owner == trace.owner
        if after.lease is not None and after.lease != before.lease:
            trace.key, trace.owner, trace.lease_until = key, after.lease.owner, after.lease.until
            trace.lease_seq = self._stage.next_seq()
        if before.lease is not None and after.lease is None and not had_lease:
            self._lease_taken_away[key] = self._stage.next_seq()
        is_new = after.token is not None and (before.token is None or before.token.sealed != after.token.sealed)
        if after.token is not None and is_new:
            if not had_lease:
                self.breaks("P1: a late holder overwrote a token")
            self._committed(after.token)
        if before.token is not None and after.token is None:
            self.purged_at[before.token.token_id] = (self._stage.next_seq(), self._stage.clock())
            self.drops(before.token.token_id, before.token.expires_at)
        is_purge = operation.kind in ("purge", "delete") or trace.settings is None
        may_be_over = is_new or is_purge or (operation.kind == "trial" and bool(trace.received))
        self.cooldowns.changed(trace, before.failure, after.failure, may_be_over=may_be_over)

    def _committed(self, token: Token) -> None:
        # A server that reuses tokens issued this one again, and callers may get it.
        self.stored.add(token.token_id)
        self.to_revoke.pop(token.token_id, None)
        self.unreadable.discard(token.token_id)

    def drops(self, token_id: str, expires_at: datetime) -> None:
        """A token is taken away from callers, so it must be revoked."""
        self.to_revoke[token_id] = expires_at
        if self.trace is not None:
            self.trace.dropped[token_id] = expires_at

    def health_saved(self, name: ConnectionName, before: ConnectionHealth, after: ConnectionHealth) -> None:
        """The health of a connection changed."""
        trace = self.trace
        assert trace is not None
        if after.trials and after.trials != before.trials:
            self._tried(after.trials)
        has_worked = bool(trace.received)
        self.cooldowns.changed(trace, before.failure, after.failure, may_be_over=has_worked)
        self.cooldowns.changed(trace, before.rate_limit, after.rate_limit, may_be_over=has_worked)
        if after.failure is None and has_worked:
            self.cooldowns.worked(name)
        if after.unresolved_logins < before.unresolved_logins:
            is_refused = after.failure is not None and after.failure.refused
            self.logins.settled(name, trace, left=after.unresolved_logins, is_refused=is_refused)

    def _tried(self, trials: Sequence[tuple[str, datetime]]) -> None:
        """A trial began."""
        version, now = trials[-1]
        if sum(now - at < TRIALS_PERIOD for _, at in trials) > MAX_TRIALS:
            self.breaks("P4: more than five trials in 15 min")
        if any(tried == version and now - at < TRIAL_SPACING for tried, at in trials[:-1]):
            self.breaks("P4: two trials of one secret version in 5 min")

    # ------------------------------------------------------------------ callers
    def waits(self, seconds: float) -> None:
        """A caller waits for somebody else's acquisition: not for long, and not if the last attempt failed.

        A lease holder may wait too: for the end of a token that its provider gives out again and again.
        """
        trace = self.trace
        assert trace is not None
        assert trace.record is not None
        until = self._stage.clock() + timedelta(seconds=seconds)
        if trace.lease_until is not None and self._stage.clock() < trace.lease_until:
            if until > trace.lease_until:
                self.breaks("P1: a lease holder waits beyond its lease")
            return
        lease = trace.record.lease
        assert lease is not None
        if until > lease.since + MAX_WAIT:
            self.breaks(f"P14: a caller waits for a lease that is older than {MAX_WAIT}")
        digest = digest_of(trace)
        if any(failure.rate_limited or failure.settings_digest == digest for failure in trace.record.failures()):
            self.breaks("P14: a caller waits although the last attempt failed")

    # ------------------------------------------------------------------ requests
    def request(self, operation: Operation, received: Received, *, accepted: bool) -> None:
        """A request leaves the broker."""
        trace = operation.trace
        now = self._stage.clock()
        self.budgets.request(operation, received, now)
        if received.step == "revoke":
            return
        trace.requests += received.step != "connect"
        if trace.requests > self._most_requests * (3 if received.step in ("code", "refresh", "connect") else 1):
            self.breaks("P5: one call made more than one acquisition")
        if trace.lease_until is None or trace.key is None:
            self.breaks("P1: a token request without a lease")
            return
        if now > trace.lease_until:
            self.breaks("P1: a token request after the lease expired")
        if operation.kind != "trial" and not trace.has_data_key:
            self.breaks("P12: a token request without a data key to seal its token")
        self._check_settings(trace, received)
        self._check_alone(operation, trace.key, now)
        self._check_reports(operation, trace.key, now)
        self.cooldowns.check(operation, trace.key, received)
        if received.step == "login":
            self.logins.request(operation, trace.key.name, received, now, ok=accepted)

    def _check_settings(self, trace: Trace, received: Received) -> None:
        if trace.settings is None or trace.settings.settings.get("suspended"):
            self.breaks("P8: a token request for a connection that is suspended or deleted")
        elif host_in(trace.settings) != received.host:
            self.breaks(f"P8: credentials were sent to {received.host}, which the settings do not name")

    def _check_alone(self, operation: Operation, key: TokenKey, now: datetime) -> None:
        for other in self._stage.waiting:
            trace = other.trace
            if other is operation or not trace.in_flight or trace.key != key or trace.lease_until is None:
                continue
            if trace.lease_until + TOLERANCE > now and self._lease_taken_away.get(key, 0) < trace.lease_seq:
                self.breaks(f"P1: two token requests for one key: {other.kind} and {operation.kind}")

    def _check_reports(self, operation: Operation, key: TokenKey, now: datetime) -> None:
        """Reports cause five requests, and then one a minute."""
        trace = operation.trace
        live = trace.record.live_token(now) if trace.record is not None else None
        if live is None or live.token_id != operation.rejected or trace.requests > 1 or trace.settings is None:
            return
        if urlsplit(live.token_endpoint).netloc != host_in(trace.settings):
            # A token of another host must be replaced anyway.
            return
        times = self._reports[key]
        times.append(now)
        for number, since in enumerate(times):
            if len(times) - number > MAX_REPORTS + (now - since) // REPORT_INTERVAL:
                self.breaks(f"P5: {len(times) - number} requests because of reports within {now - since}")
                return

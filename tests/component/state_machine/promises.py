"""Records what happened so far, and lists every promise that was broken."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

from tests.component.state_machine.budgets import Budgets
from tests.component.state_machine.cooldowns import Cooldowns
from tests.component.state_machine.history import History, host_in
from tests.component.state_machine.logins import Logins
from tests.component.state_machine.servers import Received
from tests.component.state_machine.stage import Operation, Stage, Trace
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import TokenRecord
from token_broker.ports import Commit

TOLERANCE = timedelta(seconds=1)
MAX_REPORT_COOLDOWN = timedelta(minutes=15)


class Promises:
    """The stores report every lease, commit, failure, report and purge; the server every request it receives.

    `to_revoke`: the expiry of each dropped token. `purged_at`: place and time of its purge. `unreadable`: tokens that
    cannot be opened. `stored`: tokens that were committed at any time.
    """

    def __init__(self, stage: Stage, *, login: bool, limit: int | None) -> None:
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
        self._owners: dict[TokenKey, str | None] = {}
        self._purge_seqs: dict[TokenKey, int] = {}
        self._reported: dict[TokenKey, list[tuple[str, datetime, datetime]]] = defaultdict(list)

    def breaks(self, what: str) -> None:
        self.broken.append(what)

    # ------------------------------------------------------------------ P1: one issuer
    def leased(self, key: TokenKey, owner: str) -> None:
        self._owners[key] = owner

    def committed(self, key: TokenKey, owner: str, trace: Trace, before: TokenRecord, commit: Commit) -> None:
        is_repeat = before.token is not None and before.token.sealed == commit.token.sealed
        if self._owners.get(key) != owner:
            self.breaks("P1: a late holder overwrote a token")
        if not commit.keep_rejections and not is_repeat:
            if before.token is not None and before.token.renew_at > commit.now and before.rejections:
                self.breaks("P5: reports were forgotten before a token lasted until its renewal")
            self._reported.pop(key, None)
        token_id = commit.token.token_id
        # A server that reuses tokens issued this one again, and callers may get it.
        self.stored.add(token_id)
        self.to_revoke.pop(token_id, None)
        self.unreadable.discard(token_id)
        self.cooldowns.worked(key.name, trace)

    def request(self, operation: Operation, received: Received, *, accepted: bool) -> None:
        """A request leaves the broker."""
        trace = operation.trace
        now = self._stage.clock()
        self.budgets.request(operation, received, now)
        if received.step == "revoke":
            return
        trace.requests += received.step != "connect"
        if trace.requests > (3 if received.step in ("code", "refresh", "connect") else 1):
            self.breaks("P5: one call made more than one acquisition")
        if trace.lease_until is None or trace.key is None:
            self.breaks("P1: a token request without a lease")
            return
        if now > trace.lease_until:
            self.breaks("P1: a token request after the lease expired")
        self._check_settings(trace, received)
        self._check_alone(operation, trace.key, now)
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
            if trace.lease_until + TOLERANCE > now and self._purge_seqs.get(key, 0) < trace.lease_seq:
                self.breaks(f"P1: two token requests for one key: {other.kind} and {operation.kind}")

    # ------------------------------------------------------------------ P4: failures are remembered
    def remembered(self, name: ConnectionName, scope: str | None, trace: Trace, failure: Failure) -> None:
        self.cooldowns.remembered(name, scope, trace, failure)

    def cooldowns_ended(self, name: ConnectionName, trace: Trace) -> None:
        self.cooldowns.ended(name)
        self.logins.resolved(name, trace, refused=False)

    # ------------------------------------------------------------------ P5: reports cannot force requests
    def reported(self, key: TokenKey, owner: str, until: datetime, *, since: datetime) -> None:
        """A token request that a report caused is about to be sent. The next one may follow at `until`."""
        now = self._stage.clock()
        earlier = self._reported[key]
        if earlier and earlier[-1][0] == owner:
            return
        if earlier and now < earlier[-1][2]:
            self.breaks("P5: a report caused a request during the cooldown of the last report")
        earlier.append((owner, now, until))
        doublings: int = 2 ** (len(earlier) - 1)
        if until - since < min(timedelta(seconds=30) * doublings, MAX_REPORT_COOLDOWN):
            self.breaks(f"P5: report {len(earlier)} in a row has a cooldown only until {until}")

    # ------------------------------------------------------------------ purges
    def purged(self, before: TokenRecord) -> None:
        now = self._stage.clock()
        seq = self._stage.next_seq()
        self._owners[before.key] = None
        self._purge_seqs[before.key] = seq
        self._reported.pop(before.key, None)
        self.cooldowns.purged(before.key)
        for item in before.tokens_to_revoke(now):
            self.purged_at[item.token_id] = (seq, now)
            self.to_revoke[item.token_id] = item.expires_at
            if self._stage.running is not None:
                self._stage.running.trace.dropped[item.token_id] = item.expires_at

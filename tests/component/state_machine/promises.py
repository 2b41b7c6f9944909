"""The promises as a ledger: what happened so far, and what therefore must not happen now. Broken ones are listed."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

from tests.component.state_machine.budgets import Budgets
from tests.component.state_machine.cooldowns import Rests
from tests.component.state_machine.history import History, host_in
from tests.component.state_machine.logins import Logins
from tests.component.state_machine.servers import Received
from tests.component.state_machine.stage import Operation, SentRequest, Stage
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import TokenRecord
from token_broker.ports import Commit

TOLERANCE = timedelta(seconds=1)
MAX_REPORT_REST = timedelta(minutes=15)


class Promises:
    """Hears of every lease, commit, failure, report and purge, and of every request that leaves the broker."""

    def __init__(self, stage: Stage, *, login: bool, limit: int | None) -> None:
        self.broken: list[str] = []
        self.purged_at: dict[str, tuple[int, datetime]] = {}
        self.watched_over: dict[str, datetime] = {}
        self.unreadable: set[str] = set()
        self.stored: set[str] = set()
        self.history = History(stage)
        self.rests = Rests(stage, self.breaks, login=login)
        self.logins = Logins(self.breaks)
        self.budgets = Budgets(self.breaks, limit)
        self._stage = stage
        self._leaders: dict[TokenKey, str | None] = {}
        self._purge_seqs: dict[TokenKey, int] = {}
        self._forced: dict[TokenKey, list[tuple[str, datetime, datetime]]] = defaultdict(list)

    def breaks(self, what: str) -> None:
        self.broken.append(what)

    # ------------------------------------------------------------------ P1: one issuer
    def leads(self, key: TokenKey, owner: str) -> None:
        self._leaders[key] = owner

    def committed(self, key: TokenKey, owner: str, by: SentRequest, before: TokenRecord, commit: Commit) -> None:
        is_repeat = before.token is not None and before.token.sealed == commit.token.sealed
        if self._leaders.get(key) != owner:
            self.breaks("P1: a late holder overwrote")
        if not commit.keep_rejections and not is_repeat:
            if before.token is not None and before.token.renew_at > commit.now and before.rejections:
                self.breaks("P5: reports were forgotten before a token lasted until its renewal")
            self._forced.pop(key, None)
        token_id = commit.token.token_id
        # A server that reuses tokens gave it again, and callers may have it.
        self.stored.add(token_id)
        self.watched_over.pop(token_id, None)
        self.unreadable.discard(token_id)
        self.rests.worked(key.name, by)

    def request(self, operation: Operation, received: Received, *, accepted: bool) -> None:
        """A request leaves the broker."""
        by, now = operation.seen, self._stage.clock()
        self.budgets.request(operation, received, now)
        if received.step == "revoke":
            return
        by.requests += received.step != "connect"
        if by.requests > (3 if received.step in ("code", "refresh", "connect") else 1):
            self.breaks("P5: one call made more than one acquisition")
        if by.lease_until is None or by.key is None:
            self.breaks("P1: a token request without a lease")
            return
        if now > by.lease_until:
            self.breaks("P1: a token request after the lease")
        self._check_settings(by, received)
        self._check_alone(operation, by.key, now)
        self.rests.check(operation, by.key, received)
        if received.step == "login":
            self.logins.request(operation, by.key.name, received, now, ok=accepted)

    def _check_settings(self, by: SentRequest, received: Received) -> None:
        if by.settings is None or by.settings.settings.get("suspended"):
            self.breaks("P8: a token request for a connection that is suspended or gone")
        elif host_in(by.settings) != received.host:
            self.breaks(f"P8: credentials were sent to {received.host}, which the settings do not name")

    def _check_alone(self, operation: Operation, key: TokenKey, now: datetime) -> None:
        for other in self._stage.waiting:
            seen = other.seen
            if other is operation or not seen.in_flight or seen.key != key or seen.lease_until is None:
                continue
            if seen.lease_until + TOLERANCE > now and self._purge_seqs.get(key, 0) < seen.lease_seq:
                self.breaks(f"P1: two token requests for one key: {other.kind} and {operation.kind}")

    # ------------------------------------------------------------------ P4: failures are remembered
    def remembered(self, name: ConnectionName, scope: str | None, by: SentRequest, failure: Failure) -> None:
        self.rests.remembered(name, scope, by, failure)

    def rests_ended(self, name: ConnectionName, by: SentRequest) -> None:
        self.rests.ended(name)
        self.logins.known(name, by, rests=False)

    # ------------------------------------------------------------------ P5: a report is no lever
    def forced(self, key: TokenKey, owner: str, until: datetime, *, since: datetime) -> None:
        now, earlier = self._stage.clock(), self._forced[key]
        if earlier and earlier[-1][0] == owner:
            return
        if earlier and now < earlier[-1][2]:
            self.breaks("P5: a forced request before the last one's rest had ended")
        earlier.append((owner, now, until))
        doublings: int = 2 ** (len(earlier) - 1)
        if until - since < min(timedelta(seconds=30) * doublings, MAX_REPORT_REST):
            self.breaks(f"P5: forced request {len(earlier)} rests until {until} only")

    # ------------------------------------------------------------------ purges
    def purged(self, before: TokenRecord) -> None:
        now, seq = self._stage.clock(), self._stage.next_seq()
        self._leaders[before.key], self._purge_seqs[before.key] = None, seq
        self._forced.pop(before.key, None)
        self.rests.purged(before.key)
        for item in before.tokens_to_revoke(now):
            self.purged_at[item.token_id] = (seq, now)
            self.watched_over[item.token_id] = item.expires_at
            if self._stage.running is not None:
                self._stage.running.seen.dropped[item.token_id] = item.expires_at

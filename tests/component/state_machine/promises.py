"""The promises as a ledger: what happened so far, and what therefore must not happen now. Broken ones are listed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.component.state_machine.servers import RETRY_AFTER_S, Received
from tests.component.state_machine.stage import Operation, Seen, Stage
from token_broker.core.connections import asked_version
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.tokens import TokenRecord
from token_broker.ports import Commit

TOLERANCE = timedelta(seconds=1)
REFUSED_REST = timedelta(minutes=15)
LEAST_RESTS = {"429": timedelta(seconds=RETRY_AFTER_S), "refused": REFUSED_REST, "invalid_scope": REFUSED_REST}
SHORTEST_REST = timedelta(seconds=2)
DOUBT = timedelta(seconds=60)
LOCKS_AFTER = 5
MAX_REPORT_REST = timedelta(minutes=15)


@dataclass(frozen=True)
class Rest:
    """A failure that was met and remembered. `scope` None: it rests the whole connection."""

    name: ConnectionName
    scope: str | None
    since_seq: int
    until: datetime
    refused: bool
    secret: str | None
    settings_version: str


def _asked(by: Seen) -> str:
    """Settings as far as the provider sees them."""
    return asked_version(by.settings.settings) if by.settings is not None else ""


class Promises:
    """Hears of every lease, commit, failure, report and purge, and of every request that leaves the broker."""

    def __init__(self, stage: Stage, *, login: bool, limit: int | None) -> None:
        self.broken: list[str] = []
        self.purged_at: dict[str, tuple[int, datetime]] = {}
        self.watched_over: dict[str, datetime] = {}
        self._stage = stage
        self._login = login
        self._limit = limit
        self._leaders: dict[TokenKey, str | None] = {}
        self._purge_seqs: dict[TokenKey, int] = {}
        self._rests: list[Rest] = []
        self._host_rest: tuple[int, datetime] | None = None
        self._forced: dict[TokenKey, list[tuple[str, datetime, datetime]]] = defaultdict(list)
        self._wrong: dict[tuple[str, str], list[datetime]] = defaultdict(list)
        self._in_minute: dict[datetime, int] = defaultdict(int)

    def breaks(self, what: str) -> None:
        self.broken.append(what)

    # ------------------------------------------------------------------ P1: one issuer
    def leads(self, key: TokenKey, owner: str) -> None:
        self._leaders[key] = owner

    def committed(self, key: TokenKey, owner: str, by: Seen, before: TokenRecord, commit: Commit) -> None:
        is_repeat = before.token is not None and before.token.sealed == commit.token.sealed
        if self._leaders.get(key) != owner:
            self.breaks("P1: a late holder overwrote")
        if not commit.keep_rejections and not is_repeat:
            if before.token is not None and before.token.renew_at > commit.now and before.rejections:
                self.breaks("P5: reports were forgotten before a token lasted until its renewal")
            self._forced.pop(key, None)
        self._rests = [rest for rest in self._rests if rest.name != key.name or rest.since_seq > by.read_seq]

    def request(self, operation: Operation, received: Received, accepted: bool) -> None:
        """A request leaves the broker."""
        by, now = operation.seen, self._stage.clock()
        self._check_budget(by, now, received)
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
        self._check_alone(operation, by.key, now)
        self._check_rests(operation, by, by.key, received, now)
        if received.step == "login" and not accepted and operation.kind != "trial":
            self._check_lock(by, received, now)

    def _check_alone(self, operation: Operation, key: TokenKey, now: datetime) -> None:
        for other in self._stage.waiting:
            seen = other.seen
            if other is operation or not seen.in_flight or seen.key != key or seen.lease_until is None:
                continue
            if seen.lease_until + TOLERANCE > now and self._purge_seqs.get(key, 0) < seen.lease_seq:
                self.breaks(f"P1: two token requests for one key: {other.kind} and {operation.kind}")

    # ------------------------------------------------------------------ P4: failures are remembered
    def remembered(self, name: ConnectionName, scope: str | None, by: Seen, failure: Failure) -> None:
        if by.met is None or by.met_at is None:
            return
        least = LEAST_RESTS.get(by.met, SHORTEST_REST)
        if self._login and by.met == "refused":
            # Unicommerce says FAILED for an outage too: doubted once where the credentials worked before.
            least = DOUBT
        is_outage = by.met in ("503", "html", "unreachable", "hang", "lost", "429")
        if is_outage and failure.refused and failure.at >= by.met_at and not self._login:
            self.breaks(f"P4: an outage ({by.met}) was taken for a refusal")
        version = _asked(by)
        # Other settings lift a rest, even where they are the old ones again later.
        self._rests = [rest for rest in self._rests if rest.name != name or rest.settings_version == version]
        until = by.met_at + least
        self._rests.append(Rest(name, scope, self._stage.next_seq(), until, failure.refused, by.secret, version))

    def host_rests(self, until: datetime) -> None:
        self._host_rest = (self._stage.next_seq(), until)

    def rests_ended(self, name: ConnectionName) -> None:
        self._rests = [rest for rest in self._rests if rest.name != name]

    def _check_rests(self, operation: Operation, by: Seen, key: TokenKey, received: Received, now: datetime) -> None:
        if self._host_rest is not None and self._host_rest[0] < by.lease_seq and now < self._host_rest[1]:
            self.breaks("P4: a host that asked to be left alone was asked")
        version = _asked(by)
        for rest in self._rests:
            if operation.kind == "trial" or rest.name != key.name or rest.scope not in (None, key.scope):
                continue
            if rest.since_seq > by.read_seq or version != rest.settings_version:
                continue
            if rest.refused and received.step != "connect" and rest.secret != received.secret:
                continue
            is_sweep = rest.refused and operation.kind == "renew" and received.step != "connect"
            if now < rest.until and (received.step != "connect" or not rest.refused):
                self.breaks(f"P4: asked {received.step} although a failure rests until {rest.until}")
            elif is_sweep:
                self.breaks("P4: the sweep repeated a refusal")

    def _check_lock(self, by: Seen, received: Received, now: datetime) -> None:
        version = _asked(by)
        times = self._wrong[received.secret, version]
        times.append(now)
        if sum(1 for at in times if now - at < REFUSED_REST) >= LOCKS_AFTER:
            self.breaks(f"P4: {LOCKS_AFTER} wrong logins within {REFUSED_REST} lock the account")

    def _check_budget(self, by: Seen, now: datetime, received: Received) -> None:
        if self._limit is None or received.step == "connect":
            return
        by.budget -= 1
        if by.budget < 0:
            self.breaks("P4: a request without a place in the endpoint's budget")
        minute = now.replace(second=0, microsecond=0)
        self._in_minute[minute] += 1
        if self._in_minute[minute] > self._limit:
            self.breaks("P4: more requests in a minute than the provider's published limit")

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
        self._rests = [
            rest for rest in self._rests if rest.scope is None or TokenKey(rest.name, rest.scope) != before.key
        ]
        for item in before.outstanding(now):
            self.purged_at[item.token_id] = (seq, now)
            self.watched_over[item.token_id] = item.expires_at

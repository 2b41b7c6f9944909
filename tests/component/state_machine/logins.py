"""P4: checks the logins to accounts that lock after a number of failed ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta

from tests.component.state_machine.cooldowns import FIRST_REFUSED_COOLDOWN, digest_of
from tests.component.state_machine.servers import Received
from tests.component.state_machine.stage import Operation, Trace
from token_broker.core.names import ConnectionName

LOCKS_AFTER = 5
MAX_UNRESOLVED = 2
OUTCOME_UNKNOWN = ("lost", "hang")
# The server did not check the credentials.
NOT_CHECKED = ("503", "429", "html")
TRIAL_SPACING = timedelta(minutes=5)


class Logins:
    """Records every login that is sent, and which outcomes the broker says it knows."""

    def __init__(self, breaks: Callable[[str], object]) -> None:
        self._breaks = breaks
        self._unresolved: dict[ConnectionName, list[tuple[Trace, str]]] = defaultdict(list)
        self._failed: dict[tuple[str, str], list[datetime]] = defaultdict(list)
        self._trials: dict[ConnectionName, datetime] = {}

    def request(
        self, operation: Operation, name: ConnectionName, received: Received, now: datetime, *, ok: bool
    ) -> None:
        trace = operation.trace
        # Logins with another secret do not count.
        same_secret = [entry for entry in self._unresolved[name] if entry[1] == received.secret]
        if len(same_secret) >= MAX_UNRESOLVED:
            self._breaks(f"P4: a login although the outcome of the last {len(same_secret)} is unknown")
        self._unresolved[name] = [*same_secret, (trace, received.secret)]
        if ok or trace.met in NOT_CHECKED or operation.kind == "trial":
            return
        times = self._failed[received.secret, digest_of(trace)]
        times.append(now)
        if sum(1 for at in times if now - at < FIRST_REFUSED_COOLDOWN) >= LOCKS_AFTER:
            self._breaks(f"P4: {LOCKS_AFTER} failed logins within {FIRST_REFUSED_COOLDOWN} lock the account")

    def resolved(self, name: ConnectionName, trace: Trace, *, refused: bool) -> None:
        """The broker forgot its unresolved logins, after a response or because it stored a refusal."""
        if refused or trace.met not in OUTCOME_UNKNOWN:
            self._unresolved[name] = []

    def one_resolved(self, name: ConnectionName, trace: Trace) -> None:
        if trace.met not in OUTCOME_UNKNOWN:
            self._unresolved[name] = [entry for entry in self._unresolved[name] if entry[0] is not trace]

    def trial(self, name: ConnectionName, now: datetime) -> None:
        last = self._trials.get(name)
        if last is not None and last < now < last + TRIAL_SPACING:
            self._breaks(f"P4: a trial {now - last} after the last one")
        self._trials[name] = now

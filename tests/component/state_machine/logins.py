"""Accounts that lock by count, as a ledger: which logins went out, and of which of them the outcome is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta

from tests.component.state_machine.cooldowns import REFUSED_REST, asked
from tests.component.state_machine.servers import Received
from tests.component.state_machine.stage import Operation, SentRequest
from token_broker.core.names import ConnectionName

LOCKS_AFTER = 5
MOST_UNKNOWN = 2
NOBODY_KNOWS = ("lost", "hang")
NOT_LOOKED_AT = ("503", "429", "html")
TRIAL_SPACING = timedelta(minutes=5)


class Logins:
    """Hears of every login that leaves, and of what the broker says to be known of its outcome."""

    def __init__(self, breaks: Callable[[str], object]) -> None:
        self._breaks = breaks
        self._open: dict[ConnectionName, list[tuple[SentRequest, str]]] = defaultdict(list)
        self._wrong: dict[tuple[str, str], list[datetime]] = defaultdict(list)
        self._trials: dict[ConnectionName, datetime] = {}

    def request(
        self, operation: Operation, name: ConnectionName, received: Received, now: datetime, *, ok: bool
    ) -> None:
        by = operation.seen
        # Those with another secret do not count.
        same = [entry for entry in self._open[name] if entry[1] == received.secret]
        if len(same) >= MOST_UNKNOWN:
            self._breaks(f"P4: a login although nobody knows what came of the last {len(same)}")
        self._open[name] = [*same, (by, received.secret)]
        if ok or by.met in NOT_LOOKED_AT or operation.kind == "trial":
            return
        times = self._wrong[received.secret, asked(by)]
        times.append(now)
        if sum(1 for at in times if now - at < REFUSED_REST) >= LOCKS_AFTER:
            self._breaks(f"P4: {LOCKS_AFTER} wrong logins within {REFUSED_REST} lock the account")

    def known(self, name: ConnectionName, by: SentRequest, *, rests: bool) -> None:
        """The broker settled all that was open: because an answer came, or because it `rests` as after a refusal."""
        if rests or by.met not in NOBODY_KNOWS:
            self._open[name] = []

    def one_known(self, name: ConnectionName, by: SentRequest) -> None:
        if by.met not in NOBODY_KNOWS:
            self._open[name] = [entry for entry in self._open[name] if entry[0] is not by]

    def trial(self, name: ConnectionName, now: datetime) -> None:
        last = self._trials.get(name)
        if last is not None and last < now < last + TRIAL_SPACING:
            self._breaks(f"P4: a trial {now - last} after the last one")
        self._trials[name] = now

"""Checks the budget of each host. The provider counts any sliding minute, the broker calendar minutes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta

from tests.component.state_machine.servers import Received
from tests.component.state_machine.stage import Operation

MINUTE = timedelta(minutes=1)
# A request leaves this long after it took its place in the budget, at most: the time of a whole acquisition.
MAX_DELAY = timedelta(seconds=12)


class Budgets:
    """Checks that each request has taken its place. `limit`: the published one per minute, if any."""

    def __init__(self, breaks: Callable[[str], object], limit: int | None) -> None:
        self._breaks = breaks
        self._limit = limit
        self._used: dict[str, list[tuple[datetime, bool]]] = defaultdict(list)

    def request(self, operation: Operation, received: Received, now: datetime) -> None:
        if self._limit is None or received.step == "connect":
            return
        places = operation.trace.budget
        if not places or places[-1][0] != received.host:
            self._breaks("P4: a request without a place in the endpoint's budget")
            return
        _, at = places.pop()
        if received.step != "revoke" and now - at > MAX_DELAY:
            self._breaks(f"P4: a request left {now - at} after it took its place in the budget")
        used = self._used[received.host]
        used.append((at, operation.kind == "renew" and received.step != "revoke"))
        self._check(used, at, self._limit)

    def _check(self, used: list[tuple[datetime, bool]], at: datetime, limit: int) -> None:
        if sum(1 for other, _ in used if abs(at - other) < MINUTE) > limit:
            self._breaks("P4: more requests in a sliding minute than the provider's published limit")
        share, calendar_minute = limit // 2, at.replace(second=0, microsecond=0)
        in_minute = [
            is_renewal for other, is_renewal in used if other.replace(second=0, microsecond=0) == calendar_minute
        ]
        if len(in_minute) > share:
            self._breaks("P4: more requests in a minute than the broker's half of the limit")
        if sum(in_minute) > share * 2 // 3:
            self._breaks("P4: renewals left callers less than a third of the budget")

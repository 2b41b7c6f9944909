"""A clock that moves only when a test moves it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class HandClock:
    """Call it for the time. `sleep` and `advance` move it, and run the actions planned with `at` in between."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now
        self._order = count()
        self._planned: list[tuple[datetime, int, Callable[[], object]]] = []

    def __call__(self) -> datetime:
        return self._now

    def advance(self, seconds: float = 0, *, to: datetime | None = None) -> datetime:
        """Moves on by `seconds`, or to a moment, but never back. In whole milliseconds, as the table stores them."""
        end = to if to is not None else self._now + timedelta(milliseconds=round(seconds * 1000))
        while self._planned and self._planned[0][0] <= end:
            at, _, action = heapq.heappop(self._planned)
            self._now = max(self._now, at)
            action()
        self._now = max(self._now, end)
        return self._now

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        """Plans what somebody else does `seconds` from now."""
        heapq.heappush(self._planned, (self._now + timedelta(seconds=seconds), next(self._order), action))

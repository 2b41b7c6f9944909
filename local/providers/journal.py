"""Counters and the last requests of a simulator, with their outcome. Holds no secret and no query."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass

KEPT_REQUESTS = 200

COUNTER_OF_OPERATION = {
    "token": "token_requests",
    "connect": "connect_requests",
    "revoke": "revocations",
    "resource": "resource_requests",
}
COUNTERS = (
    *COUNTER_OF_OPERATION.values(),
    "issued",
    "reissued",
    "refused",
    "rate_limited",
    "resource_refused",
    "replayed_refresh_tokens",
    "replayed_codes",
)


@dataclass(slots=True)
class Entry:
    """One request. `outcome` is set when it is known."""

    method: str
    path: str
    operation: str
    outcome: str = "pending"


class Journal:
    """Counters and entries of one simulator. Not thread-safe: the simulator holds its lock around each call."""

    def __init__(self) -> None:
        self._counters = dict.fromkeys(COUNTERS, 0)
        self._entries: deque[Entry] = deque(maxlen=KEPT_REQUESTS)

    def arrived(self, method: str, path: str, operation: str) -> Entry:
        """Counts a request when it arrives, whatever its outcome will be."""
        entry = Entry(method, path, operation)
        self._entries.append(entry)
        if counter := COUNTER_OF_OPERATION.get(operation):
            self.count(counter)
        return entry

    def count(self, counter: str) -> None:
        self._counters[counter] += 1

    def report(self) -> dict[str, object]:
        return {**self._counters, "requests": [asdict(entry) for entry in self._entries]}

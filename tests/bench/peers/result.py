"""What was measured of a peer: its JSON, its row of the table, and remarks that follow from its own figures alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from tests.bench.figure import percentile

# The failures that a provider plays, in the order of the table.
FAILURES: Final = {"500": "HTTP 500", "429": "HTTP 429, Retry-After: 30", "invalid_client": "HTTP 401, invalid_client"}
TOKEN: Final = "a token"
COLUMNS: Final = (
    "| | version | {callers} cold callers in one process: token requests, slowest caller | in {processes} processes "
    "| asked {asks} times: 500 | 429 | `invalid_client` | a token that is there: median, p99 |"
)
NOTICED_S: Final = 0.5  # a wait that is worth telling


@dataclass(frozen=True)
class Answer:
    """What a caller got (`TOKEN`, or the exception's type and message), and how often."""

    what: str
    times: int

    def __str__(self) -> str:
        return f"{self.times} × {self.what}"


@dataclass(frozen=True)
class Asked:
    """What asking caused: token requests at the provider, answers, and the seconds that the slowest ask took."""

    token_requests: int
    answers: tuple[Answer, ...]
    slowest_s: float

    @property
    def asks(self) -> int:
        return sum(answer.times for answer in self.answers)

    @property
    def failed(self) -> int:
        """How many asks brought no token."""
        return sum(answer.times for answer in self.answers if answer.what != TOKEN)


@dataclass(frozen=True)
class Hit:
    """How long a token took that was there already, in microseconds; all of them caused `token_requests`."""

    token_requests: int
    asks: int
    median_us: float
    p99_us: float

    @classmethod
    def of(cls, nanoseconds: Sequence[int]) -> Hit:
        """Raises ValueError where nothing was measured."""
        if not nanoseconds:
            raise ValueError("nothing was measured")
        us = sorted(nanosecond / 1000 for nanosecond in nanoseconds)
        return cls(0, len(us), round(statistics.median(us), 2), round(percentile(us, 99), 2))

    def __str__(self) -> str:
        return f"{_microseconds(self.median_us)}, {_microseconds(self.p99_us)}"


@dataclass(frozen=True)
class Row:
    """One peer. `failures` by the names of `FAILURES`; `hit` None where the caller never holds the token."""

    name: str
    version: str
    used_as: str
    documentation: str
    one_process: Asked
    processes: Asked
    failures: Mapping[str, Asked]
    hit: Hit | None

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "remarks": remarks(self)}


def combined(parts: Sequence[Asked], token_requests: int) -> Asked:
    """What several processes got, with the requests that the provider counted for all of them."""
    times: dict[str, int] = {}
    for answer in [answer for part in parts for answer in part.answers]:
        times[answer.what] = times.get(answer.what, 0) + answer.times
    answers = tuple(Answer(what, count) for what, count in times.items())
    return Asked(token_requests, answers, max(part.slowest_s for part in parts))


def remarks(row: Row) -> list[str]:
    """What the figures of the row say in words."""
    said = []
    if row.one_process.token_requests > 1:
        said.append(f"the threads of one process made {row.one_process.token_requests} requests for one token")
    for name, asked in (("one process", row.one_process), ("all processes", row.processes)):
        if asked.failed:
            said.append(f"{asked.failed} of {asked.asks} cold callers ({name}) got no token: {_words(asked)}")
    if row.hit and row.hit.token_requests > 1:
        said.append(f"it keeps no token: {row.hit.asks + 1} asks made {row.hit.token_requests} requests")
    for name, title in FAILURES.items():
        asked = row.failures[name]
        per_ask = asked.token_requests / asked.asks
        reached = "each ask reached the provider" if per_ask >= 1 else f"{asked.asks} asks"
        requests = "1 request" if asked.token_requests == 1 else f"{asked.token_requests} requests"
        waited = f", the slowest took {asked.slowest_s:.1f} s" if asked.slowest_s >= NOTICED_S else ""
        said.append(f"{title}: {reached}, {requests}{waited}; the caller got {_words(asked)}")
    return said


def table(rows: Sequence[Row], *, callers: int, processes: int, asks: int) -> str:
    """The rows as Markdown, a line each."""
    lines = [COLUMNS.format(callers=callers, processes=processes, asks=asks), "|---|---|--:|--:|--:|--:|--:|--:|"]
    for row in rows:
        failures = [_failure(row.failures[name], asks) for name in FAILURES]
        cells = [row.name, row.version, _cold(row.one_process), _cold(row.processes), *failures, str(row.hit or "–")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def details(rows: Sequence[Row]) -> str:
    """How each was used, and the remarks on it, as Markdown."""
    parts = []
    for row in rows:
        title = f"**{row.name}**: {row.used_as} ({row.documentation})."
        parts.append("\n".join([title, "", *(f"- {remark}" for remark in remarks(row))]))
    return "\n\n".join(parts)


def _cold(asked: Asked) -> str:
    """The requests, the slowest caller, and how many got nothing."""
    return f"{asked.token_requests}, {asked.slowest_s:.1f} s" + (f" ({asked.failed} got none)" if asked.failed else "")


def _failure(asked: Asked, asks: int) -> str:
    """The requests; and how long the slowest ask took, where somebody would notice it."""
    notes = [f"of {asked.asks} asks"] if asked.asks != asks else []
    notes += [f"{asked.slowest_s:.1f} s"] if asked.slowest_s >= NOTICED_S else []
    return f"{asked.token_requests}" + (f" ({', '.join(notes)})" if notes else "")


def _words(asked: Asked) -> str:
    return "; ".join(map(str, asked.answers))


def _microseconds(value: float) -> str:
    return f"{value / 1000:.1f} ms" if value >= 1000 else f"{value:.1f} µs"

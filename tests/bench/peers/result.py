"""The results of a peer: JSON, its row of the table, and remarks that follow from its own figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from tests.bench.figure import percentile

# The provider's failures, in the order of the table.
FAILURES: Final = {"500": "HTTP 500", "429": "HTTP 429, Retry-After: 30", "invalid_client": "HTTP 401, invalid_client"}
TOKEN: Final = "a token"
COLUMNS: Final = (
    "| | version | {callers} cold callers in one process: token requests, slowest caller | in {processes} processes "
    "| asked {asks} times: 500 | 429 | `invalid_client` | a token that is there: median, p99 |"
)
NOTICED_S: Final = 0.5  # shorter waits are not shown


@dataclass(frozen=True)
class Answer:
    """What callers got (`TOKEN`, or the exception's type and message), and how often."""

    what: str
    times: int

    def __str__(self) -> str:
        return f"{self.times} × {self.what}"


@dataclass(frozen=True)
class CallResults:
    """The results of callers: token requests at the provider, what callers got, and the slowest call in seconds."""

    token_requests: int
    answers: tuple[Answer, ...]
    slowest_s: float

    @property
    def asks(self) -> int:
        return sum(answer.times for answer in self.answers)

    @property
    def failed(self) -> int:
        """How many calls brought no token."""
        return sum(answer.times for answer in self.answers if answer.what != TOKEN)


@dataclass(frozen=True)
class Hit:
    """The time for an existing token, in microseconds. All calls together caused `token_requests`."""

    token_requests: int
    asks: int
    median_us: float
    p99_us: float

    @classmethod
    def of(cls, nanoseconds: Sequence[int]) -> Hit:
        """Raises ValueError if nothing was measured."""
        if not nanoseconds:
            raise ValueError("nothing was measured")
        us = sorted(nanosecond / 1000 for nanosecond in nanoseconds)
        return cls(0, len(us), round(statistics.median(us), 2), round(percentile(us, 99), 2))

    def __str__(self) -> str:
        return f"{_microseconds(self.median_us)}, {_microseconds(self.p99_us)}"


@dataclass(frozen=True)
class Row:
    """One peer. `failures`: by the names in `FAILURES`. `hit`: None if the caller does not get the token."""

    name: str
    version: str
    used_as: str
    documentation: str
    one_process: CallResults
    processes: CallResults
    failures: Mapping[str, CallResults]
    hit: Hit | None

    def document(self) -> dict[str, Any]:
        """The row as JSON."""
        return {**asdict(self), "remarks": remarks(self)}


def combined(parts: Sequence[CallResults], token_requests: int) -> CallResults:
    """The results of several processes, with the provider's count for all of them."""
    times: dict[str, int] = {}
    for answer in [answer for part in parts for answer in part.answers]:
        times[answer.what] = times.get(answer.what, 0) + answer.times
    answers = tuple(Answer(what, count) for what, count in times.items())
    return CallResults(token_requests, answers, max(part.slowest_s for part in parts))


def remarks(row: Row) -> list[str]:
    """Remarks on the row's figures."""
    said = []
    if row.one_process.token_requests > 1:
        said.append(f"the threads of one process made {row.one_process.token_requests} requests for one token")
    for name, results in (("one process", row.one_process), ("all processes", row.processes)):
        if results.failed:
            said.append(f"{results.failed} of {results.asks} cold callers ({name}) got no token: {_words(results)}")
    if row.hit and row.hit.token_requests > 1:
        said.append(f"it keeps no token: {row.hit.asks + 1} asks made {row.hit.token_requests} requests")
    for name, title in FAILURES.items():
        results = row.failures[name]
        per_ask = results.token_requests / results.asks
        reached = "each ask reached the provider" if per_ask >= 1 else f"{results.asks} asks"
        requests = "1 request" if results.token_requests == 1 else f"{results.token_requests} requests"
        waited = f", the slowest took {results.slowest_s:.1f} s" if results.slowest_s >= NOTICED_S else ""
        said.append(f"{title}: {reached}, {requests}{waited}; the caller got {_words(results)}")
    return said


def table(rows: Sequence[Row], *, callers: int, processes: int, asks: int) -> str:
    """The rows as a Markdown table."""
    lines = [COLUMNS.format(callers=callers, processes=processes, asks=asks), "|---|---|--:|--:|--:|--:|--:|--:|"]
    for row in rows:
        failures = [_failure(row.failures[name], asks) for name in FAILURES]
        cells = [row.name, row.version, _cold(row.one_process), _cold(row.processes), *failures, str(row.hit or "–")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def details(rows: Sequence[Row]) -> str:
    """How each peer was used, and the remarks, as Markdown."""
    parts = []
    for row in rows:
        title = f"**{row.name}**: {row.used_as} ({row.documentation})."
        parts.append("\n".join([title, "", *(f"- {remark}" for remark in remarks(row))]))
    return "\n\n".join(parts)


def _cold(results: CallResults) -> str:
    """The requests, the slowest caller, and how many got no token."""
    return f"{results.token_requests}, {results.slowest_s:.1f} s" + (
        f" ({results.failed} got none)" if results.failed else ""
    )


def _failure(results: CallResults, asks: int) -> str:
    """The requests, and the slowest call if it was slow."""
    notes = [f"of {results.asks} asks"] if results.asks != asks else []
    notes += [f"{results.slowest_s:.1f} s"] if results.slowest_s >= NOTICED_S else []
    return f"{results.token_requests}" + (f" ({', '.join(notes)})" if notes else "")


def _words(results: CallResults) -> str:
    return "; ".join(map(str, results.answers))


def _microseconds(value: float) -> str:
    return f"{value / 1000:.1f} ms" if value >= 1000 else f"{value:.1f} µs"

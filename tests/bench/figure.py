"""A figure: what was measured, its floor, its bar, and the machine."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any


@dataclass(frozen=True)
class Sample:
    """Milliseconds that the calls of one side took. A quarter took at most `low_ms`, three quarters `high_ms`."""

    calls: int
    median_ms: float
    low_ms: float
    high_ms: float
    p99_ms: float
    slowest_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Sample:
        """Raises ValueError if nothing was measured."""
        if not seconds:
            raise ValueError("nothing was measured")
        ms = sorted(1000 * second for second in seconds)
        shown = [statistics.median(ms), percentile(ms, 25), percentile(ms, 75), percentile(ms, 99), ms[-1]]
        return cls(len(ms), *(round(value, 3) for value in shown))

    def __str__(self) -> str:
        return (
            f"median {self.median_ms:9.2f} ms ({self.low_ms:.2f} to {self.high_ms:.2f})   "
            f"p99 {self.p99_ms:9.2f} ms   slowest {self.slowest_ms:9.2f} ms   of {self.calls}"
        )


@dataclass(frozen=True)
class Tally:
    """How many items were read, by how many queries, of how many stored."""

    read: int
    queries: int
    stored: int

    def __str__(self) -> str:
        return f"{self.read} items read by {self.queries} queries, of {self.stored:,} stored"


@dataclass(frozen=True)
class Rate:
    """How many calls a second one thread made, over some blocks."""

    blocks: int
    median_per_s: float
    slowest_per_s: float
    fastest_per_s: float

    @classmethod
    def of(cls, per_s: Sequence[float]) -> Rate:
        """Raises ValueError if nothing was measured."""
        if not per_s:
            raise ValueError("nothing was measured")
        return cls(len(per_s), *(round(value) for value in (statistics.median(per_s), min(per_s), max(per_s))))

    def __str__(self) -> str:
        return f"{self.median_per_s:,.0f} a second ({self.slowest_per_s:,.0f} to {self.fastest_per_s:,.0f})"


@dataclass(frozen=True)
class Size:
    """An amount of memory."""

    megabytes: float

    def __str__(self) -> str:
        return f"{self.megabytes:.1f} MB"


Side = Sample | Tally | Rate | Size


@dataclass(frozen=True)
class Figure:
    """`measured` / `reference`, which must be at most `bar` (None: no limit)."""

    name: str
    ratio: float
    bar: float | None
    measured: Side
    reference: Side
    repetitions: int
    conditions: dict[str, Any] = field(default_factory=dict)
    section: str = ""

    @property
    def holds(self) -> bool:
        return self.bar is None or self.ratio <= self.bar

    @property
    def number(self) -> str:
        """The number in the table."""
        return f"{self.ratio:.2f}"

    def lines(self) -> list[str]:
        """The lines below it in the table."""
        return [f"measured   {self.measured}", f"reference  {self.reference}"]

    def document(self) -> dict[str, Any]:
        """The figure as JSON."""
        return {**asdict(self), "holds": self.holds}


@dataclass(frozen=True)
class Amount:
    """`value` in `unit`, which must be at most `bar`: something counted, whose floor is zero."""

    name: str
    value: float
    unit: str
    bar: float | None
    repetitions: int
    conditions: dict[str, Any] = field(default_factory=dict)
    section: str = ""

    @property
    def holds(self) -> bool:
        return self.bar is None or self.value <= self.bar

    @property
    def number(self) -> str:
        """The number in the table."""
        return f"{self.value:g}"

    def lines(self) -> list[str]:
        """The lines below it in the table."""
        return [f"in         {self.unit}"]

    def document(self) -> dict[str, Any]:
        """The figure as JSON."""
        return {**asdict(self), "holds": self.holds}


Finding = Figure | Amount


def timed(
    name: str,
    bar: float | None,
    measured: Sequence[float],
    reference: Sequence[float],
    repetitions: int,
    **conditions: Any,
) -> Figure:
    """The ratio of the medians of two sides. The times are in seconds."""
    sides = Sample.of(measured), Sample.of(reference)
    ratio = round(sides[0].median_ms / sides[1].median_ms, 3)
    return Figure(name, ratio, bar, *sides, repetitions, conditions)


def paired(
    name: str,
    bar: float | None,
    measured: Sequence[float],
    reference: Sequence[float],
    **conditions: Any,
) -> Figure:
    """The median of the ratios of pairs. The times are in seconds.

    Both times of a pair were measured at almost the same moment, so a slow phase of the machine affects both.
    """
    ratios = [ours / floor for ours, floor in zip(measured, reference, strict=True)]
    made = timed(name, bar, measured, reference, len(ratios), **conditions)
    return replace(made, ratio=round(statistics.median(ratios), 3))


def read(document: Mapping[str, Any]) -> Finding:
    """Reads a figure that `document` wrote. Raises ValueError for anything else."""
    found = {name: value for name, value in document.items() if name != "holds"}
    if "unit" in found:
        return Amount(**found)
    return Figure(**{**found, "measured": _side(found["measured"]), "reference": _side(found["reference"])})


def _side(document: Mapping[str, Any]) -> Side:
    for kind in (Sample, Tally, Rate, Size):
        if {one.name for one in fields(kind)} == set(document):
            return kind(**document)
    raise ValueError(f"no side of a figure has {', '.join(document)}")


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of them do not exceed."""
    return ascending[max(math.ceil(len(ascending) * percent / 100) - 1, 0)]


def machine() -> dict[str, Any]:
    """The machine of the measurement."""
    return {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}


def table(findings: Sequence[Finding]) -> str:
    """The figures as text: a line for each, with its details below."""
    lines = [f"{'figure':>7}  {'bar':>5}  {'':4}  of"]
    for finding in findings:
        bar = "-" if finding.bar is None else f"{finding.bar:g}"
        exchange_failure = "" if finding.bar is None else "ok" if finding.holds else "OVER"
        lines.append(f"{finding.number:>7}  {bar:>5}  {exchange_failure:4}  {finding.name}")
        conditions = ", ".join(f"{name} {value}" for name, value in finding.conditions.items())
        times = "once" if finding.repetitions == 1 else f"{finding.repetitions} repetitions"
        lines += [f"{'':23}{line}" for line in (*finding.lines(), f"{times}; {conditions}" if conditions else times)]
    return "\n".join(lines)

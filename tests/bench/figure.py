"""A figure: a ratio and its bar, what both sides of it were, and on which machine."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sample:
    """How long the calls of one side took, in milliseconds."""

    calls: int
    median_ms: float
    p99_ms: float
    slowest_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Sample:
        """Raises ValueError where nothing was measured."""
        if not seconds:
            raise ValueError("nothing was measured")
        ms = sorted(1000 * second for second in seconds)
        return cls(len(ms), round(statistics.median(ms), 2), round(percentile(ms, 99), 2), round(ms[-1], 2))

    def __str__(self) -> str:
        return (
            f"median {self.median_ms:9.2f} ms   p99 {self.p99_ms:9.2f} ms   "
            f"slowest {self.slowest_ms:9.2f} ms   of {self.calls}"
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
class Figure:
    """`measured` / `reference`, to be at most `bar` (None: told for its own sake)."""

    name: str
    ratio: float
    bar: float | None
    measured: Sample | Tally
    reference: Sample | Tally
    repetitions: int
    conditions: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return self.bar is None or self.ratio <= self.bar

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "holds": self.holds}


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of them do not exceed."""
    return ascending[max(math.ceil(len(ascending) * percent / 100) - 1, 0)]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}


def table(figures: Sequence[Figure]) -> str:
    """The figures as text, a line each."""
    lines = [f"{'ratio':>7}  {'bar':>5}  {'':4}  figure"]
    for figure in figures:
        bar = "-" if figure.bar is None else f"{figure.bar:.2f}"
        verdict = "" if figure.bar is None else "ok" if figure.holds else "OVER"
        lines.append(f"{figure.ratio:>7.2f}  {bar:>5}  {verdict:4}  {figure.name}")
        for side, sample in (("measured", figure.measured), ("reference", figure.reference)):
            lines.append(f"{'':23}{side:9}  {sample}")
        conditions = ", ".join(f"{name} {value}" for name, value in figure.conditions.items())
        lines.append(f"{'':23}{figure.repetitions} repetitions; {conditions}")
    return "\n".join(lines)

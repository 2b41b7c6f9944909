"""Durations, moments and failures as text."""

import itertools
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
NOTHING: Final = "-"


def duration(seconds: float) -> str:
    """A duration in its largest unit and the next smaller one: `1 h 58 min`, `2 d`."""
    whole = max(round(seconds), 0)
    for (unit, size), (smaller, smaller_size) in itertools.pairwise(UNITS):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def relative(timestamp: str | None, now: datetime) -> str:
    """A timestamp of the broker relative to now: `in 1 h 58 min` or `5 min ago`; `-` for None."""
    if timestamp is None:
        return NOTHING
    seconds = (datetime.fromisoformat(timestamp) - now).total_seconds()
    return f"in {duration(seconds)}" if seconds >= 0 else f"{duration(-seconds)} ago"


def is_past(timestamp: str, now: datetime) -> bool:
    """Whether a timestamp of the broker has passed."""
    return datetime.fromisoformat(timestamp) <= now


def failure_text(failure: Mapping[str, Any] | None, now: datetime) -> str:
    """A remembered failure: what, how often, and when its cooldown ends. Empty for None."""
    if failure is None:
        return ""
    text = str(failure["detail"]).rstrip(".") or str(failure["code"])
    if failure.get("provider_error"):
        text += f" ({failure['provider_error']})"
    if failure["count"] > 1:
        text += f", {failure['count']} times in a row"
    if not is_past(failure["retry_at"], now):
        text += f"; cooldown ends {relative(failure['retry_at'], now)}"
    return text

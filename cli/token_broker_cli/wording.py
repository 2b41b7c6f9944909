"""Durations, moments and failures as text."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
NOTHING: Final = "-"


def duration(seconds: float) -> str:
    """A duration in its two largest units: `1 h 58 min`."""
    remaining = max(round(seconds), 0)
    parts = []
    for unit, size in UNITS:
        if remaining >= size:
            parts.append(f"{remaining // size} {unit}")
            remaining %= size
    return " ".join(parts[:2]) or "0 s"


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

"""Durations and failures in words."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
MONOSPACE_DASH: Final = "-"


def span(seconds: float) -> str:
    """A duration by its two greatest units: `1 h 58 min`."""
    left = max(round(seconds), 0)
    parts = []
    for unit, size in UNITS:
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2]) or "0 s"


def until(timestamp: str | None, now: datetime) -> str:
    """How far a moment of the broker's answers is away: `in 1 h 58 min`, `since 5 min`, `-` for none."""
    if timestamp is None:
        return MONOSPACE_DASH
    seconds = (datetime.fromisoformat(timestamp) - now).total_seconds()
    return f"in {span(seconds)}" if seconds >= 0 else f"since {span(-seconds)}"


def failure(found: Mapping[str, Any] | None, now: datetime) -> str:
    """A remembered failure: what, how often, and when the provider is asked again."""
    if found is None:
        return ""
    words = str(found["detail"]).rstrip(".") or str(found["code"])
    if found.get("provider_error"):
        words += f" ({found['provider_error']})"
    if found["count"] > 1:
        words += f", {found['count']} times in a row"
    again = datetime.fromisoformat(found["retry_at"])
    return words + (f"; asked again {until(found['retry_at'], now)}" if again > now else "")

"""A token's life as a line: issued, the moment of its renewal, now, and its expiry."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class LifeLine:
    """Places on a line from 0 (issued) to 100 (expires)."""

    renew_x: float
    now_x: float


def life_line(token: Mapping[str, Any], now: datetime) -> LifeLine | None:
    """The line of a token in a connection's state; None if there is no token."""
    moments = [token.get(name) for name in ("last_renewal", "renew_at", "expires_at")]
    if not all(moments):
        return None
    issued, renews, expires = (datetime.fromisoformat(str(moment)) for moment in moments)
    lifetime = (expires - issued).total_seconds()
    if lifetime <= 0:
        return LifeLine(100.0, 100.0)

    def place(moment: datetime) -> float:
        share = (moment - issued).total_seconds() / lifetime
        return round(100 * min(max(share, 0.0), 1.0), 2)

    return LifeLine(place(renews), place(now))

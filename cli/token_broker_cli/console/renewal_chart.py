"""The chart of renewals in the next hour: how many connections renew a token in each five minutes."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

BUCKET: Final = timedelta(minutes=5)
BUCKETS: Final = 12
WIDTH: Final = 360
HEIGHT: Final = 96


@dataclass(frozen=True)
class Bar:
    """A bar in the chart's units, and what it says."""

    x: float
    y: float
    width: float
    height: float
    count: int
    begins_at: datetime
    ends_at: datetime


@dataclass(frozen=True)
class Chart:
    """`overdue`: connections whose renewal was due before now."""

    bars: list[Bar]
    highest: int
    total: int
    overdue: int
    width: int = WIDTH
    height: int = HEIGHT


def renewal_chart(renewals: Iterable[str | None], now: datetime) -> Chart:
    """Bars for the next hour. `renewals`: each connection's next renewal."""
    counts = [0] * BUCKETS
    overdue = 0
    for text in renewals:
        if text is None:
            continue
        wait = datetime.fromisoformat(text) - now
        if wait < timedelta():
            overdue += 1
        elif wait < BUCKET * BUCKETS:
            counts[int(wait / BUCKET)] += 1
    highest = max(counts)
    return Chart(
        [_bar(index, count, highest, now) for index, count in enumerate(counts)], highest, sum(counts), overdue
    )


def _bar(index: int, count: int, highest: int, now: datetime) -> Bar:
    step = WIDTH / BUCKETS
    # One renewal among many still shows.
    height = max(HEIGHT * count / highest, 2.0) if count else 0.0
    begins_at = now + BUCKET * index
    return Bar(
        x=round(step * index + 2, 1),
        y=round(HEIGHT - height, 1),
        width=round(step - 4, 1),
        height=round(height, 1),
        count=count,
        begins_at=begins_at,
        ends_at=begins_at + BUCKET,
    )

"""The chart of the two large days: requests per endpoint, and callers who waited or failed, minute by minute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tests.simulation.figures import per_minute
from tests.simulation.population import HOUR, PROVIDERS
from tests.simulation.scenarios import Finding

SHADES = {"503": "#d62728", "unreachable": "#ff7f0e", "hang": "#9467bd", "slow": "#bcbd22"}
ROTATION = "#17becf"
LINE = "#1f4e79"
LIMIT = "#c00000"
WAITED = "#e69f00"
FAILED = "#c00000"


def draw(findings: Sequence[Finding], path: Path) -> None:
    """Draws a column for each day. An outage is shaded at its endpoint and in the row of callers."""
    height = len(PROVIDERS) + 1
    figure, grid = plt.subplots(
        height, len(findings), figsize=(10 * len(findings), 2.2 * height), sharex=True, squeeze=False
    )
    for column, finding in enumerate(findings):
        axes = [grid[row][column] for row in range(height)]
        axes[0].set_title(finding.title, fontsize=13, pad=12)
        for axis, provider in zip(axes, PROVIDERS, strict=False):
            _requests(axis, finding, provider)
        _callers(axes[-1], finding)
    _legend(figure)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _requests(axis: Any, finding: Finding, provider: str) -> None:
    outcome = finding.outcome
    counts = per_minute((exchange.at_s for exchange in outcome.exchanges[provider]), outcome.plan.length_s)
    axis.plot(_hours(counts), counts, color=LINE, linewidth=0.7)
    row = next(row for row in finding.rows if row.provider == provider)
    if row.limit is not None:
        axis.axhline(row.limit, color=LIMIT, linewidth=1.2, linestyle="--")
    limit = "no published limit" if row.limit is None else f"limit {row.limit} a minute"
    label = f"{provider}: {row.keys:,} keys, {row.requests:,} token requests, worst minute {row.worst_minute}, {limit}"
    axis.text(0.008, 0.9, label, transform=axis.transAxes, fontsize=9, va="top")
    axis.set_ylabel("requests / min", fontsize=8)
    # Leaves room for the label.
    axis.set_ylim(0, 1.45 * max(*counts, row.limit or 1))
    _shade(axis, finding, provider)


def _callers(axis: Any, finding: Finding) -> None:
    outcome = finding.outcome
    waited = [wait.at_s for course in outcome.courses if course.is_warm for wait in course.waits]
    failed = [failure.at_s for course in outcome.courses for failure in course.failures]
    for moments, color, label in ((waited, WAITED, "waited"), (failed, FAILED, "failed")):
        counts = per_minute(moments, outcome.plan.length_s)
        axis.plot(_hours(counts), counts, color=color, linewidth=0.9, label=label)
    label = f"callers after each key's first token: {len(waited):,} waited, {len(failed):,} failed"
    axis.text(0.008, 0.9, label, transform=axis.transAxes, fontsize=9, va="top")
    axis.set_ylim(0, max(1.45 * axis.get_ylim()[1], 1.45))
    axis.set_ylabel("calls / min", fontsize=8)
    axis.set_xlabel("hour of the day")
    axis.set_xlim(0, outcome.plan.length_s / HOUR)
    axis.set_xticks(range(0, int(outcome.plan.length_s / HOUR) + 1, 2))
    _shade(axis, finding, *PROVIDERS)


def _shade(axis: Any, finding: Finding, *providers: str) -> None:
    plan = finding.outcome.plan
    for trouble in plan.troubles:
        if trouble.provider in providers:
            axis.axvspan(
                trouble.start_s / HOUR, trouble.end_s / HOUR, color=SHADES[trouble.kind], alpha=0.3, linewidth=0
            )
    if plan.rotation is not None:
        start_s = plan.rotation.start_s
        end_s = plan.rotation.start_s + plan.rotation.length_s
        axis.axvspan(start_s / HOUR, end_s / HOUR, color=ROTATION, alpha=0.3, linewidth=0)


def _legend(figure: Any) -> None:
    texts = {
        "503": "outage: 503",
        "unreachable": "outage: unreachable",
        "hang": "outage: no answer",
        "slow": "5 s slow",
    }
    patches = [Patch(color=color, alpha=0.3, label=texts[kind]) for kind, color in SHADES.items()]
    lines = [
        Line2D([], [], color=LINE, label="requests"),
        Line2D([], [], color=LIMIT, linestyle="--", label="published limit"),
        Line2D([], [], color=WAITED, label="callers who waited"),
        Line2D([], [], color=FAILED, label="callers who failed"),
    ]
    rotation = Patch(color=ROTATION, alpha=0.3, label="all secrets rotated")
    figure.legend(handles=[*lines, *patches, rotation], loc="lower center", ncols=9, fontsize=9, frameon=False)


def _hours(counts: Sequence[int]) -> list[float]:
    return [minute / 60 for minute in range(len(counts))]

"""The chart of latency by path: median and 99th percentile of each path and its floor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

from tests.bench.figure import Figure, Finding, Sample

OWN, FLOOR = "#1f4e79", "#b0b7bf"
# Without metadata, so that the same figures give the same file.
STYLE: Any = {"svg.hashsalt": "token-broker", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}


def draw(findings: Sequence[Finding], path: Path) -> None:
    """Bars up to the median, a line up to the 99th percentile, on a logarithmic scale."""
    shown = by_path(findings)
    with mpl.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(9, 0.75 * len(shown) + 1.2))
        for row, (_, measured, floor) in enumerate(shown):
            for sample, offset, color in ((measured, -0.19, OWN), (floor, 0.19, FLOOR)):
                axis.barh(row + offset, sample.median_ms, height=0.34, color=color)
                axis.plot([sample.median_ms, sample.p99_ms], [row + offset] * 2, color=color, linewidth=1.5)
                axis.plot(sample.p99_ms, row + offset, "|", color=color, markersize=9, markeredgewidth=1.5)
                text = f"{sample.median_ms:.3g} (p99 {sample.p99_ms:.3g})"
                axis.annotate(text, (sample.p99_ms, row + offset), (6, 0), textcoords="offset points", va="center")
        axis.set_yticks(range(len(shown)), [label for label, _, _ in shown])
        axis.invert_yaxis()
        axis.set_xscale("log")
        # Space on the right for the numbers.
        axis.set_xlim(right=8 * max(max(measured.p99_ms, floor.p99_ms) for _, measured, floor in shown))
        axis.set_xlabel("milliseconds by the wall clock, AWS and the provider on loopback")
        axis.legend(handles=[_patch(OWN, "the broker"), _patch(FLOOR, "its floor")], loc="upper right", frameon=False)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        plt.close(figure)


def by_path(findings: Sequence[Finding]) -> list[tuple[str, Sample, Sample]]:
    """Each path's name, its times and its floor's: by the wall clock, and whole cold starts."""
    found = []
    for finding in findings:
        if not isinstance(finding, Figure):
            continue
        by_wall = finding.section == "paths" and finding.name.endswith("by the wall clock over loopback")
        if by_wall or (finding.section == "cold" and finding.name.startswith("cold start as a whole")):
            assert isinstance(finding.measured, Sample)
            assert isinstance(finding.reference, Sample)
            label = finding.name.partition(" / ")[0].removesuffix(" as a whole")
            found.append((label, finding.measured, finding.reference))
    return found


def _patch(color: str, label: str) -> mpl.patches.Patch:
    return mpl.patches.Patch(color=color, label=label)

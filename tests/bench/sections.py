"""The sections that `python -m tests.bench` can measure, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tests.bench import agent, artefact, calls, hanging_provider, hits, kill_switch, paths, stampede, sweep_cost
from tests.bench.figure import Finding
from tests.bench.scale import Progress, Scale

Section = Callable[[Scale, Progress], Sequence[Finding]]

# The most precise measurements come first, because later ones affect caches and memory.
SECTIONS: Final[Mapping[str, Section]] = {
    "hits": hits.measure,
    "paths": paths.measure,
    "agent": agent.measure,
    "cold": artefact.cold_starts,
    "layers": artefact.layer_sizes,
    "calls": calls.measure,
    "stampede": stampede.measure,
    "kill_switch": kill_switch.measure,
    "hanging_provider": lambda scale, progress: hanging_provider.measure(scale.hanging, progress),
    "sweep": lambda scale, progress: sweep_cost.measure(progress, scale.sweeps),
}


def measure(name: str, scale: Scale, progress: Progress) -> Sequence[Finding]:
    """The figures of one section. Raises KeyError, and tests.e2e.built.NotBuilt for those of the artefact."""
    return SECTIONS[name](scale, progress)

"""The sizes of measurements: full ones, and small ones for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.bench import hanging_provider

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Scale:
    """Repetitions and sizes."""

    hit_rounds: int = 40
    hit_calls: int = 40
    blocks: int = 6
    block_s: float = 1.0
    keys: tuple[int, ...] = (1_000, 10_000, 100_000)
    misses: int = 100
    agent_calls: int = 1_000
    agent_hits: int = 10_000
    agent_keys: int = 1_000
    cold_starts: int = 15
    bursts: int = 4
    callers: int = 200
    latencies_s: tuple[float, ...] = (0.05, 0.5, 3.0)
    environments: int = 8
    kill_time_scale: float = 1.0  # shortens lifetimes and memory, for a test
    sweeps: tuple[int, ...] = (1_000, 10_000, 100_000)
    hanging: hanging_provider.Course = field(default_factory=hanging_provider.Course)


QUICK = Scale(
    hit_rounds=2,
    hit_calls=5,
    blocks=2,
    block_s=0.05,
    keys=(10, 100, 200),
    misses=3,
    agent_calls=5,
    agent_hits=10,
    agent_keys=10,
    cold_starts=1,
    bursts=1,
    callers=12,
    latencies_s=(0.05, 0.2),
    environments=2,
    kill_time_scale=0.02,
    sweeps=(100, 1_000),
    hanging=hanging_provider.Course(
        environments=2,
        repetitions=1,
        full_repetitions=1,
        block_s=0.3,
        first_round_s=0.3,
        later_rounds_s=0.3,
        callers_per_provider=1,
    ),
)

"""The steps of a rehearsal, printed as they go and as a table at the end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Step:
    """What a step proves, and what came of it. `detail` is for figures and for the reason of a failure."""

    title: str
    outcome: str = "failed"
    detail: str = ""
    elapsed_s: float = 0.0


@dataclass
class Report:
    """Collects the steps. The first failure ends the rehearsal, because each step builds on those before."""

    steps: list[Step] = field(default_factory=list)
    started_at: float = field(default_factory=time.monotonic)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Runs a step. An exception fails it and goes on."""
        step = Step(title)
        self.steps.append(step)
        print(f"{title} ... ", end="", flush=True)
        started = time.monotonic()
        try:
            yield step
            step.outcome = "proven"
        except Exception as error:
            step.detail = f"{type(error).__name__}: {error}"
            raise
        finally:
            step.elapsed_s = time.monotonic() - started
            print(f"{step.outcome} in {step.elapsed_s:.0f} s. {step.detail}", flush=True)

    @property
    def succeeded(self) -> bool:
        return bool(self.steps) and all(step.outcome == "proven" for step in self.steps)

    def table(self) -> str:
        """Outcome, seconds and title of each step, and the sums."""
        lines = [f"{step.outcome:<7} {step.elapsed_s:5.0f} s  {step.title}" for step in self.steps]
        spent = os.times()
        cpu_s = spent.user + spent.system + spent.children_user + spent.children_system
        return "\n".join([*lines, f"{time.monotonic() - self.started_at:13.0f} s  in all, {cpu_s:.0f} s of CPU"])

"""The stage of the fault suite: AWS in memory, or moto if the test's parameter says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.faults.stage import MEMORY, Stage
from tests.integration.handlers.world import World
from tests.security.leak_hunt import Hunt


@pytest.fixture
def stage(world: World, hunt: Hunt, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Stage]:
    with Stage(world, monkeypatch, getattr(request, "param", MEMORY)) as stage:
        yield stage
        if stage.fakes is not None:
            # What the adapters would have written, except the sealed values, which are not in repr.
            hunt.note("tables in memory", f"{stage.fakes.table} {vars(stage.fakes.connections)}")
            hunt.note("queue in memory", repr(stage.fakes.queue.messages))

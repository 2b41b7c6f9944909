"""The stage of the fault suite: AWS in memory, or moto where a test's parameter says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.faults.stage import MEMORY, Stage
from tests.integration.handlers.world import World


@pytest.fixture
def stage(world: World, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Stage]:
    with Stage(world, monkeypatch, getattr(request, "param", MEMORY)) as stage:
        yield stage

"""One server of simulated providers per module, fresh for each test, on a clock that only moves when told to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.providers import ProvidersServer, start_providers

from .vendor_calls import SLUGS, Hands


@pytest.fixture(scope="module")
def clock() -> Hands:
    return Hands()


@pytest.fixture(scope="module")
def server(clock: Hands) -> Iterator[ProvidersServer]:
    with start_providers(clock=clock) as running:
        yield running


@pytest.fixture
def providers(server: ProvidersServer) -> ProvidersServer:
    for slug in SLUGS:
        server.simulator(slug).reset()
    return server

"""One server of simulated providers per module, reset for each test, with a clock that tests move."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.providers import ProvidersServer, start_providers

from .vendor_calls import SLUGS, HandClock


@pytest.fixture(scope="module")
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(scope="module")
def server(clock: HandClock) -> Iterator[ProvidersServer]:
    with start_providers(clock=clock) as running:
        yield running


@pytest.fixture
def providers(server: ProvidersServer) -> ProvidersServer:
    for slug in SLUGS:
        server.simulator(slug).reset()
    return server

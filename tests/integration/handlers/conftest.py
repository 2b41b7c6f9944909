"""One AWS endpoint and one set of simulated providers per run; empty tables and fresh functions for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.local.aws import REGION, AwsProcess
from tests.local.ports import listen
from tests.local.providers import ProvidersServer, start_providers
from tests.local.resources import create_resources

from .functions import Api, Functions
from .world import PROVIDERS, Aws, World


@pytest.fixture(scope="session")
def deployed() -> Iterator[Aws]:
    """The stack's data resources. In a process of its own, since moto keeps one state per process."""
    server = AwsProcess(listen(0))
    try:
        server.wait_until_ready()
        yield Aws(server.endpoint_url, create_resources(server.endpoint_url))
    finally:
        server.close()


@pytest.fixture(scope="session")
def running_providers() -> Iterator[ProvidersServer]:
    with start_providers() as providers:
        yield providers


@pytest.fixture
def world(
    deployed: Aws, running_providers: ProvidersServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    for slug in PROVIDERS:
        running_providers.simulator(slug).reset()
    variables = {
        "AWS_ENDPOINT_URL": deployed.endpoint_url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "TOKEN_BROKER_LOCAL": "1",
    }
    aws = deployed.with_own_queue()
    yield World(aws, running_providers, Functions(aws.stack, variables, monkeypatch))
    aws.empty()


@pytest.fixture
def api(world: World) -> Api:
    return world.api

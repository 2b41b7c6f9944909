"""The fixtures of all tests that call functions: fresh functions, empty tables, simulators as at their start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.local.aws import REGION, AwsServer
from tests.local.providers import ProvidersServer, start_providers
from tests.local.resources import LocalStack

from .functions import Api, Functions
from .world import PROVIDERS, Aws, World


@pytest.fixture(scope="session")
def running_providers() -> Iterator[ProvidersServer]:
    with start_providers() as providers:
        yield providers


@pytest.fixture(scope="session")
def deployed(aws: AwsServer, stack: LocalStack) -> Aws:
    return Aws(aws.endpoint_url, stack)


@pytest.fixture
def world(deployed: Aws, running_providers: ProvidersServer, monkeypatch: pytest.MonkeyPatch) -> World:
    for slug in PROVIDERS:
        running_providers.simulator(slug).reset()
    deployed.empty()
    variables = {
        "AWS_ENDPOINT_URL": deployed.endpoint_url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "TOKEN_BROKER_LOCAL": "1",
    }
    aws = deployed.with_own_queue()
    return World(aws, running_providers, Functions(aws.stack, variables, monkeypatch))


@pytest.fixture
def api(world: World) -> Api:
    return world.api

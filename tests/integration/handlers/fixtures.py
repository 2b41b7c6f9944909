"""Fixtures of all tests that call functions: fresh functions, empty tables, simulators in their initial state."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest

from local.aws import AwsServer
from local.providers import ProvidersServer, start_providers
from local.resources import LocalStack

from .functions import Api, Clients, Functions
from .world import PROVIDERS, SIGNED, Aws, World


@pytest.fixture(scope="session")
def running_providers() -> Iterator[ProvidersServer]:
    with start_providers() as providers:
        yield providers


@pytest.fixture(scope="session")
def deployed(aws: AwsServer, stack: LocalStack) -> Aws:
    return Aws(aws.endpoint_url, stack)


@pytest.fixture(scope="session")
def clients(session: boto3.session.Session) -> Clients:
    return Clients(session)


@pytest.fixture
def world(
    deployed: Aws, clients: Clients, running_providers: ProvidersServer, monkeypatch: pytest.MonkeyPatch
) -> World:
    for slug in (*PROVIDERS, *SIGNED):
        running_providers.simulator(slug).reset()
    deployed.empty()
    functions = Functions(deployed.stack, clients, {"TOKEN_BROKER_LOCAL": "1"}, monkeypatch)
    return World(deployed, running_providers, functions)


@pytest.fixture
def api(world: World) -> Api:
    return world.api

"""Each race runs 10 times in a test run, and 200 times under SOAK=1 (`make soak`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import boto3
import pytest

from local.aws import AwsServer
from local.lambda_environments import EnvironmentPool, Function
from local.resources import LocalStack
from tests.integration.handlers.functions import Clients
from tests.integration.handlers.world import World
from token_broker.adapters.aws import CLIENT_CONFIG
from token_broker.bootstrap import build_broker
from token_broker.service import Broker
from token_broker.settings import Settings

from .fleet import INSTANCES, Fleet, Instances, Processes, Race
from .gate import Gate, gate_before
from .ground import Ground

SOAK = os.environ.get("SOAK") == "1"
ROUNDS = 200 if SOAK else 10
CALLERS = 50
API_FUNCTION = "GetTokenFunction"
MakePool = Callable[..., EnvironmentPool]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.soak)


@pytest.fixture(scope="session")
def make_pool(stack: LocalStack, aws: AwsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakePool]:
    """Makes pools of environments of a function. They end with the session at the latest."""
    logs = tmp_path_factory.mktemp("races")
    with ExitStack() as pools:

        def make(function_id: str, *, size: int, **variables: str) -> EnvironmentPool:
            function = Function(
                function_id,
                stack.handlers[function_id],
                stack.environments[function_id],
                timeout_s=stack.timeouts[function_id],
                memory_mb=stack.memory[function_id],
            )
            return pools.enter_context(
                EnvironmentPool(
                    function,
                    endpoint_url=aws.endpoint_url,
                    variables={"TOKEN_BROKER_LOCAL": "1", **variables},
                    size=size,
                    log=logs / f"{function_id}.log",
                )
            )

        yield make


@pytest.fixture(scope="session")
def pools(stack: LocalStack, make_pool: MakePool) -> dict[str, EnvironmentPool]:
    """Each function's environments. One starts when it is first needed."""
    return {
        function_id: make_pool(function_id, size=INSTANCES if function_id == API_FUNCTION else 2)
        for function_id in stack.handlers
    }


@pytest.fixture(scope="session")
def make_broker(stack: LocalStack, clients: Clients) -> Callable[[], Broker]:
    """Makes broker instances in this process, with the permissions of all functions."""
    environment = {name: value for variables in stack.environments.values() for name, value in variables.items()}
    settings = Settings.from_environment({**environment, "TOKEN_BROKER_LOCAL": "1"})
    for service in ("dynamodb", "secretsmanager", "kms", "sqs"):
        # Created here, because boto3 cannot create clients in two threads at once.
        clients.client(service, config=CLIENT_CONFIG)
    return lambda: build_broker(settings, cast("boto3.session.Session", clients))


@pytest.fixture
def race() -> Iterator[Race]:
    with ThreadPoolExecutor(CALLERS + 10) as threads:
        yield Race(threads)


@pytest.fixture(params=["threads", "processes"])
def ground(
    request: pytest.FixtureRequest,
    world: World,
    make_broker: Callable[[], Broker],
    race: Race,
) -> Ground:
    """Runs each race twice: over threads, and over processes."""
    kind: str = request.param
    pools = request.getfixturevalue("pools") if kind == "processes" else {}

    def start_fleet() -> Fleet:
        return Instances(make_broker) if kind == "threads" else Processes(world, pools)

    return Ground(world, race, make_broker, ROUNDS, start_fleet)


@pytest.fixture
def gate(aws: AwsServer) -> Iterator[Gate]:
    with gate_before(aws) as gate:
        yield gate

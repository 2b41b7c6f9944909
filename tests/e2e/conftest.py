"""The local stack on the built functions. All tests share it, each with its own connections."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing

import pytest

from local.client import SignedClient
from local.front import Front
from local.lambda_environments import EnvironmentPool
from local.ports import listen
from local.process import LOGS
from local.stack import Options, Stack
from tests.e2e.built import Code, built_functions, digest
from tests.e2e.demo_runs import LIFETIME_S, TIME_SCALE
from tests.e2e.emulator import emulators

MakeClient = Callable[..., SignedClient]


@pytest.fixture(scope="session")
def functions() -> dict[str, Code]:
    return built_functions()


@pytest.fixture(scope="session")
def built_digest() -> str:
    """The digest of the built artefact before anything ran from it."""
    return digest()


@pytest.fixture(scope="session")
def stack(functions: Mapping[str, Code], built_digest: str) -> Iterator[Stack]:  # noqa: ARG001  # before it starts
    """The local stack on emulators, with time 10 times faster."""
    log_dir = LOGS / "e2e"
    shutil.rmtree(log_dir, ignore_errors=True)
    options = Options(
        api_environments=4,
        time_scale=TIME_SCALE,
        sweep_interval_s=1.0,
        log_dir=log_dir,
        make_environment=emulators(functions),
        settings={"unicommerce": {"lifetime_s": round(LIFETIME_S / TIME_SCALE)}},
    )
    with Stack(options) as running:
        yield running


@pytest.fixture
def make_client(stack: Stack) -> Iterator[MakeClient]:
    """Makes clients of the stack's API. With `pools`, those functions run on these pools, behind another front."""
    with ExitStack() as endings:

        def make(**pools: EnvironmentPool) -> SignedClient:
            url = stack.url
            if pools:
                front = Front(listen(0), stack.gateway({**stack.pools, **pools}))
                endings.callback(front.close)
                url = front.url
            return endings.enter_context(closing(SignedClient(url)))

        yield make


@pytest.fixture
def client(make_client: MakeClient) -> SignedClient:
    return make_client()

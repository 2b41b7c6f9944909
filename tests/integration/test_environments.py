"""Execution environments run functions as Lambda does: one event at a time, in processes that end with the pool."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from local.lambda_environments import (
    EnvironmentPool,
    Function,
    FunctionError,
    FunctionTimeout,
    NoFreeEnvironment,
)

HANDLER = """
import os
import sys
import threading

calls = 0
running = 0


def lambda_handler(event, context):
    global calls, running
    calls += 1
    running += 1
    try:
        print("a line of the log", file=sys.stderr)
        if event.get("hang"):
            threading.Event().wait(30)
        if event.get("raise"):
            raise ValueError(event["raise"])
        if event.get("exit"):
            os._exit(3)
        if event.get("busy_s"):
            threading.Event().wait(event["busy_s"])
        return {
            "pid": os.getpid(),
            "calls": calls,
            "running": running,
            "environment": dict(os.environ),
            "path": sys.path,
            "name": context.function_name,
            "arn": context.invoked_function_arn,
            "memory": context.memory_limit_in_mb,
            "remaining_ms": context.get_remaining_time_in_millis(),
            "request_id": context.aws_request_id,
        }
    finally:
        running -= 1
"""

MakePool = Callable[..., EnvironmentPool]


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe" / "app.py").write_text(HANDLER)
    (tmp_path / "broken.py").write_text("raise RuntimeError('no such setting')")
    return tmp_path


@pytest.fixture
def make_pool(code: Path) -> Iterator[MakePool]:
    pools: list[EnvironmentPool] = []

    def make(
        *, size: int = 1, timeout_s: float = 5.0, handler: str = "probe.app.lambda_handler", spread: bool = True
    ) -> EnvironmentPool:
        function = Function("ProbeFunction", handler, {"TOKEN_TABLE": "tokens"}, timeout_s, 128, (code,))
        pool = EnvironmentPool(
            function,
            endpoint_url="http://127.0.0.1:9",
            variables={"TOKEN_BROKER_LOCAL": "1"},
            size=size,
            log=code / "probe.log",
            spread=spread,
        )
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close()


def test_a_function_gets_its_own_variables_and_lambdas_and_none_of_this_shell(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "somebody")
    monkeypatch.setenv("CONNECTION_TABLE", "of another function")
    environment = make_pool().invoke({})["environment"]
    assert environment["TOKEN_TABLE"] == "tokens"
    assert environment["TOKEN_BROKER_LOCAL"] == "1"
    assert environment["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"
    assert environment["AWS_REGION"] == "eu-west-1"
    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == "ProbeFunction"
    assert environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "128"
    assert not {"AWS_PROFILE", "CONNECTION_TABLE", "HOME"} & environment.keys()


def test_an_environment_stays_warm_and_runs_one_event_at_a_time(make_pool: MakePool) -> None:
    pool = make_pool(size=2)
    with ThreadPoolExecutor(8) as callers:
        results = list(callers.map(pool.invoke, [{"busy_s": 0.01}] * 12))
    assert {result["running"] for result in results} == {1}
    assert {result["pid"] for result in results} == set(pool.pids)
    assert len(pool.pids) == 2
    assert max(result["calls"] for result in results) > 1


def test_spreading_uses_every_environment_and_not_spreading_only_the_warm_one(make_pool: MakePool) -> None:
    spread, warm = make_pool(size=3), make_pool(size=3, spread=False)
    assert len({spread.invoke({})["pid"] for _ in range(3)}) == 3
    assert len({warm.invoke({})["pid"] for _ in range(3)}) == 1


def test_what_a_handler_raises_comes_back_as_lambdas_error_object(make_pool: MakePool) -> None:
    pool = make_pool()
    with pytest.raises(FunctionError, match="ValueError: no good") as raised:
        pool.invoke({"raise": "no good"})
    assert raised.value.error["errorType"] == "ValueError"
    assert raised.value.error["errorMessage"] == "no good"
    assert "lambda_handler" in "".join(raised.value.error["stackTrace"])
    assert pool.invoke({})["calls"] == 2


def test_a_function_over_its_time_out_is_killed_and_its_environment_replaced(make_pool: MakePool) -> None:
    pool = make_pool(timeout_s=0.5)
    before = pool.invoke({})["pid"]
    with pytest.raises(FunctionTimeout, match=r"timed out after 0\.5 seconds"):
        pool.invoke({"hang": True})
    assert pool.pids == []
    assert pool.invoke({})["pid"] != before


def test_a_process_that_ends_fails_its_own_event_only(make_pool: MakePool) -> None:
    pool = make_pool()
    with pytest.raises(FunctionError, match="ended without a result"):
        pool.invoke({"exit": True})
    warm = pool.invoke({})["pid"]
    os.kill(warm, signal.SIGKILL)
    os.waitid(os.P_PID, warm, os.WEXITED | os.WNOWAIT)
    assert pool.invoke({})["pid"] != warm


def test_waiting_for_a_free_environment_is_bounded(make_pool: MakePool) -> None:
    pool = make_pool(timeout_s=0.5)
    pool.prewarm()

    def outcome(_: int) -> type[BaseException]:
        with pytest.raises((FunctionTimeout, NoFreeEnvironment)) as raised:
            pool.invoke({"hang": True}, wait_s=0.05)
        return raised.type

    with ThreadPoolExecutor(2) as callers:
        assert set(callers.map(outcome, range(2))) == {FunctionTimeout, NoFreeEnvironment}


def test_closing_ends_every_process(make_pool: MakePool) -> None:
    pool = make_pool(size=2)
    pool.prewarm()
    pids = pool.pids
    pool.close()
    pool.close()
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

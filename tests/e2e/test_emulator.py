"""The emulators fulfil what a pool requires of an environment, and Lambda's limits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from local.lambda_environments import EnvironmentPool, Function, FunctionError, FunctionTimeout
from tests.e2e.built import Code
from tests.e2e.emulator import Emulator, emulators, gone

pytestmark = pytest.mark.e2e

HANDLER = """
import os
import sys
import threading

from layered import NAME

running = 0


def lambda_handler(event, context):
    global running
    running += 1
    try:
        if event.get("touch"):
            open(event["touch"], "x").close()
        if event.get("hang"):
            threading.Event().wait(30)
        if event.get("raise"):
            raise ValueError(event["raise"])
        if event.get("exit"):
            os._exit(3)
        if event.get("allocate_mb"):
            bytearray(event["allocate_mb"] * 1024 * 1024)
        threading.Event().wait(event.get("busy_s", 0))
        return {
            "pid": os.getpid(),
            "running": running,
            "layer": NAME,
            "python": sys.version_info[:2],
            "cwd": os.getcwd(),
            "environment": dict(os.environ),
            "memory": context.memory_limit_in_mb,
            "remaining_ms": context.get_remaining_time_in_millis(),
        }
    finally:
        running -= 1
"""
MEMORY_MB = 256

MakePool = Callable[..., EnvironmentPool]


@pytest.fixture
def make_pool(tmp_path: Path) -> Iterator[MakePool]:
    task_root, layer = tmp_path / "task", tmp_path / "layer"
    for directory in (task_root, layer):
        directory.mkdir()
    (task_root / "probe.py").write_text(HANDLER)
    (task_root / "broken.py").write_text("raise RuntimeError('no such setting')")
    (layer / "layered.py").write_text("NAME = 'from the layer'")
    with ExitStack() as pools:

        def make(*, size: int = 1, timeout_s: float = 10.0, handler: str = "probe.lambda_handler") -> EnvironmentPool:
            function = Function("ProbeFunction", handler, {"TOKEN_TABLE": "tokens"}, timeout_s, MEMORY_MB)
            make_environment = emulators({"ProbeFunction": Code(task_root, [layer])})
            log = tmp_path / "probe.log"
            return pools.enter_context(EnvironmentPool(function, size=size, log=log, make_environment=make_environment))

        yield make


def runtime_pids(pool: EnvironmentPool) -> list[int]:
    emulators = [environment for environment in pool._all if isinstance(environment, Emulator)]
    return [emulator.runtime_pid for emulator in emulators if emulator.runtime_pid]


def test_a_function_runs_on_lambdas_python_with_only_its_layers_and_variables(
    make_pool: MakePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "somebody")
    result = make_pool().invoke({})
    assert result["python"] == [3, 13]
    assert result["layer"] == "from the layer"
    assert result["cwd"] == result["environment"]["LAMBDA_TASK_ROOT"] == str(tmp_path / "task")
    assert result["environment"]["TOKEN_TABLE"] == "tokens"
    assert result["environment"]["AWS_LAMBDA_FUNCTION_NAME"] == "ProbeFunction"
    assert result["environment"]["AWS_REGION"] == "eu-west-1"
    assert not {"AWS_PROFILE", "HOME", "VIRTUAL_ENV"} & result["environment"].keys()
    assert result["memory"] == str(MEMORY_MB)
    assert 0 < result["remaining_ms"] <= 10_000


def test_a_function_cannot_use_more_than_its_memory(make_pool: MakePool) -> None:
    pool = make_pool()
    assert pool.invoke({"allocate_mb": MEMORY_MB // 2})["layer"] == "from the layer"
    with pytest.raises(FunctionError) as raised:
        pool.invoke({"allocate_mb": MEMORY_MB})
    assert raised.value.error["errorType"] == "MemoryError"


def test_what_a_handler_raises_or_cannot_load_comes_back_as_lambdas_error_object(make_pool: MakePool) -> None:
    pool = make_pool()
    with pytest.raises(FunctionError, match="ValueError: no good") as raised:
        pool.invoke({"raise": "no good"})
    assert "lambda_handler" in "".join(raised.value.error["stackTrace"])
    assert pool.invoke({})["running"] == 1
    with pytest.raises(FunctionError, match="no such setting"):
        make_pool(handler="broken.lambda_handler").invoke({})


def test_a_function_that_times_out_or_exits_is_replaced(make_pool: MakePool) -> None:
    pool = make_pool(timeout_s=2)
    pids = {pool.invoke({})["pid"]}
    with pytest.raises(FunctionTimeout, match="timed out after 2"):
        pool.invoke({"hang": True})
    pids.add(pool.invoke({})["pid"])
    with pytest.raises(FunctionError, match=r"Runtime\.ExitError"):
        pool.invoke({"exit": True})
    pids.add(pool.invoke({})["pid"])
    assert len(pids) == 3


def test_each_emulator_runs_one_event_at_a_time(make_pool: MakePool) -> None:
    pool = make_pool(size=2)
    with ThreadPoolExecutor(8) as callers:
        results = list(callers.map(pool.invoke, [{"busy_s": 0.02}] * 12))
    assert {result["running"] for result in results} == {1}
    assert {result["pid"] for result in results} == set(runtime_pids(pool))
    assert len(runtime_pids(pool)) == 2


def test_closing_ends_busy_emulators_and_functions_too(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(size=2)
    pids = {pool.invoke({})["pid"] for _ in range(2)} | set(pool.pids)
    began, pause = tmp_path / "began", threading.Event()
    with ThreadPoolExecutor(1) as callers:
        hanging = callers.submit(pool.invoke, {"touch": str(began), "hang": True})
        while not began.exists():
            assert not pause.wait(0.01)
        pool.close()
        with pytest.raises(FunctionError, match="did not respond"):
            hanging.result()
    assert len(pids) == 4
    assert [pid for pid in pids if not gone(pid)] == []

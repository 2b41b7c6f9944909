"""Pools of Lambda execution environments: each is a process that runs one event at a time and stays warm."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Protocol, Self

from local import process
from local.aws import ACCOUNT_ID, REGION

CODE: Final = (process.ROOT / "functions", process.ROOT / "layers" / "broker")
INIT_TIMEOUT_S: Final = 30.0
INTEGRATION_TIMEOUT_S: Final = 29.0


class FunctionError(Exception):
    """The function failed; `error` is Lambda's error object {errorMessage, errorType, ...}."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error.get('errorType')}: {error.get('errorMessage')}")
        self.error = error


class FunctionTimeout(FunctionError):
    """The function was still running at its time-out; its environment has been killed."""


class NoFreeEnvironment(Exception):
    """No environment became free in the time that the caller could wait."""


@dataclass(frozen=True)
class Function:
    """A function as the template declares it. `environment`: its variables, resolved."""

    function_id: str
    handler: str
    environment: Mapping[str, str] = field(repr=False)
    timeout_s: float = 30.0
    memory_mb: int = 256
    code: Sequence[Path] = CODE


def lambda_environment(function: Function, endpoint_url: str | None, extra: Mapping[str, str]) -> dict[str, str]:
    """A function's variables: the template's, those that Lambda adds, `extra`, and of this shell only PATH."""
    pinned = {
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_LAMBDA_FUNCTION_NAME": function.function_id,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.function_id}",
        "AWS_LAMBDA_LOG_STREAM_NAME": f"local/[$LATEST]{uuid.uuid4().hex}",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "_HANDLER": function.handler,
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "PATH": os.environ.get("PATH", os.defpath),
    }
    if endpoint_url:
        pinned["AWS_ENDPOINT_URL"] = endpoint_url
    return {**pinned, **function.environment, **extra}


class Environment(Protocol):
    """A place in a pool: at most one process, started when first needed and again after it was lost."""

    @property
    def pid(self) -> int | None:
        """The id of its process, if one runs."""

    def start(self) -> object:
        """Get ready for an event. Raises FunctionError if the function does not load."""

    def run(self, event: Any) -> Any:
        """The handler's result. Raises FunctionError or FunctionTimeout; the next run replaces a lost process."""

    def interrupt(self) -> None:
        """Kill the process from another thread. The `run` under way then fails and cleans up."""

    def kill(self) -> None:
        """Kill the process at once. Idempotent."""


MakeEnvironment = Callable[[Function, Mapping[str, str], Path | None], Environment]


class ProcessEnvironment:
    """An environment whose process runs the working tree's code under this Python."""

    def __init__(self, function: Function, variables: Mapping[str, str], log: Path | None) -> None:
        self._function = function
        self._variables = variables
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    @property
    def pid(self) -> int | None:
        """The id of its process, if one runs."""
        running = self._process
        return running.pid if running and running.poll() is None else None

    def start(self) -> Connection:
        """The pipe to a process whose handler is loaded. Raises FunctionError if it does not load."""
        if self._pipe and self.pid:
            return self._pipe
        self.kill()
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = self._spawn(theirs.fileno())
        try:
            self._receive(self._pipe, INIT_TIMEOUT_S)
        except FunctionError:
            self.kill()
            raise
        return self._pipe

    def _spawn(self, fd: int) -> "subprocess.Popen[bytes]":
        paths = itertools.chain.from_iterable(("--path", str(path)) for path in self._function.code)
        return process.start_module(
            "local.lambda_process",
            ["--fd", str(fd), "--handler", self._function.handler, *paths],
            pass_fds=[fd],
            environment=self._variables,
            log=self._log,
        )

    def run(self, event: Any) -> Any:
        """The handler's result. Raises FunctionError or FunctionTimeout; the next run replaces a lost process."""
        pipe = self.start()
        message = {
            "event": event,
            "request_id": str(uuid.uuid4()),
            "account_id": ACCOUNT_ID,
            "deadline": time.time() + self._function.timeout_s,
        }
        with contextlib.suppress(BrokenPipeError):  # _receive notices a process that died meanwhile
            pipe.send_bytes(json.dumps(message).encode())
        return self._receive(pipe, self._function.timeout_s)

    def _receive(self, pipe: Connection, timeout_s: float) -> Any:
        try:
            if not pipe.poll(timeout_s):
                self.kill()
                message = f"{self._function.function_id} timed out after {timeout_s:g} seconds"
                raise FunctionTimeout({"errorType": "Sandbox.Timedout", "errorMessage": message})
            outcome = json.loads(pipe.recv_bytes())
        except (EOFError, ConnectionError):
            self.kill()
            message = f"{self._function.function_id} ended without a result"
            raise FunctionError({"errorType": "Runtime.ExitError", "errorMessage": message}) from None
        if "error" in outcome:
            raise FunctionError(outcome["error"])
        return outcome["result"]

    def interrupt(self) -> None:
        """Kill the process from another thread. The thread in `run` notices that and cleans up."""
        if pid := self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill the process at once, as Lambda does: a handler gets no signal first. Idempotent."""
        if self._pipe:
            self._pipe.close()
            self._pipe = None
        if self._process:
            process.end(self._process, grace_s=0)
            self._process = None


class EnvironmentPool:
    """At most `size` environments of one function. Callers wait for a free one.

    With `spread` the least recently used environment runs next, so that all of them are used; without it the most
    recently used one, so that the others stay cold as in a quiet Lambda.
    """

    def __init__(
        self,
        function: Function,
        *,
        endpoint_url: str | None = None,
        variables: Mapping[str, str] | None = None,
        size: int = 1,
        log: Path | None = None,
        spread: bool = True,
        make_environment: MakeEnvironment = ProcessEnvironment,
    ) -> None:
        self.function = function
        environment = lambda_environment(function, endpoint_url, variables or {})
        self._all = [make_environment(function, environment, log) for _ in range(size)]
        self._idle = deque(self._all)
        self._free = threading.Condition()
        self._spread = spread
        self._closed = False

    def invoke(self, event: Any, *, wait_s: float = INTEGRATION_TIMEOUT_S) -> Any:
        """The function's result on the event. Raises FunctionError, FunctionTimeout or NoFreeEnvironment."""
        environment = self._take(wait_s)
        try:
            return environment.run(event)
        finally:
            self._give_back(environment)

    def _take(self, wait_s: float) -> Environment:
        with self._free:
            free = self._free.wait_for(lambda: self._idle or self._closed, wait_s)
            if not free or self._closed:
                raise NoFreeEnvironment(f"no environment of {self.function.function_id} was free within {wait_s:g} s")
            return self._idle.popleft()

    def _give_back(self, environment: Environment) -> None:
        with self._free:
            if self._closed:
                environment.kill()
            elif self._spread:
                self._idle.append(environment)
            else:
                self._idle.appendleft(environment)
            self._free.notify()

    def prewarm(self) -> None:
        """Start every idle environment and return when their handlers are loaded. Raises FunctionError."""
        with self._free:
            taken = list(self._idle)
            self._idle.clear()
        try:
            with ThreadPoolExecutor(max_workers=2) as starters:
                list(starters.map(lambda environment: environment.start(), taken))
        finally:
            for environment in taken:
                self._give_back(environment)

    @property
    def pids(self) -> list[int]:
        """The ids of the running processes, for tests that stop or kill one."""
        return [environment.pid for environment in self._all if environment.pid]

    def close(self) -> None:
        """Kill every process of this pool, busy ones too. Idempotent."""
        with self._free:
            self._closed = True
            idle = list(self._idle)
            self._idle.clear()
            self._free.notify_all()
        for environment in idle:
            environment.kill()
        for environment in self._all:
            environment.interrupt()  # the thread that runs a busy one cleans up

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

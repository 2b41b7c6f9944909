"""An execution environment on Lambda's own runtime: one Runtime Interface Emulator with awslambdaric behind it.

The emulator comes with aws-sam-cli, the runtime's packages (awslambdaric, boto3) from .venv/e2e. It loads the handler
at the first event, and starts a new process after a time-out or an exit. It crashes if it is invoked twice at once, and
the pool prevents that. The function ARN in its context is always in region us-east-1.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from local import process
from local.lambda_environments import Function, FunctionError, FunctionTimeout, MakeEnvironment
from local.ports import LOOPBACK, listen, port_of
from tests.e2e.built import Code

VENV: Final = process.ROOT / ".venv"
PYTHON: Final = VENV / "e2e" / "bin" / "python"
EMULATOR: Final = "lib/python3*/site-packages/samcli/local/rapid/aws-lambda-rie-x86_64"
INVOCATIONS: Final = "/2015-03-31/functions/function/invocations"
START_S: Final = 20.0
START_ATTEMPTS: Final = 3  # another program may take the port before the emulator starts
LOADING_S: Final = 30.0  # more than the function's time-out, which the emulator enforces
END_S: Final = 5.0


class Emulator:
    """An environment of a pool: see local.lambda_environments.Environment."""

    def __init__(self, code: Code, function: Function, variables: Mapping[str, str], log: Path | None) -> None:
        self._code = code
        self._function = function
        self._variables = {
            **variables,
            "AWS_LAMBDA_FUNCTION_TIMEOUT": f"{function.timeout_s:g}",
            "AWS_SESSION_TOKEN": "local",
        }
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def pid(self) -> int | None:
        """The process that leads the session."""
        running = self._process
        return running.pid if running and running.poll() is None else None

    @property
    def runtime_pid(self) -> int | None:
        """The process that runs the handler. Apart from the leader, it alone has its own process group."""
        leader = self.pid
        if leader is None:
            return None
        return next((pid for pid in _session(leader) if pid != leader and os.getpgid(pid) == pid), None)

    def start(self) -> None:
        """Starts an emulator. The first event loads the handler. Raises process.StartFailed."""
        if self.pid:
            return
        self.kill()
        for _ in range(START_ATTEMPTS):
            self._spawn()
            if self._listens():
                return
            self.kill()
        raise process.StartFailed(f"no emulator for {self._function.function_id}: {self._log or 'see above'}")

    def _spawn(self) -> None:
        # Both addresses are given, because by default the emulator listens on every interface.
        with listen(0) as front, listen(0) as runtime:
            self._port, runtime_port = port_of(front), port_of(runtime)
        self._process = process.start_module(
            "tests.e2e.emulator_process",
            [
                *("--task-root", str(self._code.task_root)),
                *("--python-path", os.pathsep.join(map(str, self._code.layers))),
                str(next(VENV.joinpath("sam").glob(EMULATOR))),
                *("--runtime-interface-emulator-address", f"{LOOPBACK}:{self._port}"),
                *("--runtime-api-address", f"{LOOPBACK}:{runtime_port}"),
                # Lambda ends a function over its memory. A limit on the address space is stricter.
                *("/bin/sh", "-c", 'ulimit -v "$0" && exec "$@"', str(self._function.memory_mb * 1024)),
                *(str(PYTHON), "-m", "awslambdaric", self._function.handler),
            ],
            environment=self._variables,
            log=self._log,
        )

    def _listens(self) -> bool:
        give_up, pause = time.monotonic() + START_S, threading.Event()
        while self.pid and time.monotonic() < give_up:
            with contextlib.suppress(ConnectionError), socket.create_connection((LOOPBACK, self._port), START_S):
                return True
            pause.wait(0.02)
        return False

    def run(self, event: Any) -> Any:
        """The handler's result. Raises FunctionError or FunctionTimeout. The emulator still works after both."""
        self.start()
        try:
            status, body = self._post(json.dumps(event).encode())
        except (OSError, http.client.HTTPException) as error:
            self.kill()
            message = f"{self._function.function_id}'s emulator did not respond: {type(error).__name__}"
            raise FunctionError({"errorType": "Runtime.ExitError", "errorMessage": message}) from None
        # A failed function has status 200 too. Only the body shows the failure.
        if body.startswith(b"Task timed out"):
            raise FunctionTimeout({"errorType": "Sandbox.Timedout", "errorMessage": body.decode()})
        answer = json.loads(body)
        if status != 200 or (isinstance(answer, dict) and {"errorType", "errorMessage"} <= answer.keys()):
            raise FunctionError(answer)
        return answer

    def _post(self, event: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=self._function.timeout_s + LOADING_S)
        with contextlib.closing(connection):
            connection.request("POST", INVOCATIONS, event)
            response = connection.getresponse()
            return response.status, response.read()

    def interrupt(self) -> None:
        """Kills every process. The running invocation fails and cleans up."""
        if self._process:
            _kill_session(self._process.pid)

    def kill(self) -> None:
        """Kills every process. Idempotent."""
        if self._process:
            _kill_session(self._process.pid)
            process.end(self._process, grace_s=0)
            self._process = None


def emulators(functions: Mapping[str, Code]) -> MakeEnvironment:
    """Makes environments for functions with this code, by logical id."""

    def make(function: Function, variables: Mapping[str, str], log: Path | None) -> Emulator:
        return Emulator(functions[function.function_id], function, variables, log)

    return make


def _session(leader: int) -> Iterator[int]:
    """The processes of a session. The function has its own process group, so killing one group is not enough."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(ValueError, ProcessLookupError):
            if os.getsid(int(entry.name)) == leader:
                yield int(entry.name)


def _kill_session(leader: int) -> None:
    give_up, pause = time.monotonic() + END_S, threading.Event()
    # Repeated until there are none, because the emulator may just have started one.
    while (running := [pid for pid in _session(leader) if not gone(pid)]) and time.monotonic() < give_up:
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        pause.wait(0.01)


def gone(pid: int) -> bool:
    """Whether the process has ended or is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True

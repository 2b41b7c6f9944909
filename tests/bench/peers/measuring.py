"""The measurement: each peer's callers in their own processes, at their own token endpoints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from local.client import SignedClient
from local.connections import aws_client
from local.process import ROOT, StartFailed, end
from local.sigv4 import LOCAL
from local.stack import Stack
from tests.bench.peers.callers import Target
from tests.bench.peers.endpoints import CLIENT_ID, SCOPE, SECRET, Endpoint, Endpoints
from tests.bench.peers.peers import Peer
from tests.bench.peers.proxies import VENV, Proxy
from tests.bench.peers.result import FAILURES, Answer, CallResults, Hit, Row, combined
from tests.bench.peers.worker import Task

Progress = Callable[[str], None]
OWN_PYTHON: Final = sys.executable
PEERS_PYTHON: Final = str(VENV / "bin" / "python")
AT_ONCE: Final = 6  # failing callers wait most of the time


@dataclass(frozen=True)
class Course:
    """The sizes of the measurement. `latency_s`: the provider's latency for cold callers."""

    callers: int = 200
    processes: int = 8
    asks: int = 10
    patience_s: float = 60.0
    latency_s: float = 0.25
    hits: int = 5_000
    hits_over_http: int = 500


def measure(stack: Stack, peers: Sequence[Peer], course: Course, progress: Progress) -> list[Row]:
    """A row for each peer. All failing callers run first, several at once. Timed measurements run alone."""
    bench = _Bench(stack, course)
    runs = [(peer, failure) for failure in FAILURES for peer in peers]
    progress(f"asked {course.asks} times in a row while the provider fails: {len(peers)} peers")
    with ThreadPoolExecutor(AT_ONCE) as threads:
        failed = dict(zip(runs, threads.map(lambda run: bench.failing(*run), runs), strict=True))
    rows = []
    for peer in peers:
        progress(f"{peer.name}: {course.callers} cold callers, and a token that is there")
        rows.append(
            Row(
                peer.name,
                version_of(peer),
                peer.used_as,
                peer.documentation,
                bench.cold(peer, processes=1),
                bench.cold(peer, processes=course.processes),
                {failure: failed[peer, failure] for failure in FAILURES},
                bench.hit(peer) if peer.returns_token else None,
            )
        )
    return rows


def version_of(peer: Peer) -> str:
    """The installed version of the peer's package; for the broker, the client's."""
    if peer.distribution is None:
        project = tomllib.loads((ROOT / "layers" / "client" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return str(project["version"])
    code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
    command = [PEERS_PYTHON, "-c", code, peer.distribution]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class _Bench:
    def __init__(self, stack: Stack, course: Course) -> None:
        self._stack = stack
        self._course = course
        self._endpoints = Endpoints(stack.providers)

    def cold(self, peer: Peer, *, processes: int) -> CallResults:
        """All callers request a token at the same moment, spread over the processes."""
        endpoint, results = self._run(
            peer,
            f"cold-{processes}",
            lambda endpoint: endpoint.respond_after(self._course.latency_s),
            lambda target: Task(peer.caller, target, "cold", self._course.callers // processes),
            processes,
        )
        return combined([asked(result) for result in results], endpoint.token_requests)

    def failing(self, peer: Peer, failure: str) -> CallResults:
        """One caller requests a token repeatedly while the provider fails."""
        course = self._course
        endpoint, results = self._run(
            peer,
            failure.replace("_", "-"),
            lambda endpoint: endpoint.always(failure),
            lambda target: Task(peer.caller, target, "failing", course.asks, course.patience_s, peer.pause_s),
        )
        return combined([asked(result) for result in results], endpoint.token_requests)

    def hit(self, peer: Peer) -> Hit:
        """One caller, one token."""
        count = self._course.hits_over_http if peer.over_http else self._course.hits
        endpoint, (result,) = self._run(
            peer, "hit", lambda _: None, lambda target: Task(peer.caller, target, "hit", count)
        )
        return Hit(**{**result, "token_requests": endpoint.token_requests})

    def _run(
        self,
        peer: Peer,
        name: str,
        prepare: Callable[[Endpoint], None],
        task: Callable[[Target], Task],
        processes: int = 1,
    ) -> tuple[Endpoint, list[dict[str, Any]]]:
        """Runs the task in each process at one new token endpoint. Returns the endpoint and the results."""
        path = f"{peer.caller.replace('_', '-')}-{name}"
        endpoint, root = self._endpoints.new(path)
        prepare(endpoint)
        with tempfile.TemporaryDirectory() as directory:
            proxies = list[Proxy]()
            if peer.proxy:
                for number in range(processes if peer.sidecar else 1):
                    own = Path(directory) / str(number)
                    own.mkdir()
                    proxies.append(peer.proxy(root, own))
            roots = [proxy.root for proxy in proxies] or [root]
            if peer.distribution is None:
                self._connect(path, root)
            targets = [self._target(path, roots[number % len(roots)]) for number in range(processes)]
            return endpoint, run([task(target) for target in targets], python_of(peer), proxies)

    def _target(self, connection: str, root: str) -> Target:
        return Target(
            token_url=f"{root}/token",
            client_id=CLIENT_ID,
            client_secret=SECRET["client_secret"],
            private_key=self._endpoints.private_key,
            scope=SCOPE,
            broker_url=self._stack.url,
            connection=connection,
            api_url=f"{root}/api/resource",
        )

    def _connect(self, connection: str, root: str) -> None:
        """A connection of the broker without a token. Raises StartFailed."""
        secrets = aws_client("secretsmanager", self._stack.endpoint_url)
        secrets.create_secret(
            Name=f"{self._stack.resources.secret_prefix}/oauth2/{connection}", SecretString=json.dumps(SECRET)
        )
        settings = {
            "allowed_callers": [LOCAL.arn],
            "token_url": f"{root}/token",
            "client_auth": "basic",
            "encoding": "form",
            "scope": SCOPE,
            "api_base_url": root,
        }
        with closing(SignedClient(self._stack.url)) as client:
            answer = client.call("PUT", f"/v1/connections/oauth2/{connection}", body=settings)
        if answer.status != 201:
            raise StartFailed(f"PUT /v1/connections/oauth2/{connection} answered {answer.status}: {answer.body}")


def python_of(peer: Peer) -> str:
    """The interpreter with the peer's package."""
    return PEERS_PYTHON if peer.distribution else OWN_PYTHON


def run(tasks: Sequence[Task], python: str, proxies: Sequence[Proxy] = ()) -> list[dict[str, Any]]:
    """Runs each task in its own process, all from the same moment. Returns their results. Raises StartFailed.

    The proxies are started last, because some fetch a token in advance, which should be recent.
    """
    with ExitStack() as endings:
        processes = []
        for task in tasks:
            process = subprocess.Popen(
                [python, "-m", "tests.bench.peers.worker"],
                cwd=ROOT,
                # Nothing of this shell's environment: no proxy, no AWS configuration, no credentials.
                env={
                    "PATH": os.environ.get("PATH", os.defpath),
                    "PYTHONPATH": str(ROOT / "layers" / "client"),
                    "AWS_CONFIG_FILE": os.devnull,
                    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            endings.enter_context(process)  # closes the pipes
            endings.callback(end, process, grace_s=0)
            processes.append(process)
            _tell(process, json.dumps(asdict(task)))
        for process in processes:
            _hear(process)
        for proxy in proxies:
            endings.enter_context(proxy.running())
        for process in processes:
            _tell(process, "go")
        return [json.loads(_hear(process)) for process in processes]


def _tell(process: subprocess.Popen[bytes], line: str) -> None:
    assert process.stdin
    process.stdin.write(line.encode() + b"\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise StartFailed("a process of callers ended early: see above")
    return line


def asked(result: dict[str, Any]) -> CallResults:
    return CallResults(**{**result, "answers": tuple(Answer(**answer) for answer in result["answers"])})

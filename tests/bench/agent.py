"""The agent: a hit over its Unix socket, beside a signed request to the broker and beside proxies; memory of many keys.

One caller, one kept connection each, in turn. nginx and Envoy are measured where .venv/peers has them.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import boto3

from local.aws import REGION
from local.connections import NAME
from local.process import LOGS, ROOT, end
from local.sigv4 import LOCAL
from local.stack import Options, Stack
from tests.bench.figure import Amount, Figure, Finding, Size, timed
from tests.bench.ground import PROVIDER
from tests.bench.peers.endpoints import CLIENT_ID, SCOPE, SECRET, Endpoints
from tests.bench.peers.proxies import VENV, Proxy, envoy, nginx
from tests.bench.scale import Progress, Scale
from token_broker_cli.agent.command import UnixConnection
from token_broker_client.endpoint import Endpoint

PATH: Final = f"/v1/tokens/{PROVIDER}/{NAME}"
SIGNED_BAR: Final = 1.0
WARM_UP: Final = 20
LISTENING: Final = "listening"
Call = Callable[[], object]


def measure(scale: Scale, progress: Progress) -> list[Finding]:
    """The figures of the agent."""
    with ExitStack() as endings:
        stack = endings.enter_context(Stack(Options(api_environments=1, ticks=False), progress))
        directory = Path(endings.enter_context(tempfile.TemporaryDirectory()))
        pid = endings.enter_context(running(stack, directory / "agent.sock"))
        connection = endings.enter_context(closing(UnixConnection(directory / "agent.sock")))
        session = boto3.Session(LOCAL.access_key, LOCAL.secret_key, region_name=REGION)
        signed = endings.enter_context(closing(Endpoint(stack.url, session=session)))
        calls: dict[str, Call] = {
            "agent": lambda: get(connection, PATH),
            "signed": lambda: signed.send("GET", PATH, {}, timeout_s=30),
            **proxies(stack, directory, endings),
        }
        progress(f"{scale.agent_calls} calls each of {', '.join(calls)}")
        taken = interleaved(calls, scale.agent_calls)
        progress(f"{scale.agent_hits} hits, and {scale.agent_keys} keys")
        per_s = hits_per_cpu_second(pid, calls["agent"], scale.agent_hits)
        before = resident_mb(pid)
        for number in range(scale.agent_keys):
            get(connection, f"{PATH}?min_ttl={number}")
        after = resident_mb(pid)
    beside = {
        "a signed request to the broker": ("signed", SIGNED_BAR),
        "nginx, which caches the token response": ("nginx", None),
        "Envoy, which adds the token to a request to the API": ("envoy", None),
    }
    return [
        *(
            timed(f"a hit of the agent / {what}", bar, taken["agent"], taken[name], scale.agent_calls, callers=1)
            for what, (name, bar) in beside.items()
            if name in taken
        ),
        Amount("hits a second of the agent on one core", per_s, "hits, by its processor time", None, scale.agent_hits),
        Figure(
            f"resident memory of the agent after {scale.agent_keys:,} keys / after one",
            round(after / before, 3),
            None,
            Size(after),
            Size(before),
            1,
        ),
    ]


@contextmanager
def running(stack: Stack, path: Path) -> Iterator[int]:
    """Runs the agent until the block ends. Yields its process id."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": f"{ROOT / 'layers' / 'client'}:{ROOT / 'cli'}",
        "TOKEN_BROKER_URL": stack.url,
        "AWS_ACCESS_KEY_ID": LOCAL.access_key,
        "AWS_SECRET_ACCESS_KEY": LOCAL.secret_key,
        "AWS_REGION": REGION,
    }
    options = ["--allow", f"{PROVIDER}/{NAME}", "--socket", str(path)]
    log = LOGS / "bench-agent.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "token_broker_cli", "agent", *options], env=environment, cwd=ROOT, stderr=output
        )
    try:
        while LISTENING not in log.read_text(encoding="utf-8"):
            assert process.poll() is None, f"the agent ended; see {log}"
            time.sleep(0.01)
        yield process.pid
    finally:
        end(process)


def proxies(stack: Stack, directory: Path, endings: ExitStack) -> Mapping[str, Call]:
    """A call through each proxy that is installed."""
    calls: dict[str, Call] = {}
    if not VENV.joinpath(".ready").exists():
        return calls
    endpoints = Endpoints(stack.providers)

    def through(name: str, make: Callable[[str, Path], Proxy]) -> tuple[HTTPConnection, str]:
        """A connection to a new proxy, and the path of the provider behind it."""
        own = directory / name
        own.mkdir()
        proxy = make(endpoints.new(f"bench-{name}")[1], own)
        endings.enter_context(proxy.running())
        url = urlsplit(proxy.root)
        return endings.enter_context(closing(HTTPConnection(url.hostname or "", url.port))), url.path

    cache, cached = through("nginx", nginx)
    pair = base64.b64encode(f"{CLIENT_ID}:{SECRET['client_secret']}".encode()).decode()
    headers = {"Authorization": f"Basic {pair}", "Content-Type": "application/x-www-form-urlencoded"}
    body = urlencode({"grant_type": "client_credentials", "scope": SCOPE})
    calls["nginx"] = lambda: get(cache, f"{cached}/token", "POST", body, headers)
    injector, api = through("envoy", envoy)
    calls["envoy"] = lambda: get(injector, f"{api}/api/resource")
    wait_for_first_token(calls["envoy"])
    return calls


def wait_for_first_token(call: Call) -> None:
    """Envoy fetches its token in the background and responds with 401 until then."""
    end_at = time.monotonic() + 10
    while time.monotonic() < end_at:
        try:
            call()
        except AssertionError:
            time.sleep(0.05)
        else:
            return


def get(
    connection: HTTPConnection,
    path: str,
    method: str = "GET",
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """The body of a response with status 200."""
    connection.request(method, path, body, dict(headers or {}))
    response = connection.getresponse()
    received = response.read()
    assert response.status == 200, response.status
    return received


def interleaved(calls: Mapping[str, Call], count: int) -> dict[str, list[float]]:
    """The seconds of each call. The sides take turns, so that a slow phase of the machine affects all."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(WARM_UP + count):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if number >= WARM_UP:
                taken[name].append(time.perf_counter() - started)
    return taken


def hits_per_cpu_second(pid: int, call: Call, count: int) -> float:
    """How many hits the process serves with a second of one core."""
    before = cpu_s(pid)
    for _ in range(count):
        call()
    return round(count / max(cpu_s(pid) - before, 1 / os.sysconf("SC_CLK_TCK")))


def cpu_s(pid: int) -> float:
    """The processor time of a process, user and system (proc(5))."""
    fields: list[Any] = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """The resident memory of a process, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)

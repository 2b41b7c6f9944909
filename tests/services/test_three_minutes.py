"""Three services for three minutes: tokens are revoked, the broker is down, the provider fails. Nobody notices.

Real time, so only in `make soak`. Writes the counts to build/soak.json.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from local.aws import REGION
from local.connections import NAME
from local.outage import set_broker
from local.process import ROOT, end
from local.sigv4 import LOCAL
from local.stack import Options, Stack

HERE: Final = Path(__file__).parent
PROVIDER: Final = "unidy"
SECONDS: Final = 180
# A token is renewed about a minute after it was issued. After the third revocation this falls into the provider's
# outage, and is tried again 2 s and 32 s later.
LIFETIME_S: Final = 120
SWEEP_S: Final = 2.0
REVOCATIONS_S: Final = (5, 9, 60, 166, 172)
BROKER_DOWN_S: Final = (15, 45)
PROVIDER_DOWN_S: Final = (112, 132)
MOST_RENEWALS: Final = 3

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(os.environ.get("SOAK") != "1", reason="three minutes of real time: make soak"),
    pytest.mark.skipif(not (shutil.which("node") and shutil.which("curl")), reason="needs node 20 and curl"),
]


@dataclass(frozen=True)
class Calls:
    """What a service printed: the results of its calls, and the seconds that the slowest took."""

    results: dict[str, int]
    slowest_s: float

    @classmethod
    def of(cls, text: str) -> Calls:
        lines = [line.partition(" ") for line in text.splitlines()]
        return cls(dict(Counter(result for _, _, result in lines)), max(float(seconds) for seconds, _, _ in lines))


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    options = Options(api_environments=2, worker_environments=1, sweep_interval_s=SWEEP_S, log_dir=tmp_path)
    with Stack(options) as stack:
        yield stack


def test_no_request_fails_that_could_have_succeeded(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulator = stack.providers.simulator(PROVIDER)
    simulator.configure(lifetime_s=LIFETIME_S)
    responses: list[str] = []
    stack.front.log_requests(responses.append)
    with agent(stack, tmp_path / "agent.sock"):
        services = follow(stack, tmp_path, [*events(stack, simulator)])
    report = simulator.report()
    counts = {
        "requests of the services": {name: asdict(calls) for name, calls in services.items()},
        "requests to the provider's API": report["resource_requests"],
        "of these with a revoked token": report["resource_refused"],
        "token requests": report["token_requests"],
        "tokens issued": report["issued"],
        "broker calls with a response": Counter(line.split()[-3] for line in responses if "/v1/tokens/" in line),
    }
    (ROOT / "build" / "soak.json").write_text(json.dumps(counts, indent=2) + "\n", encoding="utf-8")
    with capsys.disabled():
        sys.stdout.write(f"\n{json.dumps(counts, indent=2)}\n")
    for name, calls in services.items():
        assert set(calls.results) == {"200"}, (name, calls)
        assert calls.results["200"] > SECONDS / 2
    # Two, if the revocation ended a token that the service had and one that the broker had renewed.
    most = 2 * len(REVOCATIONS_S) * len(services)
    assert len(REVOCATIONS_S) <= report["resource_refused"] <= most
    assert 1 + len(REVOCATIONS_S) < report["issued"] <= 1 + len(REVOCATIONS_S) + MOST_RENEWALS
    assert report["token_requests"] > report["issued"], "the provider's outage met a renewal"


def events(stack: Stack, simulator: Any) -> Iterator[tuple[float, Callable[[], object]]]:
    """What happens, and when."""
    port = int(stack.url.rpartition(":")[2])
    for second in REVOCATIONS_S:
        yield second, simulator.revoke_tokens
    for second, state in zip(BROKER_DOWN_S, ("down", "up"), strict=True):
        yield second, lambda state=state: set_broker(state, port)  # type: ignore[misc]  # binds the state of now
    yield PROVIDER_DOWN_S[0], lambda: simulator.fail("status", status=503, times=None)
    yield PROVIDER_DOWN_S[1], simulator.clear_faults


def follow(stack: Stack, directory: Path, happenings: list[tuple[float, Callable[[], object]]]) -> Mapping[str, Calls]:
    """Runs the services to their end, and makes everything happen meanwhile. The results of each service's calls."""
    url = f"{stack.providers_url}/{PROVIDER}/api/resource"
    programs = {"service.py": sys.executable, "service.mjs": "node", "service.sh": "sh"}
    outputs = {name: directory / f"{name}.txt" for name in programs}
    with ExitStack() as endings:
        services = []
        for name, program in programs.items():
            with outputs[name].open("wb") as output:
                command = [program, str(HERE / name), PROVIDER, NAME, url, str(SECONDS)]
                service = subprocess.Popen(command, env=environment(stack, directory), cwd=ROOT, stdout=output)
            endings.callback(end, service)
            services.append(service)
        began_at = time.monotonic()
        for second, happen in sorted(happenings, key=lambda happening: happening[0]):
            threading.Event().wait(began_at + second - time.monotonic())
            happen()
        for service in services:
            assert service.wait(SECONDS) == 0
    return {name: Calls.of(output.read_text(encoding="utf-8")) for name, output in outputs.items()}


def environment(stack: Stack, directory: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT / 'layers' / 'client'}:{ROOT / 'cli'}",
        "TOKEN_BROKER_URL": stack.url,
        "TOKEN_BROKER_SOCKET": str(directory / "agent.sock"),
        "AWS_ACCESS_KEY_ID": LOCAL.access_key,
        "AWS_SECRET_ACCESS_KEY": LOCAL.secret_key,
        "AWS_REGION": REGION,
    }


@contextmanager
def agent(stack: Stack, path: Path) -> Iterator[None]:
    """Runs the agent until the block ends."""
    command = [
        sys.executable,
        "-m",
        "token_broker_cli",
        "agent",
        "--allow",
        f"{PROVIDER}/{NAME}",
        "--socket",
        str(path),
    ]
    process = subprocess.Popen(command, env=environment(stack, path.parent), stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert any("listening" in line for line in process.stderr)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0

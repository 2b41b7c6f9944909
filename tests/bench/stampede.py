"""A burst on a cold key: many callers at once over the local stack's environments, with three latencies.

Each burst requests a connection that is new to every environment. The floor is the provider's own latency: the first
caller waits for it, and all others wait for the first. For comparison, the same burst is measured with the token in
every environment's memory.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from local.client import SignedClient
from local.connections import aws_client
from local.providers import DEFAULT_ACCOUNTS, default_settings
from local.sigv4 import LOCAL
from local.stack import Options, Stack
from tests.bench.figure import Amount, Figure, Finding, Sample
from tests.bench.ground import PROVIDER
from tests.bench.scale import Progress, Scale

BAR: Final = 1.5  # for the longest latency
ANSWER_S: Final = 60.0


def measure(scale: Scale, progress: Progress) -> list[Finding]:
    """For each latency: the token requests of the worst burst, and the wait of its slowest caller."""
    findings: list[Finding] = []
    with Stack(Options(api_environments=scale.environments, ticks=False), progress) as stack:
        bursts = Bursts(stack)
        warm = bursts.run(scale.callers, 0.0).name  # every environment has returned a token and imported everything
        hits: list[Burst] = []
        taken: dict[float, list[Burst]] = {latency_s: [] for latency_s in scale.latencies_s}
        for number in range(scale.bursts):
            progress(f"bursts of {scale.callers} callers: {number + 1} of {scale.bursts}")
            hits.append(bursts.run(scale.callers, 0.0, name=warm))
            for latency_s, found in taken.items():
                found.append(bursts.run(scale.callers, latency_s))
    for latency_s, found in taken.items():
        findings += _figures(latency_s, found, hits, scale)
    return findings


def connect(stack: Stack, connection: str) -> str:
    """Creates a connection with its secret, through the API. Returns its full name."""
    name = f"{PROVIDER}/{connection}"
    aws_client("secretsmanager", stack.endpoint_url).create_secret(
        Name=f"{stack.resources.secret_prefix}/{name}", SecretString=json.dumps(DEFAULT_ACCOUNTS[PROVIDER]["secret"])
    )
    settings = {"allowed_callers": [LOCAL.arn], **default_settings(PROVIDER, stack.providers_url)}
    with closing(SignedClient(stack.url)) as client:
        response = client.call("PUT", f"/v1/connections/{name}", body=settings)
    assert response.status == 201, response.body
    return name


@dataclass(frozen=True)
class Burst:
    """The result of one burst: token requests, and each caller's wait in seconds."""

    name: str
    requests: int
    waits: Sequence[float] = field(repr=False)


class Bursts:
    """Bursts on one stack, each on its own connection."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._simulator = stack.providers.simulator(PROVIDER)
        self._number = 0

    def run(self, callers: int, latency_s: float, *, name: str | None = None) -> Burst:
        """Makes `callers` calls at the same moment, each in its own thread, for a new connection unless one is named.

        Raises AssertionError if a caller gets no token, or another one than the others.
        """
        self._number += 1
        name = name or connect(self._stack, f"burst-{self._number}")
        before = self._simulator.report()["token_requests"]
        if latency_s:
            self._simulator.fail("delay", seconds=latency_s, times=None)
        start = threading.Barrier(callers)
        with ThreadPoolExecutor(callers) as threads:
            running = [threads.submit(self._call, name, start) for _ in range(callers)]
            responses = [future.result(ANSWER_S) for future in running]
        self._simulator.clear_faults()
        requests = self._simulator.report()["token_requests"] - before
        assert len({token_id for token_id, _ in responses}) == 1, "not all callers got the same token"
        return Burst(name, requests, [wait for _, wait in responses])

    def _call(self, name: str, start: threading.Barrier) -> tuple[str, float]:
        with closing(SignedClient(self._stack.url)) as client:
            start.wait(ANSWER_S)
            started = time.perf_counter()
            response = client.call("GET", f"/v1/tokens/{name}")
            taken = time.perf_counter() - started
        assert response.status == 200, response.body
        return response.body["token_id"], taken


def _figures(latency_s: float, bursts: Sequence[Burst], hits: Sequence[Burst], scale: Scale) -> list[Finding]:
    what = (
        f"{scale.callers} callers on a cold key over {scale.environments} environments, provider takes {latency_s:g} s"
    )
    slowest, of_hits = (Sample.of([max(burst.waits) for burst in found]) for found in (bursts, hits))
    floor = Sample.of([latency_s])
    waits = Sample.of([wait for burst in bursts for wait in burst.waits])
    conditions = {
        "callers' median_ms": waits.median_ms,
        "callers' p99_ms": waits.p99_ms,
        "slowest where the token is in memory_ms": of_hits.median_ms,
    }
    return [
        Amount(f"token requests, {what}", max(burst.requests for burst in bursts), "requests", 1, len(bursts)),
        Figure(
            f"slowest caller / the provider's latency, {what}",
            round(slowest.slowest_ms / floor.median_ms, 3),
            BAR if latency_s == max(scale.latencies_s) else None,
            slowest,
            floor,
            len(bursts),
            conditions,
        ),
    ]

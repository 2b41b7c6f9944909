"""One provider hangs: the effect on callers of the other four, with the local stack's limited environments.

Blocks with and without the hang alternate. In both, all callers send requests at the same rate, and those of the fifth
provider request a connection without a token. Only its token endpoint differs. A hanging endpoint holds the environment
of one caller until the exchange times out (8 s), and those of the others while its lease is younger than 4 s. Then the
key has a cooldown, and callers get an error at once. Lambda would start more environments. Here there are
`environments`, so `callers_of_the_fifth` decides how many are left.

With as many callers of the fifth as environments, the first round (until the first time-out) and the later rounds are
measured apart.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from local.client import SignedClient
from local.connections import DEMO_PROVIDERS, aws_client
from local.providers import DEFAULT_ACCOUNTS, default_settings
from local.sigv4 import LOCAL
from local.stack import Options, Stack
from tests.bench.figure import Amount, Figure, Finding, Sample

FIFTH: Final = "unidy"
OTHERS: Final = tuple(provider for provider in DEMO_PROVIDERS if provider != FIFTH)
BAR: Final = 1.5
FIRST_ROUND_BAR_S: Final = 4.5
FULL: Final = "with as many callers of the hanging provider as environments"
NAME: Final = "p99 of callers of the other four, one provider hanging / none"
ANSWER_S: Final = 60.0


@dataclass(frozen=True)
class Course:
    """The sizes of the measurement."""

    environments: int = 8
    repetitions: int = 5
    full_repetitions: int = 2  # with as many callers of the fifth as environments
    block_s: float = 11.0
    first_round_s: float = 9.0  # until the first time-out
    later_rounds_s: float = 22.0  # at least one more time-out
    callers_per_provider: int = 2
    pause_s: float = 0.1


def measure(course: Course, progress: Callable[[str], None]) -> list[Finding]:
    """With few callers of the hanging provider, and with as many as environments."""
    with Stack(Options(api_environments=course.environments, ticks=False), progress) as stack:
        bench = _Bench(stack, course)
        bench.warm_up()
        fits = bench.figure(NAME, course.callers_per_provider, BAR, course.repetitions, progress)
        return [fits, *bench.rounds(progress)]


class _Bench:
    def __init__(self, stack: Stack, course: Course) -> None:
        self._stack = stack
        self._course = course
        self._simulator = stack.providers.simulator(FIFTH)
        self._secrets = aws_client("secretsmanager", stack.endpoint_url)
        self._connections = 0

    def warm_up(self) -> None:
        """Lets every environment return each of the four tokens and make an acquisition."""
        self._block(self._course.environments, hangs=False)

    def figure(
        self, name: str, callers: int, bar: float | None, repetitions: int, progress: Callable[[str], None]
    ) -> Figure:
        """Alternates blocks without and with the hang. The order is reversed each time."""
        times: dict[bool, list[float]] = {False: [], True: []}
        for repetition in range(repetitions):
            for hangs in (False, True) if repetition % 2 == 0 else (True, False):
                progress(f"{name}: repetition {repetition + 1}, {'hanging' if hangs else 'not hanging'}")
                times[hangs] += self._block(callers, hangs=hangs)
        measured, reference = Sample.of(times[True]), Sample.of(times[False])
        conditions = {
            "environments": self._course.environments,
            "callers_of_each_other": self._course.callers_per_provider,
            "callers_of_the_fifth": callers,
            "pause_s": self._course.pause_s,
            "block_s": self._course.block_s,
        }
        ratio = round(measured.p99_ms / reference.p99_ms, 3)
        return Figure(name, ratio, bar, measured, reference, repetitions, conditions)

    def rounds(self, progress: Callable[[str], None]) -> list[Finding]:
        """The first round and the later ones, with as many callers of the fifth as environments."""
        course, first, later, without = self._course, list[float](), list[float](), list[float]()
        for repetition in range(course.full_repetitions):
            progress(f"{FULL}: repetition {repetition + 1}")
            without += self._block(course.environments, hangs=False)
            fifth = self._new_connection()
            first += self._block(course.environments, hangs=True, fifth=fifth, length_s=course.first_round_s)
            later += self._block(course.environments, hangs=True, fifth=fifth, length_s=course.later_rounds_s)
        conditions = {"environments": course.environments, "callers_of_each_other": course.callers_per_provider}
        first_p99_s = round(Sample.of(first).p99_ms / 1000, 2)
        measured, reference = Sample.of(later), Sample.of(without)
        return [
            Amount(
                f"p99 of callers of the other four in the first round, {FULL}",
                first_p99_s,
                "seconds",
                FIRST_ROUND_BAR_S,
                course.full_repetitions,
                conditions,
            ),
            Figure(
                f"{NAME}, from the second round on, {FULL}",
                round(measured.p99_ms / reference.p99_ms, 3),
                BAR,
                measured,
                reference,
                course.full_repetitions,
                conditions,
            ),
        ]

    def _block(
        self, callers: int, *, hangs: bool, fifth: str | None = None, length_s: float | None = None
    ) -> list[float]:
        """The times of the callers of the other four in one block. `fifth`: the connection that others ask for."""
        fifth = fifth or self._new_connection()
        end, times = threading.Event(), list[float]()
        if hangs:
            self._simulator.fail("hang", times=None)
        asked = [f"{provider}/demo" for provider in OTHERS for _ in range(self._course.callers_per_provider)]
        with ThreadPoolExecutor(len(asked) + callers) as threads:
            running = [threads.submit(self._call, name, end, times, index) for index, name in enumerate(asked)]
            # The results of the fifth provider's callers are not measured.
            running += [threads.submit(self._call, fifth, end, None, index) for index in range(callers)]
            end.wait(length_s or self._course.block_s)
            end.set()
            self._simulator.clear_faults()
            for future in running:
                future.result(ANSWER_S)
        return times

    def _call(self, name: str, end: threading.Event, times: list[float] | None, index: int) -> None:
        """One caller: requests a token, pauses, and repeats. Raises AssertionError if a measured call fails."""
        with closing(SignedClient(self._stack.url)) as client:
            end.wait(self._course.pause_s * index / 10)  # not all callers at the same moment
            while not end.is_set():
                started = time.perf_counter()
                response = client.call("GET", f"/v1/tokens/{name}")
                if times is not None:
                    assert response.status == 200, response.body
                    times.append(time.perf_counter() - started)
                end.wait(self._course.pause_s)

    def _new_connection(self) -> str:
        """A connection of the fifth provider without token and without failure."""
        self._connections += 1
        name = f"{FIFTH}/block-{self._connections}"
        self._secrets.create_secret(
            Name=f"{self._stack.resources.secret_prefix}/{name}",
            SecretString=json.dumps(DEFAULT_ACCOUNTS[FIFTH]["secret"]),
        )
        settings = {"allowed_callers": [LOCAL.arn], **default_settings(FIFTH, self._stack.providers_url)}
        with closing(SignedClient(self._stack.url)) as client:
            response = client.call("PUT", f"/v1/connections/{name}", body=settings)
        assert response.status == 201, response.body
        return name

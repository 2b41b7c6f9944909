"""One simulated day: connections are PUT, callers get tokens, sweeps run, workers renew, vendors fail."""

from __future__ import annotations

import gc
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any

from tests.fakes import (
    CALLER,
    FakeSealer,
    FakeSecretStore,
    InMemoryBudgets,
    InMemoryConnectionStore,
    InMemoryDueIndex,
    InMemoryHealthStore,
    InMemoryTokenStore,
    InMemoryTokenTable,
    make_broker,
)
from tests.fakes.world import REQUEST_TIME
from tests.simulation.loop import Loop
from tests.simulation.population import Key
from tests.simulation.vendors import Exchange, Trouble, Vendors
from tests.simulation.worked_queue import WorkedQueue
from token_broker.catalogue import load_catalogue
from token_broker.core.callers import Caller
from token_broker.core.names import ConnectionName
from token_broker.core.records import TokenRecord
from token_broker.errors import BrokerError
from token_broker.service import Broker, TokenRequest
from token_broker.service.sweep import sweep

START = datetime(2026, 11, 22, tzinfo=UTC)
DAY_S = 86_400.0
MINUTE_S = 60.0
# EventBridge Scheduler calls at any time within its minute.
SWEEP_AFTER_S = 3.0
SWEEP_TIME = timedelta(seconds=45)
INSTANCES = 4
STEADY_FROM = 0.5


@dataclass(frozen=True)
class Rotation:
    """All secrets change, one after the other. The event of each change comes `event_after_s` later."""

    start_s: float
    length_s: float
    event_after_s: float = 120


@dataclass(frozen=True)
class Plan:
    """A day to simulate. The same plan always has the same result."""

    name: str
    keys: Sequence[Key]
    length_s: float = DAY_S
    troubles: tuple[Trouble, ...] = ()
    rotation: Rotation | None = None
    sweeps: bool = True
    seed: int = 1


@dataclass
class Wait:
    """A call that did not return at once. Times in seconds of the day."""

    at_s: float
    waited_s: float


@dataclass
class Failed:
    """A call without a token. `expires_s`: when the key's token expires, as known then."""

    at_s: float
    code: str
    expires_s: float | None


@dataclass
class Token:
    """A token as it was stored. Times in seconds of the day."""

    issued_s: float
    stored_s: float
    expires_s: float


@dataclass
class Course:
    """The day of one key. `first_s`: when its first caller got a token. `waits` and `failures` are of later callers."""

    key: Key
    calls: int = 0
    first_s: float | None = None
    first_wait_s: float = 0
    failed_before: int = 0
    waits: list[Wait] = field(default_factory=list)
    failures: list[Failed] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    called_s: list[float] = field(default_factory=list)

    @property
    def is_warm(self) -> bool:
        return self.key.keep_warm != "never"

    def expires_s(self, at_s: float) -> float | None:
        """When the token expires that was stored last before a moment."""
        return next((token.expires_s for token in reversed(self.tokens) if token.stored_s <= at_s), None)


@dataclass
class Outcome:
    """The result of a day. `broken`: tokens returned that had expired or that the vendor did not accept."""

    plan: Plan
    courses: list[Course]
    exchanges: dict[str, list[Exchange]]
    rate_limited: int
    broken: int
    dead_letters: int


def in_memory() -> dict[str, Any]:
    """Stores in memory. They pass the same contracts as DynamoDB's."""
    connections = InMemoryConnectionStore()
    table = InMemoryTokenTable()
    return {
        "connections": connections,
        "tokens": InMemoryTokenStore(connections, table),
        "health": InMemoryHealthStore(table),
        "due_index": InMemoryDueIndex(table),
        "budgets": InMemoryBudgets(),
    }


def run(plan: Plan) -> Outcome:
    """Simulates a day."""
    gc.collect()
    gc.freeze()
    try:
        return _Day(plan).run()
    finally:
        gc.unfreeze()


class _Day:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.loop = Loop(START)
        self.random = random.Random(plan.seed)  # noqa: S311  # arrivals protect nothing
        self.vendors = Vendors(self.loop, plan.keys, plan.troubles, plan.seed)
        self.secrets = FakeSecretStore()
        self.queue = WorkedQueue(self.loop)
        self.courses = {key.name: Course(key) for key in plan.keys}
        made = in_memory()
        numbers = count(1)
        self._ports = {
            **made,
            "catalogue": load_catalogue(),
            "clock": self.loop,
            "sleep": self.loop.sleep,
            "tokens": _RecordingStore(made["tokens"], self.loop, self.courses),
            "secrets": self.secrets,
            "sealer": FakeSealer(),
            "queue": self.queue,
            "send": self.vendors.send,
            "new_id": lambda: f"id-{next(numbers)}",
        }
        self.idle = [self._instance() for _ in range(INSTANCES)]
        # A renewal needs no memory, so one broker plays all environments of the worker.
        self.worker = self._instance()
        self.queue.broker = lambda: self.worker
        self.caller = Caller.from_event(CALLER)
        self.broken = 0

    def run(self) -> Outcome:
        end = START + timedelta(seconds=self.plan.length_s)
        for key in self.plan.keys:
            self.loop.after(key.starts_s, partial(self._put, key))
            self._plan_call(key, key.calls_from_s)
        if self.plan.sweeps:
            self.loop.after(SWEEP_AFTER_S, self._sweep)
        if self.plan.rotation is not None:
            self._plan_rotation(self.plan.rotation)
        self.loop.run(end)
        return Outcome(
            self.plan,
            list(self.courses.values()),
            self.vendors.exchanges,
            self.vendors.rate_limited,
            self.broken,
            self.queue.dead_letters,
        )

    def _instance(self) -> Broker:
        return make_broker(**self._ports)

    def _put(self, key: Key) -> None:
        self.secrets.put(key.name, key.secret(1))
        self.worker.connections.put(key.name, key.settings, expected=None, absent=True)

    def _sweep(self) -> None:
        self.loop.after(MINUTE_S, self._sweep)
        now = self.loop()
        # One batch at a time: claims take no time here, and their order must be the same in every run.
        sweep(self.worker.context, scheduled_at=now, deadline=now + SWEEP_TIME, threads=1)

    def _plan_rotation(self, rotation: Rotation) -> None:
        step_s = rotation.length_s / len(self.plan.keys)
        for number, key in enumerate(self.plan.keys):
            at_s = rotation.start_s + step_s * number
            self.loop.after(at_s, partial(self._rotate, key))
            self.loop.after(at_s + rotation.event_after_s, partial(self.worker.secret_changed, key.name))

    def _rotate(self, key: Key) -> None:
        self.vendors.rotate(key, 2)
        self.secrets.put(key.name, key.secret(2))

    def _plan_call(self, key: Key, from_s: float = 0) -> None:
        draw = self.random
        every_s = key.every_s
        gap = draw.uniform(STEADY_FROM * every_s, every_s) if key.steady else draw.expovariate(1 / every_s)
        self.loop.after(from_s + gap, partial(self._call, key))

    def _call(self, key: Key) -> None:
        """One caller. An idle instance serves it, or a new one, as in Lambda."""
        self._plan_call(key)
        course = self.courses[key.name]
        began_s = self.loop.seconds
        course.calls += 1
        if not course.is_warm:
            course.called_s.append(began_s)
        if not self.idle:
            self.idle.append(self._instance())
        instance = self.idle.pop(self.random.randrange(len(self.idle)))
        try:
            self._get_token(instance, key)
        except BrokerError as error:
            if course.first_s is None:
                course.failed_before += 1
            else:
                course.failures.append(Failed(began_s, error.code, course.expires_s(began_s)))
            return
        finally:
            self.idle.append(instance)
        ended_s = self.loop.seconds
        if course.first_s is None:
            course.first_s = ended_s
            course.first_wait_s = ended_s - began_s
        elif ended_s > began_s >= course.first_s:
            course.waits.append(Wait(began_s, ended_s - began_s))

    def _get_token(self, instance: Broker, key: Key) -> None:
        request = TokenRequest(self.caller, key.name, self.loop() + REQUEST_TIME, min_ttl=key.min_ttl)
        response = instance.get_token(request)
        now = self.loop()
        if response.token.expires_at <= now or not self.vendors.accepts(key.name, response.access_token):
            self.broken += 1


class _RecordingStore:
    """A token store that records each committed token."""

    def __init__(self, inner: Any, loop: Loop, courses: dict[ConnectionName, Course]) -> None:
        self._inner = inner
        self._loop = loop
        self._courses = courses

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def save(self, before: TokenRecord, after: TokenRecord) -> Any:
        current = self._inner.save(before, after)
        token = after.token
        if current is None and token is not None and token != before.token:
            issued_s, expires_s = ((moment - START).total_seconds() for moment in (token.issued_at, token.expires_at))
            self._courses[after.key.name].tokens.append(Token(issued_s, self._loop.seconds, expires_s))
        return current

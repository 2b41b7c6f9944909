"""Runs operations of several broker instances in any order: each can pause at every call of a port.

An operation that pauses has a thread, and exactly one of them runs. So the machine decides the order, and a run can be
repeated.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any

from tests.fakes import HandClock
from token_broker.core.names import TokenKey
from token_broker.core.records import TokenRecord
from token_broker.ports import StoredSettings


class Killed(BaseException):
    """The process was killed. It does nothing more."""


class Endless(BaseException):
    """An operation made too many calls: it would never end."""


MOST_CALLS = 400


@dataclass
class Trace:
    """What an operation read, leased and sent, and what response it got. A `…_seq` is a place in the order of events.

    `has_data_key`: it can seal a token. `met`: what the provider's server did with its last request. `budget`: its
    unused places in the budgets of hosts. `issued`: the token of that request, `received`: the tokens that it got.
    `dropped`: tokens that it purged, and until when they live.
    """

    read_seq: int = 0
    record: TokenRecord | None = None
    settings: StoredSettings | None = None
    key: TokenKey | None = None
    owner: str | None = None
    lease_seq: int = 0
    lease_until: datetime | None = None
    in_flight: bool = False
    requests: int = 0
    has_data_key: bool = False
    budget: list[tuple[str, datetime]] = field(default_factory=list)
    met: str | None = None
    met_at: datetime | None = None
    secret: str | None = None
    secret_version: str | None = None
    issued: str | None = None
    received: list[str] = field(default_factory=list)
    faulted: bool = False
    dropped: dict[str, datetime] = field(default_factory=dict)


class Operation:
    """One call of one instance. `stops_at`: the port call before which it pauses; None once it has ended.

    `min_ttl_s`, `rejected`: what its caller wants, and which token it reports.
    """

    def __init__(
        self, kind: str, action: Callable[[], Any], now: datetime, min_ttl_s: float | None, rejected: str | None
    ) -> None:
        self.kind = kind
        self.min_ttl_s = min_ttl_s
        self.rejected = rejected
        self.then: Callable[[Any], object] | None = None
        self.trace = Trace()
        self.started_at = now
        self.own_time_s = 0.0
        self.calls = 0
        self.result: Any = None
        self.error: BaseException | None = None
        self.stops_at: str | None = "start"
        self.dead = False
        self.cut = False
        self.hops: int | None = 0
        self._action = action
        self._turn = threading.Semaphore(0)
        self._paused = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._live, daemon=True)

    @property
    def ended(self) -> bool:
        return self.stops_at is None

    def go_on(self, hops: int | None) -> None:
        """For the machine's thread: lets it make `hops` more calls, or (None) run to the end."""
        self.hops = hops
        if self._thread.ident is None:
            self._thread.start()
        self._turn.release()
        self._paused.acquire()
        if self.ended:
            self._thread.join()

    def stop(self, point: str) -> None:
        """For the operation's own thread: pauses unless it may go on."""
        if self.dead:
            raise Killed
        self.calls += 1
        if self.calls > MOST_CALLS:
            raise Endless
        if self.hops is None:
            return
        if self.hops > 0:
            self.hops -= 1
            return
        self.stops_at = point
        self._paused.release()
        self._turn.acquire()
        if self.dead:
            raise Killed

    def run(self) -> None:
        """From its start to its end, in the machine's thread."""
        self.hops = None
        self._act()

    def _live(self) -> None:
        self._turn.acquire()
        self._act()
        self._paused.release()

    def _act(self) -> None:
        try:
            if not self.dead:
                self.result = self._action()
        except BaseException as error:  # noqa: BLE001  # the machine checks every error
            self.error = error
        self.stops_at = None


class Stage:
    """Knows which operation runs, which ones pause, and the order of events."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.running: Operation | None = None
        self.waiting: list[Operation] = []
        self._sequence = count(1)
        self.seq = 0

    def next_seq(self) -> int:
        self.seq = next(self._sequence)
        return self.seq

    def start(
        self,
        kind: str,
        action: Callable[[], Any],
        hops: int | None,
        *,
        min_ttl_s: float | None = None,
        rejected: str | None = None,
    ) -> Operation:
        operation = Operation(kind, action, self.clock(), min_ttl_s, rejected)
        self.waiting.append(operation)
        if hops is None:
            self._run(operation, operation.run)
        else:
            self.go_on(operation, hops)
        return operation

    def go_on(self, operation: Operation, hops: int | None) -> None:
        self._run(operation, partial(operation.go_on, hops))

    def _run(self, operation: Operation, turn: Callable[[], None]) -> None:
        self.running = operation
        turn()
        self.running = None
        if operation.ended:
            self.waiting.remove(operation)

    def kill(self, operation: Operation) -> None:
        operation.dead = True
        self.go_on(operation, None)

    def stop(self, point: str) -> None:
        if self.running is not None:
            self.running.stop(point)

    def sleep(self, seconds: float) -> None:
        until = self.clock().timestamp() + seconds
        if self.running is not None:
            self.running.own_time_s += seconds
        self.stop("sleep")
        self.clock.advance(max(until - self.clock().timestamp(), 0))

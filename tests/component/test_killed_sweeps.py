"""A sweep or a worker is killed at any point. No key is lost, and at most one is renewed twice."""

from __future__ import annotations

import contextlib
from collections import Counter
from datetime import timedelta

import pytest

from tests.fakes import World
from token_broker.core.connections import NetworkOptions
from token_broker.core.names import ConnectionName
from token_broker.core.schedule import SWEEP_INTERVAL
from token_broker.oauth.exchange import HttpRequest, HttpResponse
from token_broker.service import Broker
from token_broker.service.sweep import sweep

KEYS = 25
# A killed sweep's claim: its delay of up to a minute, two intervals, a lease.
MINUTES_UNTIL_ALL_ARE_BACK = 6
PORTS_OF_A_RENEWAL = 8


class Crash(BaseException):
    """The process was killed."""


class Death:
    """Kills the process at its n-th call of a port or of the provider: before the call, or after it."""

    def __init__(self, world: World, at: int, *, after: bool) -> None:
        self.happened = False
        self._world = world
        self._calls_left = at
        self._after = after
        self._working = world.provider.to
        world.faults.every = self._call
        world.provider.to = self._send

    def _is_now(self) -> bool:
        self._calls_left -= 1
        return self._calls_left == 0

    def _call(self, name: str) -> None:
        if self._is_now():
            self.happened = True
            if not self._after:
                raise Crash
            self._world.faults.after(name, self._crash)

    def _send(self, request: HttpRequest, network: NetworkOptions, timeout: timedelta) -> HttpResponse:
        is_now = self._is_now()
        if is_now and not self._after:
            self._crash()
        response = self._working(request, network, timeout)
        if is_now:
            self._crash()
        return response

    def _crash(self) -> None:
        self.happened = True
        raise Crash


@pytest.fixture
def names(world: World) -> list[ConnectionName]:
    """Connections whose tokens are all due for renewal."""
    names = [world.connection(connection=f"shop-{number}") for number in range(KEYS)]
    for name in names:
        world.get_token(world.instance(), name)
    due_at = {record.due_at for name in names if (record := world.record(name))}
    last = max(at for at in due_at if at is not None)
    world.clock.advance((last - world.clock()).total_seconds())
    world.provider.requests.clear()
    return names


def run(world: World, broker: Broker) -> None:
    """One sweep, and the worker on each of its messages. A killed worker leaves its message in the queue."""
    deadline = world.clock() + SWEEP_INTERVAL
    with contextlib.suppress(Crash):
        sweep(broker.context, scheduled_at=world.clock(), deadline=deadline, threads=1)
    for message in sorted(world.queue.take(), key=lambda message: message.delay):
        name = message.name
        try:
            broker.renew(name, message.scope_id)
        except Crash:
            # The message was not deleted. The queue delivers it again after its visibility timeout.
            world.queue.messages.append(message)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "at",
    [*range(1, KEYS + KEYS // 10 + 12), *(60 + step for step in range(PORTS_OF_A_RENEWAL + 2))],
)
def test_a_kill_loses_no_key_and_renews_none_twice(
    world: World, names: list[ConnectionName], at: int, after: bool
) -> None:
    old = {name: token.token_id for name in names if (token := world.record(name).token)}
    death = Death(world, at, after=after)
    for _ in range(MINUTES_UNTIL_ALL_ARE_BACK):
        run(world, world.instance())
        world.clock.advance(SWEEP_INTERVAL.total_seconds())
    assert death.happened
    new = {name: token.token_id for name in names if (token := world.record(name).token)}
    assert [name for name in names if new[name] == old[name]] == []
    # The outcome of the request whose worker was killed is unknown, so it is repeated.
    assert len(world.provider) <= KEYS + 1
    for name in names:
        assert world.get_token(world.instance(), name).source == "table"


def test_ten_thousand_due_keys_are_queued_within_one_sweep(world: World) -> None:
    """Each round trip takes 8 ms, shared by the threads that work at once."""
    threads = 8
    trip_s = 0.008
    keys = 10_000
    broker = world.instance()
    for number in range(keys):
        name = ConnectionName("unidy", f"shop-{number}")
        world.change(name, "users:read", due_at=world.clock() + number * SWEEP_INTERVAL / keys)
    world.faults.every = lambda _name: world.clock.advance(trip_s / threads)
    started = world.clock()
    report = sweep(broker.context, scheduled_at=started, deadline=started + timedelta(seconds=45), threads=1)
    assert (report.due, report.queued, report.deferred) == (keys, keys, 0)
    assert set(Counter((message.name, message.scope_id) for message in world.queue.messages).values()) == {1}
    assert world.clock() - started < timedelta(seconds=15)
    delays = [message.delay for message in world.queue.messages]
    assert max(delays) <= SWEEP_INTERVAL

"""P6: the process is killed at every step between marking a refresh token and its commit. It recovers without help.

A connection of ucommerce is due for renewal. The first instance is killed before or after the n-th call of a port,
counted from the mark. After the lease expired and a sweep ran, another instance has a new token.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from urllib.parse import parse_qs

import pytest

from tests.fakes import World, issuing
from token_broker.core.connections import NetworkOptions
from token_broker.core.names import ConnectionName
from token_broker.core.records import CLOCK_TOLERANCE
from token_broker.oauth.exchange import HttpRequest, HttpResponse
from token_broker.service import Broker
from token_broker.service.sweep import sweep

LEASE = timedelta(seconds=17)
SWEEP_INTERVAL = timedelta(seconds=60)
# Due for every jitter: the window of a 300 s token opens 107 s before it expires, the jitter takes at most 21 s of it,
# and the sweep looks 30 s ahead.
DUE_AFTER_S = 190
# From the write that marks the refresh token to the one that stores the new pair.
STEPS = (
    "tokens.save",
    "secrets.read",
    "sealer.open",
    "sealer.prepare",
    "sealer.prepare",
    "send",
    "tokens.save",
)

CRASHES = [
    pytest.param(step, after, id=f"{'after' if after else 'before'} {number}. {name}")
    for number, (step, name) in enumerate(enumerate(STEPS), 1)
    for after in (False, True)
]
EVERY_STEP = pytest.mark.parametrize(("step", "after"), CRASHES)


class Crash(BaseException):
    """The process was killed."""


class Journey:
    """Records the calls of ports in order, from the one named `first` on. The request to the provider is `send`.

    `dies_at`: the step at which the process is killed, before or after the call. It makes no call after that.
    """

    def __init__(self, world: World, *, first: str = STEPS[0], dies_at: int | None = None, after: bool = False) -> None:
        self.calls: list[str] = []
        self._first = first
        self._world = world
        self._dies_at = dies_at
        self._after = after
        self._working = world.provider.to
        world.faults.every = self._call
        world.provider.to = self._send

    def end(self) -> None:
        """Checks that the killed process made no more calls. From here on nothing is killed."""
        assert self._dies_at is not None
        assert len(self.calls) == self._dies_at + 1
        self._world.faults.every = lambda _name: None
        self._world.provider.to = self._working

    def _call(self, name: str) -> None:
        if self.calls or name == self._first:
            self.calls.append(name)
            if self._is_last():
                if not self._after:
                    raise Crash
                self._world.faults.after(name, _crash)

    def _send(self, request: HttpRequest, network: NetworkOptions, timeout: timedelta) -> HttpResponse:
        self.calls.append("send")
        if self._is_last() and not self._after:
            raise Crash
        response = self._working(request, network, timeout)
        if self._is_last():
            raise Crash
        return response

    def _is_last(self) -> bool:
        return self._dies_at is not None and len(self.calls) == self._dies_at + 1


def _crash() -> None:
    raise Crash


def sweeps(world: World, broker: Broker) -> None:
    """One sweep, and the worker on each of its messages after its delay."""
    sweep(broker.context, scheduled_at=world.clock(), deadline=world.clock() + SWEEP_INTERVAL, threads=1)
    for message in sorted(world.queue.take(), key=lambda message: message.delay):
        world.clock.advance(message.delay.total_seconds())
        broker.renew(message.name, message.scope_id)


def sent(world: World) -> list[str]:
    """The refresh tokens that were sent, in order."""
    forms = [parse_qs(body) for body in world.provider.bodies()]
    return [form["refresh_token"][0] for form in forms if "refresh_token" in form]


@pytest.fixture
def store(world: World, broker: Broker) -> ConnectionName:
    """A connection whose token is due. It has a refresh token."""
    world.provider.to = issuing(refresh_token="refresh-{n}", expires_in=300)
    name = world.connection("ucommerce")
    world.get_token(broker, name)
    world.clock.advance(DUE_AFTER_S)
    return name


def renew(world: World, broker: Broker, name: ConnectionName) -> None:
    world.renew(broker, name)


def get(world: World, broker: Broker, name: ConnectionName) -> None:
    """A caller comes when the token has expired."""
    world.clock.advance(300 - DUE_AFTER_S)
    world.get_token(broker, name)


def is_renewed(world: World, name: ConnectionName) -> bool:
    """Whether the stored pair is new and its refresh token was not sent."""
    record = world.record(name)
    is_new = record.token is not None and record.token.renew_at > world.clock()
    return is_new and record.refresh_token is not None and not record.refresh_token.sent


Entry = Callable[[World, Broker, ConnectionName], None]
ENTRIES: tuple[Entry, ...] = (renew, get)


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_steps_are_these(world: World, broker: Broker, store: ConnectionName, entry: Entry) -> None:
    """The tests below go through all of them. A new call has to be added to STEPS."""
    journey = Journey(world)
    entry(world, broker, store)
    assert tuple(journey.calls[: len(STEPS)]) == STEPS
    assert "tokens.save" not in journey.calls[len(STEPS) :]


@EVERY_STEP
@pytest.mark.parametrize("entry", ENTRIES)
def test_a_connection_recovers_from_a_crash(
    world: World, broker: Broker, store: ConnectionName, step: int, after: bool, entry: Entry
) -> None:
    journey = Journey(world, dies_at=step, after=after)
    before = len(world.provider)
    with pytest.raises(Crash):
        entry(world, broker, store)
    journey.end()
    survivor = world.instance()
    world.clock.advance((LEASE + CLOCK_TOLERANCE).total_seconds())
    response = world.get_token(survivor, store)
    assert response.token.alive(world.clock())
    sweeps(world, survivor)
    assert is_renewed(world, store)
    assert len(sent(world)) == len(set(sent(world)))
    # The request of the killed process, the renewal, and no more.
    assert len(world.provider) - before <= 2

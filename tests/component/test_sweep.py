"""The sweep: each minute it claims the due keys and queues them, spread over the minute."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

from tests.fakes import World, answering
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.service import Broker
from token_broker.service.renew import RenewalOutcome
from token_broker.service.sweep import SweepReport, sweep

NAME = ConnectionName("oauth2", "many")
INTERVAL = timedelta(seconds=60)


def due_in(world: World, *seconds: float) -> None:
    """Makes keys that are due in so many seconds."""
    for number, wait in enumerate(seconds):
        world.change(NAME, f"scope-{number}", due_at=world.clock() + timedelta(seconds=wait))


def run(world: World, broker: Broker, *, time: float = 50) -> SweepReport:
    now = world.clock()
    return sweep(broker.context, scheduled_at=now, deadline=now + timedelta(seconds=time), threads=1)


def delays(world: World) -> dict[str, float]:
    """The delay in seconds of each queued message, by scope."""
    scopes = {record.key.scope_id: record.key.scope for record in world.tokens.items(NAME).records}
    return {scopes[message.scope_id or ""]: message.delay.total_seconds() for message in world.queue.messages}


def test_without_due_keys_nothing_is_queued(world: World, broker: Broker) -> None:
    due_in(world, 121)
    assert run(world, broker) == SweepReport(due=0, queued=0, claimed_elsewhere=0, deferred=0)
    assert world.queue.messages == []


def test_keys_due_within_two_intervals_are_queued_for_their_time(world: World, broker: Broker) -> None:
    due_in(world, 5, 60, 120, 121)
    assert run(world, broker) == SweepReport(due=3, queued=3, claimed_elsewhere=0, deferred=0)
    assert delays(world) == {"scope-0": 5, "scope-1": 60, "scope-2": 120}


def test_overdue_keys_are_spread_over_the_minute_in_order(world: World, broker: Broker) -> None:
    due_in(world, *[-600 + number for number in range(30)])
    run(world, broker)
    found = delays(world)
    ordered = [found[f"scope-{number}"] for number in range(30)]
    assert ordered == sorted(ordered)
    assert ordered[0] == 0
    assert 50 <= ordered[-1] < 60
    assert max(later - earlier for earlier, later in pairwise(ordered)) <= 2.1


def test_each_key_is_claimed_once(world: World, broker: Broker) -> None:
    """EventBridge delivers at least once: the second sweep of a minute finds nothing."""
    due_in(world, 1, 2, 3)
    assert run(world, broker).queued == 3
    assert run(world, broker).queued == 0
    assert len(world.queue.messages) == 3


def test_a_key_that_another_sweep_claims_is_left_to_it(world: World, broker: Broker) -> None:
    due_in(world, -1)
    world.faults.before("due_index.claim", lambda: (world.clock.advance(0.01), run(world, world.instance())))
    assert run(world, broker) == SweepReport(due=1, queued=0, claimed_elsewhere=1, deferred=0)
    assert len(world.queue.messages) == 1


def test_a_key_whose_message_is_lost_is_due_again(world: World, broker: Broker) -> None:
    due_in(world, 1)
    run(world, broker)
    world.queue.take()
    for _ in range(4):
        world.clock.advance(60)
        run(world, broker)
    assert len(world.queue.take()) >= 1


def test_messages_are_queued_in_batches_of_ten(world: World, broker: Broker) -> None:
    due_in(world, *[1.0] * 25)
    run(world, broker)
    assert sorted(world.queue.batches) == [5, 10, 10]


def test_a_sweep_stops_before_its_deadline_and_reports_the_deferred_keys(world: World, broker: Broker) -> None:
    due_in(world, *[number / 100 for number in range(40)])
    world.faults.every = lambda name: world.clock.advance(1) if name == "due_index.claim" else None
    report = run(world, broker, time=20)
    assert (report.due, report.queued, report.deferred) == (40, 20, 20)
    assert set(delays(world)) == {f"scope-{number}" for number in range(20)}
    world.faults.every = lambda _name: None
    run(world, broker)
    assert set(delays(world)) == {f"scope-{number}" for number in range(40)}


def test_messages_that_the_queue_does_not_accept_are_left_to_the_next_sweep(world: World, broker: Broker) -> None:
    """A token of five minutes would expire before the claim ends."""
    due_in(world, 1, 2, 3)
    world.queue.unaccepted = 2
    report = run(world, broker)
    assert (report.due, report.queued, report.deferred) == (3, 1, 2)
    assert set(delays(world)) == {"scope-2"}
    world.clock.advance(60)
    run(world, broker)
    found = delays(world)
    assert max(found["scope-0"], found["scope-1"]) <= 60


def test_a_message_holds_a_key_and_nothing_else(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.clock.advance(3000)
    run(world, broker)
    (message,) = world.queue.take()
    assert (message.name, message.scope_id) == (name, TokenKey(name, "").scope_id)
    assert "tok-1" not in repr(message)


def test_sweep_and_worker_renew_a_key_in_time(world: World, broker: Broker, name: ConnectionName) -> None:
    """There is a sweep every minute. The worker handles each message after its delay."""
    token = world.get_token(broker, name).token
    renewed_at = None
    while renewed_at is None:
        run(world, broker)
        minute_ends_at = world.clock() + INTERVAL
        for message in world.queue.take():
            world.clock.advance(to=world.clock() + message.delay)
            if broker.renew(name, message.scope_id).outcome is RenewalOutcome.RENEWED:
                renewed_at = world.clock()
        world.clock.advance(to=minute_ends_at)
    assert token.renew_at <= renewed_at < token.expires_at


def test_a_failed_key_is_swept_again_after_its_cooldown(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.provider.to = answering(503)
    world.clock.advance(3000)
    for _ in range(10):
        run(world, broker)
        for message in world.queue.take():
            broker.renew(name, message.scope_id)
        world.clock.advance(60)
    assert 2 <= len(world.provider) <= 10

"""Asking the provider: one issuer at a time (P1), budgets and limits (P4), reports of refused tokens (P5)."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import pairwise

import pytest

from tests.fakes import Simulation, World, answering, calling_back, issuing, slow
from tests.fakes.simulation import Actor
from token_broker.core.names import ConnectionName, TokenKey, fingerprint
from token_broker.errors import (
    AcquisitionInProgress,
    BrokerUnavailable,
    ProviderRateLimited,
    TooManyRejections,
)
from token_broker.service import Broker, TokenResponse

LEASE = timedelta(seconds=17)


def other_takes_lease(world: World, name: ConnectionName, owner: str = "other") -> None:
    now = world.clock()
    taken, _ = world.tokens.take_lease(world.record(name), owner, now=now, until=now + LEASE, mark_refresh=False)
    assert taken


def first_token(world: World, broker: Broker, name: ConnectionName) -> str:
    """A token that was handed out a second ago; its token_id."""
    token_id = world.ask(broker, name).token.token_id
    world.clock.advance(1)
    return token_id


def results(actors: list[Actor]) -> list[TokenResponse]:
    assert [actor.error for actor in actors if actor.error is not None] == []
    return [actor.result for actor in actors]


def test_p1_a_burst_on_a_cold_key_makes_one_request(world: World, name: ConnectionName) -> None:
    """200 callers over 8 environments, a provider that takes 3 s, and a turn-over at every call of a port."""
    simulation = Simulation(world.clock)
    world.provider.to = slow(simulation.sleep, 3, issuing())
    world.faults.every = lambda _name: simulation.sleep(0.005)
    instances = [world.instance(sleep=simulation.sleep) for _ in range(8)]
    actors = [
        simulation.start(partial(world.ask, instances[number % 8], name), after=number / 1000) for number in range(200)
    ]
    simulation.run()
    assert {given.access_token for given in results(actors)} == {"tok-1"}
    assert len(world.provider) == 1
    assert max(actor.waited() for actor in actors) <= timedelta(seconds=4.5)


def test_p1_a_burst_after_a_dead_holder_makes_one_request(world: World, name: ConnectionName) -> None:
    other_takes_lease(world, name, "dead")
    world.clock.advance(15)
    simulation = Simulation(world.clock)
    world.provider.to = slow(simulation.sleep, 1, issuing())
    instances = [world.instance(sleep=simulation.sleep) for _ in range(4)]
    actors = [simulation.start(partial(world.ask, instances[number % 4], name)) for number in range(20)]
    simulation.run()
    assert {given.access_token for given in results(actors)} == {"tok-1"}
    assert len(world.provider) == 1


def test_p1_a_burst_of_reports_makes_one_request(world: World, broker: Broker, name: ConnectionName) -> None:
    rejected = first_token(world, broker, name)
    simulation = Simulation(world.clock)
    world.provider.to = slow(simulation.sleep, 2, issuing("new-{n}"))
    instances = [world.instance(sleep=simulation.sleep) for _ in range(4)]
    actors = [
        simulation.start(partial(world.ask, instances[number % 4], name, rejected=rejected)) for number in range(20)
    ]
    simulation.run()
    assert {given.access_token for given in results(actors)} == {"new-1"}


def test_a_waiter_gets_what_the_holder_commits(world: World, broker: Broker, name: ConnectionName) -> None:
    other_takes_lease(world, name)
    waiting = world.instance()
    world.clock.at(2, lambda: world.tokens.end_lease(TokenKey(name, ""), "other"))
    world.clock.at(2, lambda: world.ask(broker, name))
    given = world.ask(waiting, name)
    assert (given.source, given.access_token) == ("table", "tok-1")
    assert len(world.provider) == 1


def test_p11_a_waiter_gives_up_after_ten_seconds(world: World, broker: Broker, name: ConnectionName) -> None:
    other_takes_lease(world, name)
    started_at = world.clock()
    with pytest.raises(AcquisitionInProgress) as caught:
        world.ask(broker, name)
    assert caught.value.retry_after == timedelta(seconds=2)
    assert timedelta(seconds=9) < world.clock() - started_at <= timedelta(seconds=10)
    assert len(world.provider) == 0


def test_p11_a_waiter_gives_up_before_its_own_deadline(world: World, broker: Broker, name: ConnectionName) -> None:
    other_takes_lease(world, name)
    deadline = world.clock() + timedelta(seconds=3)
    with pytest.raises(AcquisitionInProgress):
        world.ask(broker, name, within=timedelta(seconds=3))
    assert world.clock() <= deadline


def test_p11_nobody_begins_what_he_cannot_finish(world: World, broker: Broker, name: ConnectionName) -> None:
    with pytest.raises(AcquisitionInProgress):
        world.ask(broker, name, within=timedelta(seconds=11))
    assert len(world.provider) == 0


def test_p3_a_renewal_under_way_keeps_nobody_waiting(world: World, broker: Broker, name: ConnectionName) -> None:
    world.ask(broker, name)
    world.clock.advance(3000)
    other_takes_lease(world, name)
    started_at = world.clock()
    assert world.ask(broker, name).access_token == "tok-1"
    assert world.clock() == started_at


def test_a_waiter_for_a_longer_token_gets_the_short_one_in_the_end(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.ask(broker, name)
    world.clock.advance(3000)
    other_takes_lease(world, name)
    given = world.ask(broker, name, min_ttl=1200)
    assert (given.access_token, given.warnings) == ("tok-1", ("min_ttl_unmet",))


def test_p1_a_dead_holder_is_replaced(world: World, broker: Broker, name: ConnectionName) -> None:
    other_takes_lease(world, name, "dead")
    world.clock.advance(17.999)
    with pytest.raises(AcquisitionInProgress):
        world.ask(broker, name, within=timedelta(seconds=0))
    world.clock.advance(0.002)
    assert world.ask(broker, name).access_token == "tok-1"


def test_p1_a_dead_holder_is_replaced_at_the_very_moment(world: World, broker: Broker, name: ConnectionName) -> None:
    other_takes_lease(world, name, "dead")
    world.clock.advance(18)
    assert world.ask(broker, name).access_token == "tok-1"


def test_p1_a_late_answer_never_overwrites_and_its_token_is_revoked(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """The holder stalls for 30 s after the provider answered; another takes over meanwhile."""

    def stall() -> None:
        world.clock.advance(30)
        world.provider.to = issuing("other-{n}")
        world.ask(world.instance(), name)

    world.provider.to = calling_back(stall, issuing("late-{n}"))
    given = world.ask(broker, name)
    assert given.access_token == "other-1"
    record = world.record(name)
    assert record.token is not None
    assert record.token.token_id == fingerprint("other-1")
    assert "token=late-1" in world.revoker.bodies()[0]
    assert len(world.provider) == 2


def test_p1_a_late_answer_with_the_token_that_stands_is_not_revoked(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """The provider reissues: both holders got the same token."""

    def stall() -> None:
        world.clock.advance(30)
        world.ask(world.instance(), name)

    world.provider.to = calling_back(stall, issuing("same"))
    assert world.ask(broker, name).access_token == "same"
    assert len(world.revoker) == 0


def test_a_late_token_that_cannot_be_revoked_now_is_left_to_the_worker(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.revoker.to = answering(503)

    def stall() -> None:
        world.clock.advance(30)
        world.ask(world.instance(), name)

    world.provider.to = calling_back(stall, issuing())
    world.ask(broker, name)
    record = world.record(name)
    assert [(item.token_id, item.revoke) for item in record.retired] == [(fingerprint("tok-1"), True)]
    assert record.due_at is not None
    assert record.due_at <= world.clock() + timedelta(minutes=2)


def test_a_lease_write_that_was_sent_twice_is_ours(world: World, broker: Broker, name: ConnectionName) -> None:
    world.faults.send_twice("tokens.take_lease")
    assert world.ask(broker, name).access_token == "tok-1"


def test_a_commit_that_was_sent_twice_is_ours(world: World, broker: Broker, name: ConnectionName) -> None:
    world.faults.send_twice("tokens.commit")
    assert world.ask(broker, name).access_token == "tok-1"
    assert len(world.revoker) == 0


def test_a_commit_whose_answer_is_lost_is_found_by_the_next_caller(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.faults.lose_answer("tokens.commit")
    with pytest.raises(BrokerUnavailable):
        world.ask(broker, name)
    given = world.ask(broker, name)
    assert (given.source, given.access_token) == ("table", "tok-1")
    world.clock.advance(901)
    world.ask(broker, name)
    assert world.record(name).due_at == given.token.renew_at


@pytest.mark.parametrize("call", ["tokens.take_lease", "vault.read", "sealer.seal", "tokens.commit"])
def test_when_a_service_of_ours_fails_the_lease_does_not_stay(
    world: World, broker: Broker, name: ConnectionName, call: str
) -> None:
    world.faults.fail(call)
    with pytest.raises(BrokerUnavailable):
        world.ask(broker, name)
    assert world.record(name).lease is None
    started_at = world.clock()
    world.ask(broker, name)
    assert world.clock() == started_at


def test_one_acquisition_takes_twelve_seconds_over_all_its_steps(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """The secret's reading counts: the lease runs from before it."""
    world.faults.before("vault.read", lambda: world.clock.advance(8))
    world.ask(broker, name)
    assert world.provider.timeouts == [timedelta(seconds=4)]


def test_one_exchange_takes_eight_seconds_and_both_steps_twelve(world: World, broker: Broker) -> None:
    name = world.connection("ucommerce")
    world.connect.to = slow(world.clock.sleep, 7, world.connect.to)
    world.ask(broker, name)
    assert (world.connect.timeouts, world.provider.timeouts) == ([timedelta(seconds=8)], [timedelta(seconds=5)])


def commerce_layer(world: World, number: int = 0) -> ConnectionName:
    return world.connection("commerce-layer", f"market-{number}", scope="market:id:1")


def test_p4_half_of_a_published_limit_is_used_in_a_minute(world: World, broker: Broker) -> None:
    names = [commerce_layer(world, number) for number in range(16)]
    for name in names[:15]:
        world.ask(broker, name)
    world.clock.advance(20)
    with pytest.raises(ProviderRateLimited) as caught:
        world.ask(broker, names[15])
    assert caught.value.retry_after == timedelta(seconds=40)
    assert len(world.provider) == 15
    assert world.record(names[15], "market:id:1").failures() == ()
    world.clock.advance(40)
    assert world.ask(broker, names[15]).access_token == "tok-16"


def test_p4_renewals_leave_a_third_of_the_budget_to_callers(world: World, broker: Broker) -> None:
    names = [commerce_layer(world, number) for number in range(16)]
    for name in names[:15]:
        world.ask(broker, name)
    world.clock.advance(3420)
    outcomes = [world.renew(broker, name, "market:id:1").outcome.value for name in names[:15]]
    assert outcomes == ["renewed"] * 10 + ["failed"] * 5
    assert world.ask(broker, names[15]).source == "provider"


def test_the_token_stays_while_the_budget_is_used_up(world: World, broker: Broker) -> None:
    names = [commerce_layer(world, number) for number in range(15)]
    for name in names:
        world.ask(broker, name)
    world.clock.advance(1)
    given = world.ask(broker, names[0], rejected="0" * 16)
    assert given.access_token == "tok-1"
    with pytest.raises(ProviderRateLimited):
        world.ask(broker, names[0], rejected=given.token.token_id)


def test_p5_a_report_of_another_token_makes_no_request(world: World, broker: Broker, name: ConnectionName) -> None:
    world.ask(broker, name)
    for instance in (broker, world.instance()):
        assert world.ask(instance, name, rejected="0" * 16).access_token == "tok-1"
    assert len(world.provider) == 1


def test_p5_a_reported_token_is_replaced_once(world: World, broker: Broker, name: ConnectionName) -> None:
    rejected = first_token(world, broker, name)
    assert world.ask(broker, name, rejected=rejected).access_token == "tok-2"
    assert world.ask(world.instance(), name, rejected=rejected).access_token == "tok-2"
    assert len(world.provider) == 2


def test_p5_reports_are_followed_at_a_falling_rate(world: World, broker: Broker, name: ConnectionName) -> None:
    """30 s doubling to 15 min: in an hour of steady reports no more than eight requests."""
    world.provider.to = issuing(expires_in=36_000)
    current = first_token(world, broker, name)
    moments = []
    started_at = world.clock()
    for _ in range(360):
        with suppress(TooManyRejections):
            current = world.ask(broker, name, rejected=current).token.token_id
            moments.append(round((world.clock() - started_at).total_seconds()))
        world.clock.advance(10)
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert moments[0] == 0
    assert gaps == [30, 60, 120, 240, 480, 900, 900]


def test_p5_a_report_takes_the_token_from_nobody_else(world: World, broker: Broker, name: ConnectionName) -> None:
    rejected = first_token(world, broker, name)
    world.provider.to = answering(503)
    with pytest.raises(Exception, match="failed on its side"):
        world.ask(broker, name, rejected=rejected)
    assert world.ask(broker, name).access_token == "tok-1"


def test_p5_who_reports_again_too_soon_is_told_when(world: World, broker: Broker, name: ConnectionName) -> None:
    first = first_token(world, broker, name)
    second = world.ask(broker, name, rejected=first).token.token_id
    world.clock.advance(1)
    with pytest.raises(TooManyRejections) as caught:
        world.ask(broker, name, rejected=second)
    assert caught.value.retry_after == timedelta(seconds=29)
    assert world.ask(broker, name).access_token == "tok-2"


def test_p5_a_failed_request_counts_as_one(world: World, broker: Broker, name: ConnectionName) -> None:
    rejected = first_token(world, broker, name)
    world.provider.to = answering(503)
    for _ in range(60):
        with pytest.raises(Exception, match=r".*"):
            world.ask(broker, name, rejected=rejected)
        world.clock.advance(1)
    assert len(world.provider) <= 3


def test_p5_the_rate_is_reset_by_a_token_that_reached_its_renewal(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    first = first_token(world, broker, name)
    second = world.ask(broker, name, rejected=first).token
    assert world.record(name).rejections == 1
    world.clock.advance(to=second.renew_at)
    world.renew(broker, name)
    assert world.record(name).rejections == 0


def test_p5_the_rate_is_not_reset_by_asking_for_a_longer_token(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    first = first_token(world, broker, name)
    world.ask(broker, name, rejected=first)
    world.clock.advance(60)
    world.ask(broker, name, min_ttl=3600)
    assert world.record(name).rejections == 1


def test_the_same_token_again_is_told(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = issuing("same")
    rejected = first_token(world, broker, name)
    given = world.ask(broker, name, rejected=rejected)
    assert (given.access_token, given.warnings) == ("same", ("same_token_reissued",))
    assert len(world.provider) == 2

"""Asking the provider: one at a time (P1), budgets and rate limits (P4), reports of rejected tokens (P5)."""

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
    ProviderUnavailable,
    TooManyRejections,
)
from token_broker.service import Broker, TokenResponse

LEASE = timedelta(seconds=17)


def other_takes_lease(world: World, name: ConnectionName, owner: str = "other") -> None:
    now = world.clock()
    taken, _ = world.tokens.take_lease(world.record(name), owner, now=now, until=now + LEASE, mark_refresh=False)
    assert taken


def first_token(world: World, broker: Broker, name: ConnectionName) -> str:
    """The token_id of a token that was returned a second ago."""
    token_id = world.get_token(broker, name).token.token_id
    world.clock.advance(1)
    return token_id


def results(actors: list[Actor]) -> list[TokenResponse]:
    assert [actor.error for actor in actors if actor.error is not None] == []
    return [actor.result for actor in actors]


def test_p1_a_burst_on_a_cold_key_makes_one_request(world: World, name: ConnectionName) -> None:
    """200 callers over 8 environments, a provider that takes 3 s, and a switch of callers at every call of a port."""
    simulation = Simulation(world.clock)
    world.provider.to = slow(simulation.sleep, 3, issuing())
    world.faults.every = lambda _name: simulation.sleep(0.005)
    instances = [world.instance(sleep=simulation.sleep) for _ in range(8)]
    actors = [
        simulation.start(partial(world.get_token, instances[number % 8], name), after=number / 1000)
        for number in range(200)
    ]
    simulation.run()
    assert {response.access_token for response in results(actors)} == {"tok-1"}
    assert len(world.provider) == 1
    assert max(actor.waited() for actor in actors) <= timedelta(seconds=4.5)


def test_p1_a_burst_after_a_dead_holder_makes_one_request(world: World, name: ConnectionName) -> None:
    other_takes_lease(world, name, "dead")
    world.clock.advance(15)
    simulation = Simulation(world.clock)
    world.provider.to = slow(simulation.sleep, 1, issuing())
    instances = [world.instance(sleep=simulation.sleep) for _ in range(4)]
    actors = [simulation.start(partial(world.get_token, instances[number % 4], name)) for number in range(20)]
    simulation.run()
    assert {response.access_token for response in results(actors)} == {"tok-1"}
    assert len(world.provider) == 1


def test_p1_a_burst_of_reports_makes_one_request(world: World, broker: Broker, name: ConnectionName) -> None:
    rejected = first_token(world, broker, name)
    simulation = Simulation(world.clock)
    world.provider.to = slow(simulation.sleep, 2, issuing("new-{n}"))
    instances = [world.instance(sleep=simulation.sleep) for _ in range(4)]
    actors = [
        simulation.start(partial(world.get_token, instances[number % 4], name, rejected=rejected))
        for number in range(20)
    ]
    simulation.run()
    assert {response.access_token for response in results(actors)} == {"new-1"}


def test_a_waiting_caller_gets_the_token_that_the_holder_commits(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    other_takes_lease(world, name)
    waiting = world.instance()
    world.clock.at(2, lambda: world.tokens.end_lease(TokenKey(name, ""), "other"))
    world.clock.at(2, lambda: world.get_token(broker, name))
    response = world.get_token(waiting, name)
    assert (response.source, response.access_token) == ("table", "tok-1")
    assert len(world.provider) == 1


def test_p11_a_waiting_caller_gives_up_after_ten_seconds(world: World, broker: Broker, name: ConnectionName) -> None:
    other_takes_lease(world, name)
    started_at = world.clock()
    with pytest.raises(AcquisitionInProgress) as caught:
        world.get_token(broker, name)
    assert caught.value.retry_after == timedelta(seconds=2)
    assert timedelta(seconds=9) < world.clock() - started_at <= timedelta(seconds=10)
    assert len(world.provider) == 0


def test_p11_a_waiting_caller_gives_up_before_its_deadline(world: World, broker: Broker, name: ConnectionName) -> None:
    other_takes_lease(world, name)
    deadline = world.clock() + timedelta(seconds=3)
    with pytest.raises(AcquisitionInProgress):
        world.get_token(broker, name, within=timedelta(seconds=3))
    assert world.clock() <= deadline


def test_p11_an_acquisition_without_enough_time_does_not_begin(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    with pytest.raises(AcquisitionInProgress):
        world.get_token(broker, name, within=timedelta(seconds=11))
    assert len(world.provider) == 0


def test_p3_nobody_waits_for_a_running_renewal(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.clock.advance(3000)
    other_takes_lease(world, name)
    started_at = world.clock()
    assert world.get_token(broker, name).access_token == "tok-1"
    assert world.clock() == started_at


def test_a_caller_who_waits_for_a_longer_token_gets_the_short_one_in_the_end(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.get_token(broker, name)
    world.clock.advance(3000)
    other_takes_lease(world, name)
    response = world.get_token(broker, name, min_ttl=1200)
    assert (response.access_token, response.warnings) == ("tok-1", ("min_ttl_unmet",))


def test_p1_a_dead_holder_is_replaced(world: World, broker: Broker, name: ConnectionName) -> None:
    other_takes_lease(world, name, "dead")
    world.clock.advance(17.999)
    with pytest.raises(AcquisitionInProgress):
        world.get_token(broker, name, within=timedelta(seconds=0))
    world.clock.advance(0.002)
    assert world.get_token(broker, name).access_token == "tok-1"


def test_p1_a_dead_holder_is_replaced_at_the_exact_moment(world: World, broker: Broker, name: ConnectionName) -> None:
    other_takes_lease(world, name, "dead")
    world.clock.advance(18)
    assert world.get_token(broker, name).access_token == "tok-1"


def test_p1_a_late_response_never_overwrites_and_its_token_is_revoked(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """The holder stalls for 30 s after the provider responded. Another one takes over meanwhile."""

    def stall() -> None:
        world.clock.advance(30)
        world.provider.to = issuing("other-{n}")
        world.get_token(world.instance(), name)

    world.provider.to = calling_back(stall, issuing("late-{n}"))
    response = world.get_token(broker, name)
    assert response.access_token == "other-1"
    record = world.record(name)
    assert record.token is not None
    assert record.token.token_id == fingerprint("other-1")
    assert "token=late-1" in world.revoker.bodies()[0]
    assert len(world.provider) == 2


def test_p1_a_late_response_with_the_stored_token_is_not_revoked(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """The provider issued the same token to both holders."""

    def stall() -> None:
        world.clock.advance(30)
        world.get_token(world.instance(), name)

    world.provider.to = calling_back(stall, issuing("same"))
    assert world.get_token(broker, name).access_token == "same"
    assert len(world.revoker) == 0


def test_a_late_token_that_cannot_be_revoked_yet_is_left_to_the_worker(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.revoker.to = answering(503)

    def stall() -> None:
        world.clock.advance(30)
        world.get_token(world.instance(), name)

    world.provider.to = calling_back(stall, issuing())
    world.get_token(broker, name)
    record = world.record(name)
    assert [(item.token_id, item.revoke) for item in record.retired] == [(fingerprint("tok-1"), True)]
    assert record.due_at is not None
    assert record.due_at <= world.clock() + timedelta(minutes=2)


def test_a_repeated_lease_write_succeeds(world: World, broker: Broker, name: ConnectionName) -> None:
    world.faults.send_twice("tokens.take_lease")
    assert world.get_token(broker, name).access_token == "tok-1"


def test_a_repeated_commit_succeeds(world: World, broker: Broker, name: ConnectionName) -> None:
    world.faults.send_twice("tokens.commit")
    assert world.get_token(broker, name).access_token == "tok-1"
    assert len(world.revoker) == 0


def test_a_commit_whose_response_is_lost_is_found_by_the_next_caller(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.faults.lose_response("tokens.commit")
    with pytest.raises(BrokerUnavailable):
        world.get_token(broker, name)
    response = world.get_token(broker, name)
    assert (response.source, response.access_token) == ("table", "tok-1")
    world.clock.advance(901)
    world.get_token(broker, name)
    assert world.record(name).due_at == response.token.renew_at


@pytest.mark.parametrize("call", ["tokens.take_lease", "secrets.read", "sealer.seal", "tokens.commit"])
def test_if_a_service_of_ours_fails_the_lease_ends(
    world: World, broker: Broker, name: ConnectionName, call: str
) -> None:
    world.faults.fail(call)
    with pytest.raises(BrokerUnavailable):
        world.get_token(broker, name)
    assert world.record(name).lease is None
    started_at = world.clock()
    world.get_token(broker, name)
    assert world.clock() == started_at


def test_one_acquisition_takes_twelve_seconds_over_all_its_steps(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """The time to read the secret counts, because the lease was taken before."""
    world.faults.before("secrets.read", lambda: world.clock.advance(8))
    world.get_token(broker, name)
    assert world.provider.timeouts == [timedelta(seconds=4)]


def test_one_exchange_takes_eight_seconds_and_both_steps_twelve(world: World, broker: Broker) -> None:
    name = world.connection("ucommerce")
    world.connect.to = slow(world.clock.sleep, 7, world.connect.to)
    world.get_token(broker, name)
    assert (world.connect.timeouts, world.provider.timeouts) == ([timedelta(seconds=8)], [timedelta(seconds=5)])


def commerce_layer(world: World, number: int = 0) -> ConnectionName:
    return world.connection("commerce-layer", f"market-{number}", scope="market:id:1")


def test_p4_at_most_half_of_a_published_limit_is_used_in_a_minute(world: World, broker: Broker) -> None:
    names = [commerce_layer(world, number) for number in range(16)]
    for name in names[:15]:
        world.get_token(broker, name)
    world.clock.advance(20)
    with pytest.raises(ProviderRateLimited) as caught:
        world.get_token(broker, names[15])
    assert caught.value.retry_after == timedelta(seconds=40)
    assert len(world.provider) == 15
    assert world.record(names[15], "market:id:1").failures() == ()
    world.clock.advance(40)
    assert world.get_token(broker, names[15]).access_token == "tok-16"


def test_p4_renewals_leave_a_third_of_the_budget_to_callers(world: World, broker: Broker) -> None:
    names = [commerce_layer(world, number) for number in range(16)]
    for name in names[:15]:
        world.get_token(broker, name)
    world.clock.advance(3420)
    outcomes = [world.renew(broker, name, "market:id:1").outcome.value for name in names[:15]]
    assert outcomes == ["renewed"] * 10 + ["failed"] * 5
    assert world.get_token(broker, names[15]).source == "provider"


def test_a_valid_token_is_served_while_the_budget_is_used_up(world: World, broker: Broker) -> None:
    names = [commerce_layer(world, number) for number in range(15)]
    for name in names:
        world.get_token(broker, name)
    world.clock.advance(1)
    response = world.get_token(broker, names[0], rejected="0" * 16)
    assert response.access_token == "tok-1"
    with pytest.raises(ProviderRateLimited):
        world.get_token(broker, names[0], rejected=response.token.token_id)


def test_p5_a_report_of_another_token_makes_no_request(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    for instance in (broker, world.instance()):
        assert world.get_token(instance, name, rejected="0" * 16).access_token == "tok-1"
    assert len(world.provider) == 1


def test_p5_a_reported_token_is_replaced_once(world: World, broker: Broker, name: ConnectionName) -> None:
    rejected = first_token(world, broker, name)
    assert world.get_token(broker, name, rejected=rejected).access_token == "tok-2"
    assert world.get_token(world.instance(), name, rejected=rejected).access_token == "tok-2"
    assert len(world.provider) == 2


def test_p5_steady_reports_cause_fewer_and_fewer_requests(world: World, broker: Broker, name: ConnectionName) -> None:
    """30 s doubling to 15 min: in an hour of steady reports no more than eight requests."""
    world.provider.to = issuing(expires_in=36_000)
    current = first_token(world, broker, name)
    moments = []
    started_at = world.clock()
    for _ in range(360):
        with suppress(TooManyRejections):
            current = world.get_token(broker, name, rejected=current).token.token_id
            moments.append(round((world.clock() - started_at).total_seconds()))
        world.clock.advance(10)
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert moments[0] == 0
    assert gaps == [30, 60, 120, 240, 480, 900, 900]


def test_p5_a_reported_token_is_still_served_to_others(world: World, broker: Broker, name: ConnectionName) -> None:
    rejected = first_token(world, broker, name)
    world.provider.to = answering(503)
    with pytest.raises(ProviderUnavailable):
        world.get_token(broker, name, rejected=rejected)
    assert world.get_token(broker, name).access_token == "tok-1"


def test_p5_a_report_too_soon_gets_retry_after(world: World, broker: Broker, name: ConnectionName) -> None:
    first = first_token(world, broker, name)
    second = world.get_token(broker, name, rejected=first).token.token_id
    world.clock.advance(1)
    with pytest.raises(TooManyRejections) as caught:
        world.get_token(broker, name, rejected=second)
    assert caught.value.retry_after == timedelta(seconds=29)
    assert world.get_token(broker, name).access_token == "tok-2"


def test_p5_a_failed_request_counts(world: World, broker: Broker, name: ConnectionName) -> None:
    rejected = first_token(world, broker, name)
    world.provider.to = answering(503)
    for _ in range(60):
        with pytest.raises((ProviderUnavailable, TooManyRejections)):
            world.get_token(broker, name, rejected=rejected)
        world.clock.advance(1)
    assert len(world.provider) <= 3


def test_p5_the_count_of_reports_ends_with_a_token_that_lasted_until_its_renewal(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    first = first_token(world, broker, name)
    second = world.get_token(broker, name, rejected=first).token
    assert world.record(name).rejections == 1
    world.clock.advance(to=second.renew_at)
    world.renew(broker, name)
    assert world.record(name).rejections == 0


def test_p5_the_count_of_reports_does_not_end_with_a_request_for_a_longer_token(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    first = first_token(world, broker, name)
    world.get_token(broker, name, rejected=first)
    world.clock.advance(60)
    world.get_token(broker, name, min_ttl=3600)
    assert world.record(name).rejections == 1


def test_a_token_that_is_issued_again_comes_with_a_warning(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = issuing("same")
    rejected = first_token(world, broker, name)
    response = world.get_token(broker, name, rejected=rejected)
    assert (response.access_token, response.warnings) == ("same", ("same_token_reissued",))
    assert len(world.provider) == 2

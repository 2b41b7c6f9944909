"""Asking the provider: one at a time (P1), budgets and rate limits (P4), reports of rejected tokens (P5)."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from functools import partial

import pytest

from tests.fakes import Simulation, World, answering, calling_back, issuing, slow
from tests.fakes.simulation import Actor
from token_broker.core.names import ConnectionName, fingerprint
from token_broker.errors import (
    AcquisitionInProgress,
    BrokerUnavailable,
    ProviderRateLimited,
    ProviderUnavailable,
    TooManyRejections,
)
from token_broker.service import Broker, TokenResponse


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
    world.lease(name, "dead")
    world.clock.advance(18)
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
    world.lease(name)
    waiting = world.instance()
    world.clock.at(2, lambda: world.change(name, lease=None))
    world.clock.at(2, lambda: world.get_token(broker, name))
    response = world.get_token(waiting, name)
    assert (response.source, response.access_token) == ("table", "tok-1")
    assert len(world.provider) == 1


@pytest.mark.parametrize("age", [0, 1, 3.9, 4, 16])
def test_p14_a_caller_waits_only_while_the_lease_is_younger_than_four_seconds(
    world: World, broker: Broker, name: ConnectionName, age: float
) -> None:
    world.lease(name)
    world.clock.advance(age)
    started_at = world.clock()
    with pytest.raises(AcquisitionInProgress) as caught:
        world.get_token(broker, name)
    assert caught.value.retry_after == timedelta(seconds=2)
    left = timedelta(seconds=max(4 - age, 0))
    assert left - timedelta(seconds=0.4) < world.clock() - started_at <= left
    assert len(world.provider) == 0


def test_p11_a_waiting_caller_gives_up_before_its_deadline(world: World, broker: Broker, name: ConnectionName) -> None:
    world.lease(name)
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


def test_a_caller_who_waits_for_a_longer_token_gets_the_short_one_in_the_end(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.get_token(broker, name)
    world.clock.advance(3000)
    world.lease(name)
    response = world.get_token(broker, name, min_ttl=1200)
    assert (response.access_token, response.warnings) == ("tok-1", ("min_ttl_unmet",))


def test_p1_a_dead_holder_is_replaced(world: World, broker: Broker, name: ConnectionName) -> None:
    world.lease(name, "dead")
    world.clock.advance(17.999)
    with pytest.raises(AcquisitionInProgress):
        world.get_token(broker, name, within=timedelta(seconds=0))
    world.clock.advance(0.002)
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
    (retired,) = world.retired(name)
    assert (retired.token_id, retired.revoke) == (fingerprint("tok-1"), True)
    assert retired.due_at is not None
    assert retired.due_at <= world.clock() + timedelta(minutes=2)


def test_a_repeated_lease_write_succeeds(world: World, broker: Broker, name: ConnectionName) -> None:
    world.faults.send_twice("tokens.save")
    assert world.get_token(broker, name).access_token == "tok-1"


def test_a_repeated_commit_succeeds(world: World, broker: Broker, name: ConnectionName) -> None:
    world.faults.let_pass("tokens.save")
    world.faults.send_twice("tokens.save")
    assert world.get_token(broker, name).access_token == "tok-1"
    assert len(world.revoker) == 0


def test_a_lease_that_could_not_be_written_leaves_nothing_behind(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.faults.fail("tokens.save")
    with pytest.raises(BrokerUnavailable):
        world.get_token(broker, name)
    assert not world.record(name).exists
    assert world.get_token(broker, name).access_token == "tok-1"


@pytest.mark.parametrize("call", ["secrets.read", "sealer.prepare", "the commit"])
def test_if_a_service_of_ours_fails_the_lease_ends_and_a_short_cooldown_begins(
    world: World, broker: Broker, name: ConnectionName, call: str
) -> None:
    """The cooldown holds for all instances, and nobody waits in it."""
    if call == "the commit":
        world.faults.let_pass("tokens.save")
    world.faults.fail("tokens.save" if call == "the commit" else call)
    started_at = world.clock()
    for _ in range(20):
        with pytest.raises(BrokerUnavailable):
            world.get_token(world.instance(), name)
    record = world.record(name)
    assert (record.lease, record.token, world.clock()) == (None, None, started_at)
    assert len(world.provider) == (1 if call == "the commit" else 0)
    with pytest.raises(BrokerUnavailable) as caught:
        world.get_token(broker, name)
    assert caught.value.retry_after == timedelta(seconds=2)
    world.clock.advance(2)
    assert world.get_token(broker, name).source == "provider"
    assert world.record(name).failures() == ()


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


def test_p5_a_reported_token_is_not_answered_with_an_older_one_from_memory(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    newer = world.get_token(world.instance(), name, rejected=first_token(world, broker, name)).token.token_id
    assert world.get_token(broker, name, rejected=newer).access_token == "tok-3"


def test_p5_steady_reports_cause_five_requests_and_then_one_a_minute(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = issuing(expires_in=36_000)
    current = first_token(world, broker, name)
    moments = []
    started_at = world.clock()
    for _ in range(360):
        with suppress(TooManyRejections):
            current = world.get_token(broker, name, rejected=current).token.token_id
            moments.append(round((world.clock() - started_at).total_seconds()))
        world.clock.advance(10)
    assert moments == [0, 10, 20, 30, 40, *range(60, 3600, 60)]


def test_p5_after_a_quiet_time_five_reports_cause_a_request_each_again(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    current = first_token(world, broker, name)
    for _ in range(2):
        for _ in range(5):
            current = world.get_token(broker, name, rejected=current).token.token_id
            world.clock.advance(1)
        with pytest.raises(TooManyRejections):
            world.get_token(broker, name, rejected=current)
        world.clock.advance(300)
    assert len(world.provider) == 11


def test_p5_with_an_empty_bucket_a_report_gets_retry_after(world: World, broker: Broker, name: ConnectionName) -> None:
    current = first_token(world, broker, name)
    for _ in range(5):
        current = world.get_token(broker, name, rejected=current).token.token_id
        world.clock.advance(1)
    with pytest.raises(TooManyRejections) as caught:
        world.get_token(broker, name, rejected=current)
    assert caught.value.retry_after == timedelta(seconds=55)
    assert world.get_token(broker, name).access_token == "tok-6"
    world.clock.advance(55)
    assert world.get_token(broker, name, rejected=current).access_token == "tok-7"


def test_p5_a_failed_request_counts(world: World, broker: Broker, name: ConnectionName) -> None:
    rejected = first_token(world, broker, name)
    world.provider.to = answering(503)
    for _ in range(60):
        with pytest.raises(ProviderUnavailable):
            world.get_token(broker, name, rejected=rejected)
        world.clock.advance(1)
    asked = len(world.provider) - 1
    assert 2 <= asked <= 3
    reports_until = world.record(name).reports_until
    assert reports_until is not None
    assert reports_until > world.clock() + timedelta(minutes=asked - 2)


def test_a_token_that_is_issued_again_comes_with_a_warning(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = issuing("same")
    rejected = first_token(world, broker, name)
    response = world.get_token(broker, name, rejected=rejected)
    assert (response.access_token, response.warnings) == ("same", ("same_token_reissued",))
    assert len(world.provider) == 2

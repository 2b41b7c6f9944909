"""What the state machine found, each in its shortest form."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import CALLER, World, answering, hanging, in_turn, issuing
from tests.fakes.world import OAUTH_CREDENTIALS
from token_broker.core.names import ConnectionName
from token_broker.errors import (
    BrokerError,
    BrokerUnavailable,
    ProviderRateLimited,
    ProviderRefused,
    ProviderUnavailable,
)
from token_broker.ports import Send
from token_broker.service import Broker

FAILED = answering(200, {"status": "FAILED"})
LOGIN = {"field": "accessToken", "status": "SUCCESS", "expires_in": None}
A_LOCK_NEEDS = 5


@pytest.fixture
def seller(world: World) -> ConnectionName:
    """A login, whose account locks after some refusals."""
    world.provider.to = issuing(**LOGIN)  # type: ignore[arg-type]  # a field is left out with None
    return world.connection("unicommerce")


def refused(world: World, broker: Broker, name: ConnectionName) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        world.ask(broker, name)
    return caught.value


def test_p4_an_outage_between_two_refusals_of_a_login_does_not_begin_the_doubt_anew(
    world: World, broker: Broker, seller: ConnectionName
) -> None:
    """FAILED on credentials that worked before is doubted once. An endpoint that flaps must not have it doubted for
    ever: the password was changed over there, and each attempt counts towards the lock."""
    world.ask(broker, seller)
    world.clock.advance(72_001)
    world.provider.requests.clear()
    world.provider.to = in_turn(*[FAILED, answering(503)] * 100)
    for _ in range(2 * 60 * 2):
        refused(world, broker, seller)
        world.clock.advance(30)
    refusals = (len(world.provider) + 1) // 2
    assert refusals < A_LOCK_NEEDS


def test_p9_logins_of_unknown_outcome_do_not_count_against_a_new_secret(
    world: World, broker: Broker, seller: ConnectionName
) -> None:
    """Two processes died with a login out. The owner puts a new password: it is tried, and not refused unasked."""
    working = world.provider.to
    for _ in range(2):
        world.faults.before("tokens.put_guard", _crash)
        world.provider.to = answering(503)
        with pytest.raises(KeyboardInterrupt):
            world.ask(world.instance(), seller)
        world.clock.advance(3_600)
    world.provider.to = working
    world.secrets.put(seller, {"username": "seller", "password": "new"})
    broker.secret_changed(seller)
    assert world.ask(broker, seller).source == "provider"


def test_p4_the_first_refusal_of_another_secret_rests_as_a_first_one(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """15 min, 1 h, 4 h, 24 h are for the same credentials."""
    world.provider.to = answering(401, {"error": "invalid_client"})
    for rest_s in (900, 3_600):
        error = refused(world, broker, name)
        assert isinstance(error, ProviderRefused)
        assert error.retry_after is not None
        assert error.retry_after.total_seconds() == rest_s
        world.clock.advance(rest_s)
    world.secrets.put(name, {**OAUTH_CREDENTIALS, "client_secret": "another"})
    error = refused(world, world.instance(), name)
    assert error.retry_after is not None
    assert error.retry_after.total_seconds() == 900


def _crash() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("late", [answering(503), hanging()], ids=["outage", "time-out"])
def test_p4_a_refusal_is_not_forgotten_for_an_outage_that_another_scope_met_meanwhile(
    world: World, broker: Broker, name: ConnectionName, late: Send
) -> None:
    """Two scope sets at once: one is refused the credentials, the other's slower request then meets an outage. What is
    learnt last is not what counts longest."""

    def meanwhile() -> None:
        world.provider.to = answering(401, {"error": "invalid_client"})
        refused(world, world.instance(), name)

    world.faults.before("tokens.put_guard", meanwhile)
    world.provider.to = late
    with pytest.raises(BrokerError):
        world.ask(broker, name, scope="slow")
    world.provider.requests.clear()
    world.clock.advance(60)
    assert isinstance(refused(world, world.instance(), name), ProviderRefused)
    assert len(world.provider) == 0


@pytest.mark.parametrize(
    "changes", [{"suspended": True}, {"denied_callers": [CALLER]}, None], ids=["suspended", "denied", "deleted"]
)
def test_p9_an_instance_that_has_seen_other_settings_does_not_fall_back_on_the_old_ones(
    world: World, broker: Broker, name: ConnectionName, changes: dict[str, Any] | None
) -> None:
    """Memory may serve for 5 min while our own services fail. What this instance knows to be over is not to be had."""
    world.ask(broker, name)
    if changes is None:
        world.connections.delete(name, expected=None)
    else:
        world.settings(name, **changes)
    world.clock.advance(31)
    known = refused(world, broker, name)
    assert not isinstance(known, BrokerUnavailable)
    world.faults.take_down("tokens")
    assert isinstance(refused(world, broker, name), BrokerUnavailable)


def test_p4_attempts_behind_a_refusal_are_spaced_in_an_outage_too(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """The refusal stays, and so must its rest: not every caller is to repeat refused credentials after 2 s."""
    world.provider.to = answering(401, {"error": "invalid_client"})
    refused(world, broker, name)
    world.clock.advance(900)
    world.provider.requests.clear()
    world.provider.to = answering(503)
    for _ in range(600):
        refused(world, broker, name)
        world.clock.advance(1)
    assert len(world.provider) <= 6


def test_p4_a_trial_does_not_shorten_the_rest_that_a_provider_asked_for(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = answering(429, {}, {"retry-after": "90"})
    refused(world, broker, name)
    world.provider.to = answering(503)
    with pytest.raises(ProviderUnavailable):
        broker.trial(name, force=False)
    world.provider.requests.clear()
    world.clock.advance(60)
    refused(world, broker, name)
    assert len(world.provider) == 0


def test_p4_new_secrets_are_counted_behind_outages_too(world: World, broker: Broker, seller: ConnectionName) -> None:
    """At most three new versions in an hour: what came of one may have been lost, and counted towards the lock."""
    world.provider.to = in_turn(*[FAILED, hanging()] * 10)
    for number in range(10):
        world.secrets.put(seller, {"username": "seller", "password": f"wrong-{number}"})
        refused(world, broker, seller)
        world.clock.advance(31)
    assert len(world.provider) <= 1 + 3


def test_p4_a_limit_that_a_pending_secret_meets_does_not_end_the_refusal_of_the_current_one(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """Both hold: the wish to be left alone for every secret, the refusal for the one that was refused."""
    world.provider.to = answering(401, {"error": "invalid_client"})
    refused(world, broker, name)
    world.secrets.put(name, {**OAUTH_CREDENTIALS, "client_secret": "next"}, stage="AWSPENDING")
    world.provider.to = answering(429, {}, {"retry-after": "90"})
    with pytest.raises(ProviderRateLimited):
        broker.trial(name, force=False)
    world.provider.requests.clear()
    world.provider.to = issuing()
    world.clock.advance(600)
    assert isinstance(refused(world, broker, name), ProviderRefused)
    assert len(world.provider) == 0


def test_p4_a_limit_holds_for_the_secret_that_is_promoted_meanwhile(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = answering(429, {}, {"retry-after": "90"})
    world.secrets.put(name, {**OAUTH_CREDENTIALS, "client_secret": "next"}, stage="AWSPENDING")
    with pytest.raises(ProviderRateLimited):
        broker.trial(name, force=False)
    world.secrets.put(name, {**OAUTH_CREDENTIALS, "client_secret": "next"})
    world.provider.requests.clear()
    world.provider.to = issuing()
    world.clock.advance(80)
    refused(world, world.instance(), name)
    assert len(world.provider) == 0
    world.clock.advance(10)
    assert world.ask(world.instance(), name).source == "provider"


def test_p4_an_outage_that_a_trial_meets_does_not_shorten_the_rest_of_a_doubted_password(
    world: World, broker: Broker, seller: ConnectionName
) -> None:
    world.ask(broker, seller)
    world.clock.advance(72_001)
    world.provider.to = in_turn(FAILED, answering(503))
    refused(world, broker, seller)
    with pytest.raises(ProviderUnavailable):
        broker.trial(seller, force=False)
    world.provider.requests.clear()
    world.clock.advance(50)
    refused(world, broker, seller)
    assert len(world.provider) == 0

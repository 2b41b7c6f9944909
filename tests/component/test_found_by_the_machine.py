"""Bugs that the state machine found, each in its shortest form."""

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
LOCKS_AFTER = 5


@pytest.fixture
def seller(world: World) -> ConnectionName:
    """A connection with a login. Its account locks after some failed logins."""
    world.provider.to = issuing(**LOGIN)  # type: ignore[arg-type]  # a field is left out with None
    return world.connection("unicommerce")


def error_of(world: World, broker: Broker, name: ConnectionName) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        world.get_token(broker, name)
    return caught.value


def test_p4_an_outage_between_two_failed_logins_gives_no_other_second_chance(
    world: World, broker: Broker, seller: ConnectionName
) -> None:
    """Credentials that worked before get one second chance after FAILED, also if outages come in between.

    The password was changed at the provider, and each login counts towards the lock.
    """
    world.get_token(broker, seller)
    world.clock.advance(72_001)
    world.provider.requests.clear()
    world.provider.to = in_turn(*[FAILED, answering(503)] * 100)
    for _ in range(2 * 60 * 2):
        error_of(world, broker, seller)
        world.clock.advance(30)
    failed_logins = (len(world.provider) + 1) // 2
    assert failed_logins < LOCKS_AFTER


def test_p9_logins_of_unknown_outcome_do_not_count_against_a_new_secret(
    world: World, broker: Broker, seller: ConnectionName
) -> None:
    """Two processes were killed during a login. The owner puts a new password, and it is used."""
    working = world.provider.to
    for _ in range(2):
        world.faults.let_pass("health.save")
        world.faults.before("health.save", _crash)
        world.provider.to = answering(503)
        with pytest.raises(KeyboardInterrupt):
            world.get_token(world.instance(), seller)
        world.clock.advance(3_600)
    world.provider.to = working
    world.secrets.put(seller, {"username": "seller", "password": "new"})
    broker.secret_changed(seller)
    assert world.get_token(broker, seller).source == "provider"


def test_p4_the_first_refusal_of_another_secret_has_the_first_cooldown(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """15 min, 1 h, 4 h, 24 h are for the same credentials."""
    world.provider.to = answering(401, {"error": "invalid_client"})
    for cooldown_s in (900, 3_600):
        error = error_of(world, broker, name)
        assert isinstance(error, ProviderRefused)
        assert error.retry_after is not None
        assert error.retry_after.total_seconds() == cooldown_s
        world.clock.advance(cooldown_s)
    world.secrets.put(name, {**OAUTH_CREDENTIALS, "client_secret": "another"})
    error = error_of(world, world.instance(), name)
    assert error.retry_after is not None
    assert error.retry_after.total_seconds() == 900


def _crash() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("late", [answering(503), hanging()], ids=["outage", "time-out"])
def test_p4_a_refusal_is_not_replaced_by_an_outage_of_another_scope(
    world: World, broker: Broker, name: ConnectionName, late: Send
) -> None:
    """Two scope sets at once: the credentials are refused for one, and the slower request of the other meets an outage.

    The later failure has the shorter cooldown and must not replace the refusal.
    """

    def meanwhile() -> None:
        world.provider.to = answering(401, {"error": "invalid_client"})
        error_of(world, world.instance(), name)

    world.faults.before("health.save", meanwhile)
    world.provider.to = late
    with pytest.raises(BrokerError):
        world.get_token(broker, name, scope="slow")
    world.provider.requests.clear()
    world.clock.advance(60)
    assert isinstance(error_of(world, world.instance(), name), ProviderRefused)
    assert len(world.provider) == 0


@pytest.mark.parametrize(
    "changes", [{"suspended": True}, {"denied_callers": [CALLER]}, None], ids=["suspended", "denied", "deleted"]
)
def test_p9_an_instance_that_has_read_new_settings_does_not_fall_back_on_the_old_ones(
    world: World, broker: Broker, name: ConnectionName, changes: dict[str, Any] | None
) -> None:
    """Memory may serve for 5 min while our services fail, but not under settings known to be old."""
    world.get_token(broker, name)
    if changes is None:
        world.connections.delete(name, expected=None)
    else:
        world.settings(name, **changes)
    world.clock.advance(31)
    known = error_of(world, broker, name)
    assert not isinstance(known, BrokerUnavailable)
    world.faults.take_down("tokens")
    assert isinstance(error_of(world, broker, name), BrokerUnavailable)


def test_p4_requests_after_a_refusal_are_spaced_in_an_outage_too(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """The refusal stays, and so must its cooldown. Callers must not repeat refused credentials every 2 s."""
    world.provider.to = answering(401, {"error": "invalid_client"})
    error_of(world, broker, name)
    world.clock.advance(900)
    world.provider.requests.clear()
    world.provider.to = answering(503)
    for _ in range(600):
        error_of(world, broker, name)
        world.clock.advance(1)
    assert len(world.provider) <= 6


def test_p4_a_trial_does_not_shorten_a_rate_limit(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = answering(429, {}, {"retry-after": "90"})
    error_of(world, broker, name)
    world.provider.to = answering(503)
    with pytest.raises(ProviderUnavailable):
        broker.trial(name, force=False)
    world.provider.requests.clear()
    world.clock.advance(60)
    error_of(world, broker, name)
    assert len(world.provider) == 0


def test_p4_new_secrets_are_counted_after_outages_too(world: World, broker: Broker, seller: ConnectionName) -> None:
    """At most three new versions in an hour: a login with an unknown outcome may count towards the lock."""
    world.provider.to = in_turn(*[FAILED, hanging()] * 10)
    for number in range(10):
        world.secrets.put(seller, {"username": "seller", "password": f"wrong-{number}"})
        error_of(world, broker, seller)
        world.clock.advance(31)
    assert len(world.provider) <= 1 + 3


def test_p4_a_rate_limit_of_a_pending_secret_does_not_clear_the_refusal_of_the_current_one(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """The rate limit holds for every secret, the refusal for the refused one."""
    world.provider.to = answering(401, {"error": "invalid_client"})
    error_of(world, broker, name)
    world.secrets.put(name, {**OAUTH_CREDENTIALS, "client_secret": "next"}, stage="AWSPENDING")
    world.provider.to = answering(429, {}, {"retry-after": "90"})
    with pytest.raises(ProviderRateLimited):
        broker.trial(name, force=False)
    world.provider.requests.clear()
    world.provider.to = issuing()
    world.clock.advance(600)
    assert isinstance(error_of(world, broker, name), ProviderRefused)
    assert len(world.provider) == 0


def test_p4_a_rate_limit_holds_for_a_secret_that_is_promoted_meanwhile(
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
    error_of(world, world.instance(), name)
    assert len(world.provider) == 0
    world.clock.advance(10)
    assert world.get_token(world.instance(), name).source == "provider"


def test_p4_an_outage_in_a_trial_does_not_shorten_the_cooldown_of_a_second_chance(
    world: World, broker: Broker, seller: ConnectionName
) -> None:
    world.get_token(broker, seller)
    world.clock.advance(72_001)
    world.provider.to = in_turn(FAILED, answering(503))
    error_of(world, broker, seller)
    with pytest.raises(ProviderUnavailable):
        broker.trial(seller, force=False)
    world.provider.requests.clear()
    world.clock.advance(50)
    error_of(world, broker, seller)
    assert len(world.provider) == 0

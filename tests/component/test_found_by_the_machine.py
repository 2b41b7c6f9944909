"""Bugs that the state machine found, each in its shortest form."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from tests.component.test_nothing_sticks import is_indexed, put, work_for
from tests.fakes import CALLER, World, answering, dying, hanging, in_turn, issuing
from tests.fakes.world import OAUTH_CREDENTIALS
from token_broker.core.names import ConnectionName
from token_broker.errors import (
    AcquisitionInProgress,
    BrokerError,
    BrokerUnavailable,
    ConnectionMisconfigured,
    ProviderRateLimited,
    ProviderRefused,
    ProviderUnavailable,
    VersionConflict,
)
from token_broker.ports import SecretNotReadable, Send
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
    """60 s, 15 min, 1 h, 4 h, 24 h are for the same credentials."""
    world.provider.to = answering(401, {"error": "invalid_client"})
    for cooldown_s in (60, 900, 3_600):
        error = error_of(world, broker, name)
        assert isinstance(error, ProviderRefused)
        assert error.retry_after is not None
        assert error.retry_after.total_seconds() == cooldown_s
        world.clock.advance(cooldown_s)
    world.secrets.put(name, {**OAUTH_CREDENTIALS, "client_secret": "another"})
    error = error_of(world, world.instance(), name)
    assert error.retry_after is not None
    assert error.retry_after.total_seconds() == 60


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
    world.clock.advance(50)
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
    world.clock.advance(60)
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


# ------------------------------------------------------------------ P12: nothing sticks


def test_p12_a_trial_does_not_undo_the_settings_of_a_put(world: World, broker: Broker) -> None:
    """The trial read the old settings. Its lease write applied them after the PUT had applied the new ones."""
    name = world.connection(keep_warm="never")
    world.faults.before("tokens.read", lambda: put(world.instance(), name, keep_warm="always"))
    with pytest.raises(AcquisitionInProgress):
        broker.trial(name, force=False)
    assert is_indexed(world, name)
    world.clock.advance(2)
    broker.trial(name, force=False)
    assert is_indexed(world, name)


def test_p12_the_later_of_two_puts_counts_even_if_the_earlier_one_ends_last(world: World, broker: Broker) -> None:
    name = world.connection()
    world.get_token(broker, name)
    world.faults.before("tokens.items", lambda: put(world.instance(), name, keep_warm="always"))
    put(broker, name, suspended=True)
    assert world.record(name).keep_warm == "always"
    assert is_indexed(world, name)


def test_p12_a_put_that_was_overtaken_and_broke_off_applies_nothing(world: World, broker: Broker) -> None:
    name = world.connection()
    world.get_token(broker, name)
    world.faults.before("tokens.save", lambda: put(world.instance(), name, keep_warm="always"))
    world.faults.let_pass("tokens.read", 2)
    world.faults.before("tokens.read", _crash)
    with suppress(KeyboardInterrupt):
        put(broker, name, suspended=True)
    assert world.record(name).keep_warm == "always"


@pytest.mark.parametrize("broken", ["settings stay", "version conflict"])
def test_p12_a_delete_that_broke_off_leaves_its_keys_in_the_index(world: World, broker: Broker, broken: str) -> None:
    name = world.connection(keep_warm="always")
    put(broker, name, keep_warm="always")
    if broken == "settings stay":
        world.faults.fail("connections.delete")
    else:
        world.faults.before("connections.delete", lambda: world.settings(name, keep_warm="always"))
    with pytest.raises((BrokerUnavailable, VersionConflict)):
        broker.connections.delete(name, expected=None)
    assert is_indexed(world, name)


def test_p12_a_connection_that_is_created_again_stays_in_the_index(world: World, broker: Broker) -> None:
    """The worker found the settings gone. Before it took the key out, the owner had put them again."""
    name = world.connection(keep_warm="always")
    put(broker, name, keep_warm="always")
    broker.connections.delete(name, expected=None)
    world.faults.before("tokens.save", lambda: put(world.instance(), name, keep_warm="always"))
    world.renew(broker, name)
    assert is_indexed(world, name)


def test_p12_a_changed_secret_is_used_although_a_token_of_the_refused_one_lives(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """The password was changed at the provider, then in the secret. The old token must not be served to its end."""
    world.get_token(broker, name)
    broker.secret_changed(name)
    world.provider.to = answering(401, {"error": "invalid_client"})
    world.clock.advance(31)
    assert world.get_token(broker, name).warnings == ("renewal_failing",)
    world.provider.to = issuing("new-{n}")
    world.secrets.put(name, {**OAUTH_CREDENTIALS, "client_secret": "another"})
    broker.secret_changed(name)
    world.clock.advance(31)
    assert world.get_token(broker, name).access_token == "new-1"


def test_p12_the_sweep_logs_in_again_after_two_killed_logins(world: World, broker: Broker) -> None:
    """Nothing was refused, so nobody has to change the secret first."""
    name = world.connection("unicommerce")
    body = {"allowed_callers": [CALLER], "base_url": "https://market.example", "keep_warm": "always"}
    broker.connections.put(name, body, expected=None, absent=False)
    world.provider.to = dying()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            world.renew(world.instance(), name)
        world.clock.advance(60)
    world.provider.to = issuing(**LOGIN)  # type: ignore[arg-type]  # a field is left out with None
    work_for(world, broker, timedelta(minutes=35))
    assert world.record(name).live_token(world.clock()) is not None


def test_p12_a_trial_ends_the_wait_for_a_fourth_secret_within_an_hour(world: World, broker: Broker) -> None:
    name = world.connection()
    put(broker, name, keep_warm="always")
    world.provider.to = answering(401, {"error": "invalid_client"})
    for number in range(5):
        work_for(world, broker, timedelta(minutes=4))
        world.secrets.put(name, {**OAUTH_CREDENTIALS, "client_secret": f"wrong-{number}"})
        broker.secret_changed(name)
    work_for(world, broker, timedelta(minutes=4))
    world.provider.to = issuing()
    broker.trial(name, force=False)
    work_for(world, broker, timedelta(minutes=3))
    assert world.record(name).live_token(world.clock()) is not None


def test_p2_a_token_that_expired_while_our_services_failed_does_not_come_from_memory(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = issuing(expires_in=60)
    world.get_token(broker, name, min_ttl=0)
    world.clock.advance(58)
    world.faults.take_down("tokens")
    world.faults.every = lambda _call: world.clock.advance(3)
    with pytest.raises(BrokerUnavailable):
        world.get_token(broker, name, min_ttl=0)


def test_p11_a_trial_of_a_secret_that_may_not_be_read_is_misconfigured(
    world: World, broker: Broker, name: ConnectionName, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_name: ConnectionName, _stage: str = "") -> None:
        raise SecretNotReadable

    monkeypatch.setattr(world.secrets, "read", denied)
    with pytest.raises(ConnectionMisconfigured, match="SecretKeyArns"):
        broker.trial(name, force=False)

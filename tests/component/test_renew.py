"""What the worker does with one message (P3, P4, P9)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.fakes import World, answering, calling_back, failing_first, issuing, refusing
from token_broker.core.names import ConnectionName, TokenKey, fingerprint
from token_broker.core.records import Token
from token_broker.core.schedule import LOOK_AGAIN
from token_broker.errors import BrokerUnavailable
from token_broker.service import Broker
from token_broker.service.context import TimeLimits
from token_broker.service.renew import RenewalOutcome

LEASE = TimeLimits().lease


def token_of(world: World, name: ConnectionName, scope: str = "") -> Token:
    token = world.record(name, scope).token
    assert token is not None
    return token


def advance_to_renewal(world: World, name: ConnectionName, scope: str = "") -> None:
    world.clock.advance(to=token_of(world, name, scope).renew_at)


def test_p3_a_due_token_is_renewed_before_it_expires_and_nobody_waits(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.get_token(broker, name)
    advance_to_renewal(world, name)
    assert world.renew(broker, name).outcome is RenewalOutcome.RENEWED
    assert world.get_token(broker, name).access_token == "tok-2"
    record = world.record(name)
    assert record.due_at == token_of(world, name).renew_at
    (retired,) = world.retired(name)
    assert (retired.token_id, retired.revoke, retired.due_at) == (fingerprint("tok-1"), False, None)


def test_a_key_that_is_not_due_gets_its_due_time_back(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.change(name, due_at=world.clock())
    assert world.renew(broker, name).outcome is RenewalOutcome.NOT_DUE
    assert world.record(name).due_at == token_of(world, name).renew_at
    assert len(world.provider) == 1


def test_a_second_message_for_a_renewed_key_makes_no_request(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.get_token(broker, name)
    advance_to_renewal(world, name)
    assert [world.renew(broker, name).outcome for _ in range(2)] == [RenewalOutcome.RENEWED, RenewalOutcome.NOT_DUE]
    assert len(world.provider) == 2


def test_a_missing_key_is_not_an_error(world: World, broker: Broker, name: ConnectionName) -> None:
    assert world.renew(broker, name).outcome is RenewalOutcome.GONE


def test_a_key_of_a_deleted_connection_leaves_the_index(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.connections.delete(name, expected=None)
    assert world.renew(broker, name).outcome is RenewalOutcome.GONE
    assert (world.record(name).due_at, world.record(name).token) == (None, None)


def test_a_failure_of_the_provider_is_a_success_for_the_queue(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.get_token(broker, name)
    advance_to_renewal(world, name)
    world.provider.to = answering(503)
    renewal = world.renew(broker, name)
    assert (renewal.outcome, renewal.code) == (RenewalOutcome.FAILED, "provider_unavailable")
    assert world.record(name).due_at == world.clock() + timedelta(seconds=2)


def test_a_key_is_due_again_at_the_end_of_its_cooldown(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    advance_to_renewal(world, name)
    world.provider.to = failing_first(1, status=503)
    world.renew(broker, name)
    renewal = world.renew(broker, name)
    assert (renewal.outcome, renewal.code) == (RenewalOutcome.COOLDOWN, "provider_unavailable")
    assert world.record(name).due_at == world.clock() + timedelta(seconds=2)
    world.clock.advance(2)
    assert world.renew(broker, name).outcome is RenewalOutcome.RENEWED


def test_p4_the_sweep_looks_at_a_refused_key_every_15_min_and_never_repeats_the_refusal(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.get_token(broker, name)
    advance_to_renewal(world, name)
    world.provider.to = refusing("invalid_client")
    assert world.renew(broker, name).outcome is RenewalOutcome.FAILED
    # The first refusal gets one more try.
    world.clock.advance(60)
    assert world.renew(broker, name).outcome is RenewalOutcome.FAILED
    for _ in range(90):
        due_at = world.record(name).due_at
        assert due_at == world.clock() + LOOK_AGAIN
        world.clock.advance(to=due_at)
        assert world.renew(broker, name).outcome is RenewalOutcome.COOLDOWN
    assert len(world.provider) == 3


def test_a_missing_secret_has_a_cooldown(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    advance_to_renewal(world, name)
    world.secrets.delete(name)
    renewal = world.renew(broker, name)
    assert (renewal.outcome, renewal.code) == (RenewalOutcome.FAILED, "connection_misconfigured")
    assert world.record(name).due_at == world.clock() + timedelta(minutes=5)
    assert world.get_token(broker, name).access_token == "tok-1"


@pytest.mark.parametrize("call", ["tokens.read_due", "tokens.save"])
def test_faults_of_our_own_that_the_item_cannot_remember_bring_the_message_back(
    world: World, broker: Broker, name: ConnectionName, call: str
) -> None:
    world.get_token(broker, name)
    advance_to_renewal(world, name)
    world.faults.fail(call)
    with pytest.raises(BrokerUnavailable):
        world.renew(broker, name)
    assert world.renew(broker, name).outcome is RenewalOutcome.RENEWED


@pytest.mark.parametrize("call", ["secrets.read", "sealer.prepare", "the commit"])
def test_faults_of_our_own_that_the_item_remembers_are_a_success_for_the_queue(
    world: World, broker: Broker, name: ConnectionName, call: str
) -> None:
    """Otherwise a key would cause a dead letter after each cooldown."""
    world.get_token(broker, name)
    advance_to_renewal(world, name)
    if call == "the commit":
        world.faults.let_pass("tokens.save")
    world.faults.fail("tokens.save" if call == "the commit" else call)
    renewal = world.renew(broker, name)
    assert (renewal.outcome, renewal.code) == (RenewalOutcome.FAILED, "broker_unavailable")
    assert world.record(name).due_at == world.clock() + timedelta(seconds=2)
    assert world.renew(broker, name).outcome is RenewalOutcome.COOLDOWN
    world.clock.advance(2)
    assert world.renew(broker, name).outcome is RenewalOutcome.RENEWED


@pytest.mark.parametrize("call", ["secrets.read", "sealer.prepare"])
def test_faults_of_our_own_bring_the_message_back_if_the_store_fails_too(
    world: World, broker: Broker, name: ConnectionName, call: str
) -> None:
    world.get_token(broker, name)
    advance_to_renewal(world, name)

    def fail_all() -> None:
        world.faults.take_down("tokens")
        raise BrokerUnavailable("A service of ours fails.")

    world.faults.before(call, fail_all)
    with pytest.raises(BrokerUnavailable):
        world.renew(broker, name)


def test_a_held_lease_delays_the_message_until_it_expires(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    advance_to_renewal(world, name)
    world.lease(name)
    assert world.renew(broker, name).outcome is RenewalOutcome.LEASED
    (message,) = world.queue.take()
    assert (message.name, message.scope_id) == (name, TokenKey(name, "").scope_id)
    assert message.delay == LEASE
    world.clock.advance(17)
    assert world.renew(broker, name).outcome is RenewalOutcome.LEASED
    assert world.queue.take()[0].delay >= timedelta(seconds=1)
    assert len(world.provider) == 1


def test_a_message_that_the_queue_does_not_accept_raises(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    advance_to_renewal(world, name)
    world.lease(name)
    world.queue.unaccepted = 1
    with pytest.raises(BrokerUnavailable):
        world.renew(broker, name)


def test_a_key_that_is_unused_for_a_day_leaves_the_index(world: World, broker: Broker) -> None:
    name = world.connection("unicommerce")
    world.provider.to = issuing(field="accessToken", status="SUCCESS", expires_in=None)
    world.get_token(broker, name)
    advance_to_renewal(world, name)
    assert world.renew(broker, name).outcome is RenewalOutcome.RENEWED
    advance_to_renewal(world, name)
    assert world.renew(broker, name).outcome is RenewalOutcome.IDLE
    assert world.record(name).due_at is None


def test_use_is_noted_once_in_a_quarter_of_the_lifetime(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.faults.calls.clear()
    for _ in range(45):
        world.clock.advance(60)
        world.get_token(broker, name)
    assert world.faults.calls["tokens.read"] == 45
    assert world.faults.calls["tokens.save"] <= 3


def test_keep_warm_always_renews_an_unused_key(world: World, broker: Broker) -> None:
    name = ConnectionName("oauth2", "warm")
    world.secrets.put(name, {"client_id": "id", "client_secret": "secret"})
    settings = {
        "allowed_callers": ["*"],
        "token_url": "https://id.example/token",
        "scope": "a b",
        "keep_warm": "always",
    }
    broker.connections.put(name, settings, expected=None, absent=False)
    assert world.renew(broker, name, "a b").outcome is RenewalOutcome.RENEWED
    for _ in range(3):
        world.clock.advance(86_400 * 2)
        assert world.renew(broker, name, "a b").outcome is RenewalOutcome.RENEWED


def test_keep_warm_never_stays_off_the_index(world: World, broker: Broker) -> None:
    name = world.connection(keep_warm="never")
    world.get_token(broker, name)
    assert world.record(name).due_at is None
    world.clock.advance(2000)
    world.get_token(broker, name)
    assert world.record(name).due_at is None
    broker.secret_changed(name)
    assert world.renew(broker, name).outcome is RenewalOutcome.IDLE
    assert world.record(name).due_at is None


def test_a_suspended_connection_is_not_renewed(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    advance_to_renewal(world, name)
    world.settings(name, suspended=True)
    assert world.renew(broker, name).outcome is RenewalOutcome.IDLE
    assert world.record(name).due_at is None
    assert len(world.provider) == 1


def test_a_reissued_token_does_not_cause_a_loop(world: World, broker: Broker) -> None:
    """The provider gives the same token until it expires. Each renewal comes closer to the expiry."""
    name = world.connection("commerce-layer", scope="market:id:1")
    expires_at = world.clock() + timedelta(seconds=7200)

    def reissue(*arguments: object) -> object:
        remaining = int((expires_at - world.clock()).total_seconds())
        return issuing("same", expires_in=remaining)(*arguments)  # type: ignore[arg-type]  # passed on as they came

    world.provider.to = reissue  # type: ignore[assignment]  # a Send in all but its signature
    world.get_token(broker, name)
    while world.clock() < expires_at - timedelta(seconds=10):
        due_at = world.record(name, "market:id:1").due_at
        assert due_at is not None
        world.clock.advance(to=max(due_at, world.clock() + timedelta(seconds=1)))
        world.renew(broker, name, "market:id:1")
    assert len(world.provider) <= 12


def test_p9_a_changed_secret_makes_the_tokens_due(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.get_token(broker, name, scope="a")
    version = world.secrets.put(name, {"client_id": "id", "client_secret": "new"})
    assert broker.secret_changed(name) == 2
    assert world.record(name).due_at == world.clock()
    world.clock.advance(1)
    assert world.renew(broker, name).outcome is RenewalOutcome.RENEWED
    assert token_of(world, name).secret_version == version
    assert world.record(name).stale_at is None
    assert world.get_token(broker, name, scope="a").access_token == "tok-2"


def test_p9_an_acquisition_with_the_old_version_is_due_again_at_once(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    def rotate() -> None:
        world.clock.advance(1)
        world.secrets.put(name, {"client_id": "id", "client_secret": "new"})
        broker.secret_changed(name)

    world.provider.to = calling_back(rotate, issuing())
    world.get_token(broker, name)
    record = world.record(name)
    assert record.due_at == world.clock()
    assert world.renew(broker, name).outcome is RenewalOutcome.RENEWED
    assert token_of(world, name).secret_version == "v2"


@pytest.mark.parametrize("before", ["no token", "a token", "a stale token"])
def test_p9_an_acquisition_with_the_old_settings_is_due_again_at_once(
    world: World, broker: Broker, before: str
) -> None:
    """A PUT comes while the provider is asked. The sweep alone brings a token of the new settings."""
    name = world.connection(keep_warm="always")
    settings = {"allowed_callers": ["*"], "token_url": "https://id.example/token", "keep_warm": "always"}

    def put(audience: str) -> None:
        world.clock.advance(1)
        changed = {**settings, "params": {"audience": audience}}
        world.instance().connections.put(name, changed, expected=None, absent=False)

    if before != "no token":
        world.get_token(broker, name)
    if before == "a stale token":
        put("first")
    world.provider.to = calling_back(lambda: put("second"), issuing("new-{n}"))
    if before == "a token":
        world.get_token(world.instance(), name, rejected=token_of(world, name).token_id)
    else:
        world.get_token(world.instance(), name)
    assert world.record(name).due_at == world.clock()
    assert world.renew(broker, name).outcome is RenewalOutcome.RENEWED
    assert "audience=second" in world.provider.bodies()[-1]


def test_p9_a_changed_secret_makes_a_refused_key_due_at_once_and_then_every_15_min(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """The event may concern something else than the secret's value. Then the refusal is not repeated."""
    world.get_token(broker, name)
    advance_to_renewal(world, name)
    world.provider.to = refusing("invalid_client")
    for wait_s in (60, 1):
        world.renew(broker, name)
        world.clock.advance(wait_s)
    broker.secret_changed(name)
    assert world.record(name).due_at == world.clock()
    assert world.renew(broker, name).outcome is RenewalOutcome.COOLDOWN
    assert world.record(name).due_at == world.clock() + LOOK_AGAIN
    assert len(world.provider) == 3


def test_without_a_sweep_readers_queue_an_overdue_key_once_a_minute(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.get_token(broker, name)
    advance_to_renewal(world, name)
    for _ in range(300):
        world.clock.advance(1)
        world.get_token(world.instance(), name)
    assert 3 <= len(world.queue.take()) <= 5
    assert world.renew(broker, name).outcome is RenewalOutcome.RENEWED


def test_a_reader_is_served_although_its_use_cannot_be_noted(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.get_token(broker, name)
    world.clock.advance(1000)
    world.faults.fail("tokens.save")
    assert world.get_token(broker, name).access_token == "tok-1"


def test_p3_a_day_of_steady_use_makes_only_the_first_caller_wait(world: World, broker: Broker) -> None:
    """Tokens of 300 s, a caller every ten seconds, a message at each due time: only the first caller waits."""
    name = world.connection("ucommerce")
    world.provider.to = issuing(expires_in=300, refresh_token="refresh-{n}")
    waited = 0
    for _ in range(8640):
        waited += world.get_token(broker, name).source == "provider"
        world.clock.advance(10)
        due_at = world.record(name).due_at
        if due_at is not None and due_at <= world.clock():
            world.renew(broker, name)
    assert waited == 1

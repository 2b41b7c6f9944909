"""GET: memory, table, provider; who may get what; nobody gets an expired token (P2, P8, P9, P10)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.fakes import World, answering, issuing, slow
from token_broker.core.names import ConnectionName, fingerprint
from token_broker.errors import (
    BrokerError,
    BrokerUnavailable,
    CallerNotAllowed,
    ConnectionMisconfigured,
    ConnectionSuspended,
    ScopeNotAllowed,
    TooManyScopeSets,
    UnknownConnection,
    UnknownProvider,
)
from token_broker.service import Broker

STRANGER = "arn:aws:iam::123456789012:role/stranger"


def test_a_first_token_comes_from_the_provider(world: World, broker: Broker, name: ConnectionName) -> None:
    response = world.get_token(broker, name)
    assert (response.source, response.access_token, response.warnings) == ("provider", "tok-1", ())
    assert response.token.token_id == fingerprint("tok-1")
    assert response.token.expires_at == world.clock() + timedelta(hours=1)
    assert response.headers == {"Authorization": "Bearer tok-1"}


def test_a_response_holds_the_headers_that_the_provider_expects(world: World, broker: Broker) -> None:
    name = world.connection("unicommerce")
    world.provider.to = issuing(field="accessToken", status="SUCCESS", expires_in=None)
    response = world.get_token(broker, name)
    assert response.headers == {"apiKey": "tok-1"}
    assert response.token.expires_assumed
    assert response.token.lifetime == timedelta(hours=20)


def test_p10_memory_answers_without_any_call(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.faults.calls.clear()
    world.clock.advance(30)
    assert world.get_token(broker, name).source == "memory"
    assert not world.faults.calls


def test_p10_after_thirty_seconds_the_table_is_read_once(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.clock.advance(30.001)
    world.faults.calls.clear()
    assert world.get_token(broker, name).source == "table"
    assert world.faults.calls == {"tokens.read": 1}


def test_p10_another_instance_reads_the_table_and_opens_the_token_once(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.get_token(broker, name)
    other = world.instance()
    world.faults.calls.clear()
    assert world.get_token(other, name).access_token == "tok-1"
    assert world.faults.calls == {"tokens.read": 1, "sealer.open": 1}
    world.clock.advance(31)
    assert world.get_token(other, name).source == "table"
    assert world.faults.calls == {"tokens.read": 2, "sealer.open": 1}


def test_p10_memory_answers_a_login_whatever_the_scope(world: World, broker: Broker) -> None:
    """An account of a login has one token for every scope."""
    name = world.connection("unicommerce", allowed_scopes=["*"])
    world.provider.to = issuing(field="accessToken", status="SUCCESS")
    world.get_token(broker, name, scope="a")
    world.faults.calls.clear()
    assert world.get_token(broker, name, scope="b").source == "memory"
    assert not world.faults.calls


def test_memory_is_no_older_than_its_read(world: World, broker: Broker, name: ConnectionName) -> None:
    """A token that was purged after the read must not stay in memory for more than 30 s."""
    world.provider.to = slow(world.clock.sleep, 5, issuing())
    world.get_token(broker, name)
    world.clock.advance(25.001)
    assert world.get_token(broker, name).source == "table"


def test_memory_serves_for_five_minutes_while_the_store_fails(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.get_token(broker, name)
    world.faults.take_down("tokens")
    world.clock.advance(300)
    response = world.get_token(broker, name)
    assert (response.source, response.access_token) == ("memory", "tok-1")
    world.clock.advance(0.001)
    with pytest.raises(BrokerUnavailable):
        world.get_token(broker, name)


def test_memory_serves_while_kms_is_denied(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.provider.to = issuing("newer-{n}")
    world.clock.advance(3500)
    world.get_token(broker, name, min_ttl=300)
    world.sealer.denied = True
    world.clock.advance(31)
    assert world.get_token(broker, name).access_token == "newer-1"
    with pytest.raises(BrokerUnavailable):
        world.get_token(world.instance(), name)


def test_p2_memory_does_not_serve_an_expired_token_while_the_store_fails(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = issuing(expires_in=60)
    world.get_token(broker, name)
    world.faults.take_down("tokens")
    world.clock.advance(60)
    with pytest.raises(BrokerUnavailable):
        world.get_token(broker, name, min_ttl=0)


def test_a_reported_token_does_not_come_back_from_memory_while_the_store_fails(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    token_id = world.get_token(broker, name).token.token_id
    world.clock.advance(1)
    world.faults.take_down("tokens")
    with pytest.raises(BrokerUnavailable):
        world.get_token(broker, name, rejected=token_id)


def test_p2_a_token_that_expired_during_its_acquisition_is_not_returned(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = slow(world.clock.sleep, 6, issuing(expires_in=5))
    with pytest.raises(BrokerError):
        world.get_token(broker, name, min_ttl=0)


def test_p2_a_token_that_expired_during_the_read_is_not_returned(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """A read with retries can take seconds. The time after it counts."""
    world.provider.to = issuing(expires_in=60)
    world.get_token(broker, name)
    world.clock.advance(57)
    world.faults.before("tokens.read", lambda: world.clock.advance(5))
    response = world.get_token(world.instance(), name, min_ttl=0)
    assert response.access_token == "tok-2"


def test_p2_before_the_reissue_window_the_same_token_is_served(world: World, broker: Broker) -> None:
    name = world.connection("commerce-layer", scope="market:id:1")
    world.get_token(broker, name)
    world.clock.advance(2000)
    response = world.get_token(broker, name, min_ttl=3000)
    assert (response.access_token, response.warnings) == ("tok-1", ("min_ttl_unmet",))
    world.clock.advance(800)
    assert world.get_token(broker, name, min_ttl=3000).access_token == "tok-2"


def test_p5_min_ttl_cannot_force_requests(world: World, broker: Broker, name: ConnectionName) -> None:
    """A caller who always wants the full lifetime causes at most two requests a minute."""
    for _ in range(120):
        world.get_token(broker, name, min_ttl=3600)
        world.clock.advance(1)
    assert len(world.provider) <= 4


def test_a_short_token_is_served_while_our_own_services_fail(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """P2: the longest one that can be had, with a warning."""
    world.get_token(broker, name)
    world.clock.advance(3000)
    world.faults.take_down("secrets")
    response = world.get_token(broker, name, min_ttl=1200)
    assert response.access_token == "tok-1"
    assert "min_ttl_unmet" in response.warnings


def test_another_granted_scope_comes_with_a_warning(world: World, broker: Broker) -> None:
    name = world.connection(scope="a b")
    world.provider.to = issuing(scope="b")
    for response in (
        world.get_token(broker, name),
        world.get_token(broker, name),
        world.get_token(world.instance(), name),
    ):
        assert response.token.scope == "b"
        assert response.warnings == ("scope_differs",)


def test_p8_a_caller_that_is_not_allowed_gets_no_token(world: World, broker: Broker, name: ConnectionName) -> None:
    """Neither from the provider nor from memory or the table, nor while the store fails."""
    with pytest.raises(CallerNotAllowed) as caught:
        world.get_token(broker, name, caller=STRANGER)
    assert STRANGER in caught.value.detail
    assert len(world.provider) == 0
    world.get_token(broker, name)
    for instance in (broker, world.instance()):
        with pytest.raises(CallerNotAllowed):
            world.get_token(instance, name, caller=STRANGER)
    world.faults.take_down("tokens")
    with pytest.raises(BrokerUnavailable):
        world.get_token(broker, name, caller=STRANGER)


def test_p8_a_scope_outside_the_list_is_not_allowed_on_any_path(world: World, broker: Broker) -> None:
    name = world.connection(scope="a b", allowed_scopes=["a", "b"])
    world.get_token(broker, name, scope="a")
    for instance in (broker, world.instance()):
        with pytest.raises(ScopeNotAllowed) as caught:
            world.get_token(instance, name, scope="a c")
        assert "c" in caught.value.detail
    assert len(world.provider) == 1


def test_p8_without_a_list_only_the_connections_own_scope_is_allowed(world: World, broker: Broker) -> None:
    name = world.connection(scope="a b")
    assert world.get_token(broker, name, scope="b").token.scope == "b"
    with pytest.raises(ScopeNotAllowed):
        world.get_token(broker, name, scope="c")
    without = world.connection(connection="no-scope")
    with pytest.raises(ScopeNotAllowed):
        world.get_token(broker, without, scope="a")


def test_a_request_without_scope_gets_the_default_scope(world: World, broker: Broker) -> None:
    name = world.connection(scope="a b")
    assert world.get_token(broker, name).access_token == "tok-1"
    assert world.get_token(broker, name, scope="a b").access_token == "tok-1"
    assert world.get_token(world.instance(), name).access_token == "tok-1"
    assert "scope=a+b" in world.provider.bodies()[0]


def test_p9_settings_apply_within_thirty_seconds(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.settings(name, suspended=True)
    world.clock.advance(30.001)
    with pytest.raises(ConnectionSuspended):
        world.get_token(broker, name)


def test_p9_a_changed_default_scope_applies_within_thirty_seconds(world: World, broker: Broker) -> None:
    name = world.connection(scope="a")
    world.get_token(broker, name)
    world.settings(name, scope="b")
    world.clock.advance(30.001)
    response = world.get_token(broker, name)
    assert (response.access_token, response.token.scope) == ("tok-2", "b")


def test_p9_a_newly_allowed_caller_gets_a_token_at_once(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.settings(name, allowed_callers=["*"])
    assert world.get_token(broker, name, caller=STRANGER).source == "table"


def test_a_suspended_connection_gives_no_token(world: World, broker: Broker) -> None:
    name = world.connection(suspended=True)
    with pytest.raises(ConnectionSuspended):
        world.get_token(broker, name)
    assert len(world.provider) == 0


def test_an_unknown_provider_and_an_unknown_connection_are_different_errors(world: World, broker: Broker) -> None:
    with pytest.raises(UnknownProvider):
        world.get_token(broker, ConnectionName("nobody", "main"))
    with pytest.raises(UnknownConnection):
        world.get_token(broker, ConnectionName("oauth2", "nowhere"))


def test_invalid_stored_settings_are_named(world: World, broker: Broker, name: ConnectionName) -> None:
    world.settings(name, token_url="ftp://x")
    with pytest.raises(ConnectionMisconfigured) as caught:
        world.get_token(broker, name)
    assert [fault.field for fault in caught.value.errors] == ["token_url"]


def test_a_token_with_a_broken_seal_is_replaced(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.sealer.broken = True
    assert world.get_token(world.instance(), name).access_token == "tok-2"


def test_a_token_with_a_broken_seal_is_not_served_while_the_provider_fails(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.get_token(broker, name)
    world.sealer.broken = True
    world.provider.to = answering(503)
    with pytest.raises(BrokerError) as caught:
        world.get_token(world.instance(), name)
    assert caught.value.code == "provider_unavailable"


def test_at_most_thirty_two_scope_sets_live_on_a_connection(world: World, broker: Broker, name: ConnectionName) -> None:
    for number in range(32):
        world.get_token(broker, name, scope=f"scope-{number}")
    for _ in range(2):  # the second time, the key's item exists
        with pytest.raises(TooManyScopeSets):
            world.get_token(broker, name, scope="one-too-many")
    assert len(world.provider) == 32
    assert world.get_token(broker, name, scope="scope-0").access_token == "tok-1"


def test_an_expired_token_makes_room_for_another_scope_set(world: World, broker: Broker, name: ConnectionName) -> None:
    for number in range(32):
        world.get_token(broker, name, scope=f"scope-{number}")
    world.clock.advance(3600)
    assert world.get_token(broker, name, scope="another").access_token == "tok-33"


def test_if_each_token_revokes_the_one_before_there_is_one_scope_set_and_no_memory(
    world: World, broker: Broker
) -> None:
    name = world.connection(issue_revokes_previous=True, allowed_scopes=["*"])
    world.get_token(broker, name, scope="a")
    assert world.get_token(broker, name, scope="a").source == "table"
    for _ in range(2):
        with pytest.raises(TooManyScopeSets):
            world.get_token(broker, name, scope="b")
    assert len(world.provider) == 1


def test_if_each_token_revokes_the_one_before_it_is_renewed_half_a_minute_before_it_expires(
    world: World, broker: Broker
) -> None:
    name = world.connection(issue_revokes_previous=True)
    token = world.get_token(broker, name).token
    assert timedelta() < token.expires_at - token.renew_at <= timedelta(seconds=30)

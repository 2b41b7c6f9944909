"""GET: memory, table, provider; who may have what; and nobody gets a token past its end (P2, P8, P9, P10)."""

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


def test_a_cold_key_is_asked_for_and_handed_out(world: World, broker: Broker, name: ConnectionName) -> None:
    given = world.ask(broker, name)
    assert (given.source, given.access_token, given.warnings) == ("provider", "tok-1", ())
    assert given.token.token_id == fingerprint("tok-1")
    assert given.token.expires_at == world.clock() + timedelta(hours=1)
    assert given.headers == {"Authorization": "Bearer tok-1"}


def test_a_token_is_handed_out_ready_to_send_the_providers_way(world: World, broker: Broker) -> None:
    name = world.connection("unicommerce")
    world.provider.to = issuing(field="accessToken", status="SUCCESS", expires_in=None)
    given = world.ask(broker, name)
    assert given.headers == {"apiKey": "tok-1"}
    assert given.token.expires_assumed
    assert given.token.lifetime == timedelta(hours=20)


def test_p10_memory_answers_without_any_call(world: World, broker: Broker, name: ConnectionName) -> None:
    world.ask(broker, name)
    world.faults.calls.clear()
    world.clock.advance(30)
    assert world.ask(broker, name).source == "memory"
    assert not world.faults.calls


def test_p10_after_thirty_seconds_the_table_is_read_once(world: World, broker: Broker, name: ConnectionName) -> None:
    world.ask(broker, name)
    world.clock.advance(30.001)
    world.faults.calls.clear()
    assert world.ask(broker, name).source == "table"
    assert world.faults.calls == {"tokens.read": 1}


def test_p10_another_instance_reads_the_table_and_opens_the_token_once(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.ask(broker, name)
    other = world.instance()
    world.faults.calls.clear()
    assert world.ask(other, name).access_token == "tok-1"
    assert world.faults.calls == {"tokens.read": 1, "sealer.open": 1}
    world.clock.advance(31)
    assert world.ask(other, name).source == "table"
    assert world.faults.calls == {"tokens.read": 2, "sealer.open": 1}


def test_p10_a_miss_takes_at_most_eight_calls(world: World, broker: Broker, name: ConnectionName) -> None:
    world.ask(broker, name)
    assert world.faults.calls.total() <= 8


def test_memory_is_no_older_than_its_read(world: World, broker: Broker, name: ConnectionName) -> None:
    """A purge between the read and the hand-out must not be outlived by more than 30 s."""
    world.provider.to = slow(world.clock.sleep, 5, issuing())
    world.ask(broker, name)
    world.clock.advance(25.001)
    assert world.ask(broker, name).source == "table"


def test_memory_serves_for_five_minutes_while_the_store_fails(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.ask(broker, name)
    world.faults.take_down("tokens")
    world.clock.advance(300)
    given = world.ask(broker, name)
    assert (given.source, given.access_token) == ("memory", "tok-1")
    world.clock.advance(0.001)
    with pytest.raises(BrokerUnavailable):
        world.ask(broker, name)


def test_memory_serves_while_kms_is_denied(world: World, broker: Broker, name: ConnectionName) -> None:
    world.ask(broker, name)
    world.provider.to = issuing("newer-{n}")
    world.clock.advance(3500)
    world.ask(broker, name, min_ttl=300)
    world.sealer.denied = True
    world.clock.advance(31)
    assert world.ask(broker, name).access_token == "newer-1"
    with pytest.raises(BrokerUnavailable):
        world.ask(world.instance(), name)


def test_p2_memory_does_not_serve_past_the_end_while_the_store_fails(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = issuing(expires_in=60)
    world.ask(broker, name)
    world.faults.take_down("tokens")
    world.clock.advance(60)
    with pytest.raises(BrokerUnavailable):
        world.ask(broker, name, min_ttl=0)


def test_a_reported_token_does_not_come_back_from_memory_while_the_store_fails(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    token_id = world.ask(broker, name).token.token_id
    world.clock.advance(1)
    world.faults.take_down("tokens")
    with pytest.raises(BrokerUnavailable):
        world.ask(broker, name, rejected=token_id)


def test_p2_no_token_is_handed_out_that_ended_while_it_was_asked_for(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = slow(world.clock.sleep, 6, issuing(expires_in=5))
    with pytest.raises(BrokerError):
        world.ask(broker, name, min_ttl=0)


def test_p2_no_token_is_handed_out_that_ended_while_the_table_was_read(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """A read may take seconds, by retries: it is judged by the time after it."""
    world.provider.to = issuing(expires_in=60)
    world.ask(broker, name)
    world.clock.advance(57)
    world.faults.before("tokens.read", lambda: world.clock.advance(5))
    given = world.ask(world.instance(), name, min_ttl=0)
    assert given.access_token == "tok-2"


def test_p2_a_token_shorter_than_min_ttl_is_replaced(world: World, broker: Broker, name: ConnectionName) -> None:
    world.ask(broker, name)
    world.clock.advance(3000)
    assert world.ask(broker, name, min_ttl=600).access_token == "tok-1"
    assert world.ask(broker, name, min_ttl=601).access_token == "tok-2"


def test_p2_the_longest_is_served_with_a_warning_where_no_longer_can_be_had(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = issuing(expires_in=300)
    world.ask(broker, name)
    world.clock.advance(40)
    given = world.ask(broker, name, min_ttl=301)
    assert (given.access_token, given.warnings) == ("tok-1", ("min_ttl_unmet",))


def test_p2_before_the_provider_reissues_the_same_token_is_served(world: World, broker: Broker) -> None:
    name = world.connection("commerce-layer", scope="market:id:1")
    world.ask(broker, name)
    world.clock.advance(2000)
    given = world.ask(broker, name, min_ttl=3000)
    assert (given.access_token, given.warnings) == ("tok-1", ("min_ttl_unmet",))
    world.clock.advance(800)
    assert world.ask(broker, name, min_ttl=3000).access_token == "tok-2"


def test_p5_min_ttl_is_no_lever(world: World, broker: Broker, name: ConnectionName) -> None:
    """Whoever asks for the whole lifetime each time makes two requests a minute and no more."""
    for _ in range(120):
        world.ask(broker, name, min_ttl=3600)
        world.clock.advance(1)
    assert len(world.provider) <= 4


def test_a_short_token_is_served_while_our_own_services_keep_a_longer_one_away(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """P2: else the longest, with a warning."""
    world.ask(broker, name)
    world.clock.advance(3000)
    world.faults.take_down("vault")
    given = world.ask(broker, name, min_ttl=1200)
    assert given.access_token == "tok-1"
    assert "min_ttl_unmet" in given.warnings


def test_what_the_provider_granted_is_told(world: World, broker: Broker) -> None:
    name = world.connection(scope="a b")
    world.provider.to = issuing(scope="b")
    for given in (world.ask(broker, name), world.ask(broker, name), world.ask(world.instance(), name)):
        assert given.token.scope == "b"
        assert given.warnings == ("scope_differs",)


def test_p8_a_stranger_gets_nothing_from_anywhere(world: World, broker: Broker, name: ConnectionName) -> None:
    """Not from the provider, the memory, the table, nor while the store fails."""
    with pytest.raises(CallerNotAllowed) as caught:
        world.ask(broker, name, caller=STRANGER)
    assert STRANGER in caught.value.detail
    assert len(world.provider) == 0
    world.ask(broker, name)
    for instance in (broker, world.instance()):
        with pytest.raises(CallerNotAllowed):
            world.ask(instance, name, caller=STRANGER)
    world.faults.take_down("tokens")
    with pytest.raises(BrokerUnavailable):
        world.ask(broker, name, caller=STRANGER)


def test_p8_a_denied_caller_gets_nothing_although_allowed(world: World, broker: Broker) -> None:
    name = world.connection(allowed_callers=["*"], denied_callers=[STRANGER])
    world.ask(broker, name)
    with pytest.raises(CallerNotAllowed):
        world.ask(broker, name, caller=STRANGER)


def test_p8_an_empty_list_admits_nobody(world: World, broker: Broker) -> None:
    name = world.connection(allowed_callers=[])
    with pytest.raises(CallerNotAllowed):
        world.ask(broker, name)


def test_p8_a_scope_outside_the_list_is_refused_on_every_path(world: World, broker: Broker) -> None:
    name = world.connection(scope="a b", allowed_scopes=["a", "b"])
    world.ask(broker, name, scope="a")
    for instance in (broker, world.instance()):
        with pytest.raises(ScopeNotAllowed) as caught:
            world.ask(instance, name, scope="a c")
        assert "c" in caught.value.detail
    assert len(world.provider) == 1


def test_p8_without_a_list_only_the_connections_own_scope_is_allowed(world: World, broker: Broker) -> None:
    name = world.connection(scope="a b")
    assert world.ask(broker, name, scope="b").token.scope == "b"
    with pytest.raises(ScopeNotAllowed):
        world.ask(broker, name, scope="c")
    without = world.connection(connection="no-scope")
    with pytest.raises(ScopeNotAllowed):
        world.ask(broker, without, scope="a")


def test_a_request_without_scope_stands_for_the_connections_own(world: World, broker: Broker) -> None:
    name = world.connection(scope="a b")
    assert world.ask(broker, name).access_token == "tok-1"
    assert world.ask(broker, name, scope="a b").access_token == "tok-1"
    assert world.ask(world.instance(), name).access_token == "tok-1"
    assert "scope=a+b" in world.provider.bodies()[0]


def test_p9_settings_act_within_thirty_seconds(world: World, broker: Broker, name: ConnectionName) -> None:
    world.ask(broker, name)
    world.settings(name, suspended=True)
    world.clock.advance(30.001)
    with pytest.raises(ConnectionSuspended):
        world.ask(broker, name)


def test_p9_a_changed_default_scope_acts_within_thirty_seconds(world: World, broker: Broker) -> None:
    name = world.connection(scope="a")
    world.ask(broker, name)
    world.settings(name, scope="b")
    world.clock.advance(30.001)
    given = world.ask(broker, name)
    assert (given.access_token, given.token.scope) == ("tok-2", "b")


def test_p9_an_admitted_caller_need_not_wait_for_memory_to_pass(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.ask(broker, name)
    world.settings(name, allowed_callers=["*"])
    assert world.ask(broker, name, caller=STRANGER).source == "table"


def test_a_token_of_another_endpoint_is_not_served_any_more(world: World, broker: Broker, name: ConnectionName) -> None:
    """It belongs to another account or system."""
    world.ask(broker, name)
    world.settings(name, token_url="https://other.example/token")
    assert world.ask(world.instance(), name).access_token == "tok-2"


def test_a_suspended_connection_gives_nothing(world: World, broker: Broker) -> None:
    name = world.connection(suspended=True)
    with pytest.raises(ConnectionSuspended):
        world.ask(broker, name)
    assert len(world.provider) == 0


def test_unknown_names_are_told_apart(world: World, broker: Broker) -> None:
    with pytest.raises(UnknownProvider):
        world.ask(broker, ConnectionName("nobody", "main"))
    with pytest.raises(UnknownConnection):
        world.ask(broker, ConnectionName("oauth2", "nowhere"))


def test_settings_that_were_broken_by_hand_are_named(world: World, broker: Broker, name: ConnectionName) -> None:
    world.settings(name, token_url="ftp://x")
    with pytest.raises(ConnectionMisconfigured) as caught:
        world.ask(broker, name)
    assert [fault.field for fault in caught.value.errors] == ["token_url"]


def test_a_broken_seal_is_asked_for_anew(world: World, broker: Broker, name: ConnectionName) -> None:
    world.ask(broker, name)
    world.sealer.broken = True
    assert world.ask(world.instance(), name).access_token == "tok-2"


def test_a_broken_seal_without_a_provider_is_no_token(world: World, broker: Broker, name: ConnectionName) -> None:
    world.ask(broker, name)
    world.sealer.broken = True
    world.provider.to = answering(503)
    with pytest.raises(BrokerError) as caught:
        world.ask(world.instance(), name)
    assert caught.value.code == "provider_unavailable"


def test_at_most_thirty_two_scope_sets_live_on_a_connection(world: World, broker: Broker, name: ConnectionName) -> None:
    for number in range(32):
        world.ask(broker, name, scope=f"scope-{number}")
    for _ in range(2):  # the second time, the key's item exists
        with pytest.raises(TooManyScopeSets):
            world.ask(broker, name, scope="one-too-many")
    assert len(world.provider) == 32
    assert world.ask(broker, name, scope="scope-0").access_token == "tok-1"


def test_a_scope_set_that_has_ended_makes_room(world: World, broker: Broker, name: ConnectionName) -> None:
    for number in range(32):
        world.ask(broker, name, scope=f"scope-{number}")
    world.clock.advance(3600)
    assert world.ask(broker, name, scope="another").access_token == "tok-33"


def test_where_each_issue_revokes_the_one_before_there_is_one_scope_set_and_no_memory(
    world: World, broker: Broker
) -> None:
    name = world.connection(issue_revokes_previous=True, allowed_scopes=["*"])
    world.ask(broker, name, scope="a")
    assert world.ask(broker, name, scope="a").source == "table"
    for _ in range(2):
        with pytest.raises(TooManyScopeSets):
            world.ask(broker, name, scope="b")
    assert len(world.provider) == 1


def test_where_each_issue_revokes_the_one_before_a_token_is_renewed_half_a_minute_before_its_end(
    world: World, broker: Broker
) -> None:
    name = world.connection(issue_revokes_previous=True)
    token = world.ask(broker, name).token
    assert timedelta() < token.expires_at - token.renew_at <= timedelta(seconds=30)

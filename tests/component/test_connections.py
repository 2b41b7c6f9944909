"""Connections: settings, versions and states; never a secret or a token."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.fakes import CALLER, World, answering, issuing, refusing
from token_broker.core.names import ConnectionName, fingerprint
from token_broker.errors import (
    BrokerError,
    ConnectionMisconfigured,
    InvalidRequest,
    ProviderError,
    UnknownConnection,
    UnknownProvider,
    VersionConflict,
)
from token_broker.service import Broker
from token_broker.service.renew import RenewalOutcome

NAME = ConnectionName("oauth2", "shop")
SETTINGS: dict[str, Any] = {"allowed_callers": [CALLER], "token_url": "https://id.example/token"}


def put(broker: Broker, *, expected: str | None = None, absent: bool = False, **settings: Any) -> tuple[str, bool]:
    change = broker.connections.put(NAME, {**SETTINGS, **settings}, expected=expected, absent=absent)
    return change.connection.version, change.is_new


def state_of(broker: Broker, name: ConnectionName) -> str:
    return broker.connections.show(name).state


def test_a_put_creates_and_then_replaces(broker: Broker) -> None:
    first, is_new = put(broker)
    assert is_new
    second, is_new = put(broker, lifetime_s=60)
    assert not is_new
    assert first != second
    shown = broker.connections.show(NAME)
    assert (shown.version, shown.settings) == (second, {**SETTINGS, "lifetime_s": 60})


def test_a_put_over_another_version_is_a_conflict(broker: Broker) -> None:
    version, _ = put(broker)
    with pytest.raises(VersionConflict):
        put(broker, expected="other")
    with pytest.raises(VersionConflict):
        put(broker, absent=True)
    put(broker, expected=version)


def test_a_put_names_every_fault_and_stores_nothing(world: World, broker: Broker) -> None:
    with pytest.raises(InvalidRequest) as caught:
        broker.connections.put(NAME, {"token_url": "x", "lifetime_s": 0, "colour": "red"}, expected=None, absent=False)
    assert {fault.field for fault in caught.value.errors} == {"allowed_callers", "token_url", "lifetime_s", "colour"}
    assert world.connections.get(NAME) is None


def test_an_unknown_provider_and_an_unknown_connection_are_different_errors(broker: Broker) -> None:
    with pytest.raises(UnknownProvider):
        broker.connections.show(ConnectionName("nobody", "main"))
    with pytest.raises(UnknownConnection):
        broker.connections.show(NAME)
    with pytest.raises(UnknownConnection):
        broker.connections.delete(NAME, expected=None)


def test_pages_list_all_connections(world: World, broker: Broker) -> None:
    for number in range(5):
        world.connection(connection=f"c{number}")
    found = []
    last = None
    while True:
        states, last = broker.connections.page(2, last)
        found += [state.name.connection for state in states]
        if last is None:
            break
    assert found == ["c0", "c1", "c2", "c3", "c4"]
    with pytest.raises(InvalidRequest) as caught:
        broker.connections.page(2, ConnectionName("oauth2", "c0"), provider="unidy")
    assert [fault.field for fault in caught.value.errors] == ["cursor"]


def test_a_connection_without_tokens_is_idle(broker: Broker, name: ConnectionName) -> None:
    assert state_of(broker, name) == "idle"


def test_a_connection_with_a_live_token_is_ok_until_it_expires(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.get_token(broker, name)
    world.get_token(broker, name, scope="a")
    state = broker.connections.show(name)
    assert (state.state, state.live) == ("ok", 2)
    assert state.next_expiry == world.clock() + timedelta(hours=1)
    assert {record.token.token_id for record in state.records if record.token} == {
        fingerprint("tok-1"),
        fingerprint("tok-2"),
    }
    world.clock.advance(3600)
    assert state_of(broker, name) == "idle"


@pytest.mark.parametrize("outage", ["503", "refused"])
def test_a_connection_whose_last_request_failed_is_failing_although_its_token_is_valid(
    world: World, broker: Broker, name: ConnectionName, outage: str
) -> None:
    world.get_token(broker, name)
    world.clock.advance(3000)
    world.provider.to = answering(503) if outage == "503" else refusing("invalid_client")
    world.renew(broker, name)
    state = broker.connections.show(name)
    assert (state.state, state.live) == ("failing", 1)
    assert state.last_failure is not None
    assert state.last_failure.at == world.clock()


def test_a_success_ends_the_state_failing(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = answering(503)
    with pytest.raises(ProviderError):
        world.get_token(broker, name)
    world.provider.to = issuing()
    world.clock.advance(2)
    world.get_token(broker, name)
    assert state_of(broker, name) == "ok"


def test_a_connection_without_secret_is_misconfigured_after_the_first_request(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.secrets.delete(name)
    with pytest.raises(ConnectionMisconfigured):
        world.get_token(broker, name)
    assert state_of(broker, name) == "misconfigured"


def test_a_connection_with_invalid_stored_settings_is_misconfigured(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.settings(name, token_url="ftp://x")
    assert state_of(broker, name) == "misconfigured"


def test_the_state_suspended_comes_before_all_others(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = answering(503)
    with pytest.raises(ProviderError):
        world.get_token(broker, name)
    world.settings(name, suspended=True)
    assert state_of(broker, name) == "suspended"


def test_a_failure_under_other_settings_does_not_count(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = refusing("invalid_request")
    with pytest.raises(ProviderError):
        world.get_token(broker, name)
    world.settings(name, client_auth="form")
    assert state_of(broker, name) == "idle"


def test_neither_secret_nor_token_is_read(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.faults.calls.clear()
    broker.connections.show(name)
    broker.connections.page(10, None)
    broker.connections.put(NAME, SETTINGS, expected=None, absent=False)
    broker.connections.delete(name, expected=None)
    assert not [call for call in world.faults.calls if call.startswith(("secrets.", "sealer."))]


def test_p9_settings_that_the_provider_sees_make_the_tokens_due(world: World, broker: Broker) -> None:
    world.secrets.put(NAME, {"client_id": "id", "client_secret": "secret"})
    put(broker)
    world.get_token(broker, NAME)
    world.clock.advance(60)
    put(broker, params={"audience": "api"})
    record = world.record(NAME)
    assert (record.stale_at, record.due_at) == (world.clock(), world.clock())
    assert world.renew(broker, NAME).outcome is RenewalOutcome.RENEWED


@pytest.mark.parametrize(
    "changed", [{"allowed_callers": ["*"]}, {"api_base_url": "https://api.example"}, {"suspended": True}]
)
def test_other_settings_do_not_make_the_tokens_due(world: World, broker: Broker, changed: dict[str, Any]) -> None:
    world.secrets.put(NAME, {"client_id": "id", "client_secret": "secret"})
    put(broker)
    world.get_token(broker, NAME)
    put(broker, **changed)
    assert world.record(NAME).stale_at is None


def test_a_connection_that_is_always_kept_warm_is_due_at_once(world: World, broker: Broker) -> None:
    put(broker, keep_warm="always", scope="a")
    assert world.record(NAME, "a").due_at == world.clock()


@pytest.mark.parametrize("settings", [{"keep_warm": "always", "suspended": True}, {"keep_warm": "used"}, {}])
def test_another_connection_is_not_due_at_once(world: World, broker: Broker, settings: dict[str, Any]) -> None:
    put(broker, scope="a", **settings)
    assert not world.record(NAME, "a").exists


def test_a_deleted_connection_has_no_tokens_and_the_worker_revokes_them(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.get_token(broker, name)
    result = broker.connections.delete(name, expected=None)
    assert result.dropped == 1
    assert [(item.token_id, item.reason) for item in result.not_revoked] == [(fingerprint("tok-1"), "queued")]
    with pytest.raises(UnknownConnection):
        world.get_token(world.instance(), name)
    (message,) = world.queue.take()
    assert broker.renew(name, message.scope_id, message.token_id).outcome is RenewalOutcome.REVOKED
    assert (world.record(name).token, world.record(name).due_at, world.retired(name)) == (None, None, [])


def test_a_revocation_that_fails_after_a_delete_is_retried(world: World, broker: Broker, name: ConnectionName) -> None:
    """The settings are deleted, but the tokens to revoke stay due."""
    world.get_token(broker, name)
    broker.connections.delete(name, expected=None)
    world.revoker.to = answering(503)
    assert world.retry_revocations(broker, name) == [RenewalOutcome.NOT_REVOKED]
    (retired,) = world.retired(name)
    assert (retired.token_id, retired.due_at) == (fingerprint("tok-1"), world.clock() + timedelta(minutes=5))
    world.revoker.to = answering(200, {})
    assert world.retry_revocations(broker, name) == [RenewalOutcome.REVOKED]
    assert world.retired(name) == []


def test_a_delete_without_a_revocation_endpoint_says_so(world: World, broker: Broker) -> None:
    name = world.connection(revocation_url=None)
    world.get_token(broker, name)
    result = broker.connections.delete(name, expected=None)
    assert [item.reason for item in result.not_revoked] == ["not_supported"]
    assert world.queue.take() == []


def test_a_delete_of_another_version_is_a_conflict(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    with pytest.raises(VersionConflict):
        broker.connections.delete(name, expected="other")
    assert world.get_token(world.instance(), name).access_token == "tok-1"


@pytest.mark.parametrize("call", ["tokens.put_retired", "tokens.save", "connections.delete"])
def test_an_interrupted_delete_can_be_repeated(world: World, broker: Broker, name: ConnectionName, call: str) -> None:
    """The table failed in the middle: asked again, the tokens go too."""
    world.get_token(broker, name)
    world.faults.fail(call)
    with pytest.raises(BrokerError):
        broker.connections.delete(name, expected=None)
    result = broker.connections.delete(name, expected=None)
    assert [item.token_id for item in result.not_revoked] == [fingerprint("tok-1")]
    assert (world.record(name).token, world.connections.get(name)) == (None, None)


def test_invalid_stored_settings_can_be_deleted(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.settings(name, token_url="ftp://x")
    broker.connections.delete(name, expected=None)
    assert world.connections.get(name) is None
    assert world.record(name).token is None

"""What must not cause another request to the provider: unchanged settings, scopes of a login, our own slowness."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.fakes import World, answering, issuing
from tests.fakes.senders import refusing
from token_broker.core.names import ConnectionName
from token_broker.errors import (
    BrokerUnavailable,
    ProviderRateLimited,
    ProviderRefused,
    ProviderUnavailable,
    TooManyScopeSets,
)
from token_broker.service import Broker


def put_again(world: World, broker: Broker, name: ConnectionName, **changes: Any) -> None:
    stored = world.connections.get(name)
    assert stored is not None
    broker.connections.put(name, {**stored.settings, **changes}, expected=None, absent=False)


def test_p4_settings_that_the_provider_does_not_see_clear_no_refusal(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """A deployment that puts its settings in a loop must not lock the account."""
    world.provider.to = refusing("invalid_client")
    with pytest.raises(ProviderRefused):
        world.get_token(broker, name)
    put_again(world, broker, name)
    put_again(world, broker, name, keep_warm="never")
    with pytest.raises(ProviderRefused):
        world.get_token(broker, name)
    assert len(world.provider) == 1
    put_again(world, broker, name, client_auth="form")
    with pytest.raises(ProviderRefused):
        world.get_token(broker, name)
    assert len(world.provider) == 2


def test_p4_changed_settings_do_not_clear_a_rate_limit(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = answering(429, {}, {"retry-after": "3000"})
    with pytest.raises(ProviderRateLimited):
        world.get_token(broker, name)
    put_again(world, broker, name, client_auth="form")
    with pytest.raises(ProviderRateLimited):
        world.get_token(broker, name)
    assert len(world.provider) == 1


def test_a_purged_token_does_not_come_back_from_memory_while_a_service_fails(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.get_token(broker, name)
    world.instance().purge_and_revoke(name, None, deadline=world.clock())
    world.clock.advance(31)
    world.faults.take_down("secrets")
    for _ in range(2):
        with pytest.raises(BrokerUnavailable):
            world.get_token(broker, name)


def test_an_account_of_a_login_has_one_key_for_every_scope(world: World) -> None:
    name = world.connection("unicommerce", allowed_scopes=["*"])
    world.provider.to = issuing(field="accessToken", status="SUCCESS")
    tokens = {world.get_token(world.instance(), name, scope=scope).access_token for scope in (None, "a", "b")}
    assert tokens == {"tok-1"}
    assert len(world.provider) == 1


def test_if_each_token_revokes_the_one_before_a_lease_counts_as_a_scope_set(world: World, broker: Broker) -> None:
    name = world.connection(issue_revokes_previous=True, allowed_scopes=["*"])
    errors: list[object] = []

    def other_scope() -> None:
        with pytest.raises(TooManyScopeSets) as caught:
            world.get_token(world.instance(), name, scope="b")
        errors.append(caught.value)

    world.faults.before("secrets.read", other_scope)
    assert world.get_token(broker, name, scope="a").access_token == "tok-1"
    assert len(errors) == len(world.provider) == 1


def test_our_own_slowness_is_not_a_failure_of_the_provider(world: World, broker: Broker, name: ConnectionName) -> None:
    world.faults.before("secrets.read", lambda: world.clock.advance(13))
    with pytest.raises(BrokerUnavailable):
        world.get_token(broker, name)
    assert [failure.code for failure in world.record(name).failures()] == ["broker_unavailable"]
    assert len(world.provider) == 0


def test_p2_a_token_that_expires_while_it_is_opened_is_not_returned(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = issuing(expires_in=60)
    world.get_token(broker, name)
    world.clock.advance(57)
    world.faults.before("sealer.open", lambda: world.clock.advance(5))
    with pytest.raises(ProviderUnavailable):
        world.get_token(world.instance(), name, min_ttl=0)


def test_a_refusal_holds_while_the_secret_cannot_be_read(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = refusing("invalid_client")
    with pytest.raises(ProviderRefused):
        world.get_token(broker, name)
    world.faults.take_down("secrets")
    with pytest.raises(ProviderRefused):
        world.get_token(broker, name)


def test_keep_warm_always_acquires_a_token_once_the_secret_exists(world: World, broker: Broker) -> None:
    name = ConnectionName("oauth2", "warm")
    settings = {"token_url": "https://id.example/token", "allowed_callers": ["*"], "keep_warm": "always"}
    broker.connections.put(name, settings, expected=None, absent=True)
    world.renew(broker, name)
    due_at = world.record(name).due_at
    assert due_at is not None
    world.secrets.put(name, {"client_id": "id", "client_secret": "secret"})
    world.clock.advance(to=due_at)
    world.renew(broker, name)
    assert world.record(name).token is not None


def test_a_revocation_with_refused_credentials_is_not_repeated(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.get_token(broker, name)
    world.revoker.to = refusing("invalid_client")
    result = broker.purge_and_revoke(name, None, deadline=world.clock() + timedelta(seconds=26))
    assert [item.reason for item in result.not_revoked] == ["provider_refused"]
    assert world.retired(name) == []
    assert len(world.revoker) == 1

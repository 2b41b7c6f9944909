"""What must not make the broker ask again: settings that change nothing, scopes of a login, our own slowness."""

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


def test_p4_settings_that_change_nothing_for_the_provider_lift_no_refusal(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """A deployment that puts its settings in a loop must not lock the account."""
    world.provider.to = refusing("invalid_client")
    with pytest.raises(ProviderRefused):
        world.ask(broker, name)
    put_again(world, broker, name)
    put_again(world, broker, name, keep_warm="never")
    with pytest.raises(ProviderRefused):
        world.ask(broker, name)
    assert len(world.provider) == 1
    put_again(world, broker, name, client_auth="form")
    with pytest.raises(ProviderRefused):
        world.ask(broker, name)
    assert len(world.provider) == 2


def test_p4_no_settings_lift_a_wish_to_be_left_alone(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = answering(429, {}, {"retry-after": "3000"})
    with pytest.raises(ProviderRateLimited):
        world.ask(broker, name)
    put_again(world, broker, name, client_auth="form")
    with pytest.raises(ProviderRateLimited):
        world.ask(broker, name)
    assert len(world.provider) == 1


def test_a_purged_token_does_not_come_back_from_memory_in_need(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.ask(broker, name)
    world.instance().purge(name, None, deadline=world.clock())
    world.clock.advance(31)
    world.faults.take_down("vault")
    for _ in range(2):
        with pytest.raises(BrokerUnavailable):
            world.ask(broker, name)


def test_one_account_of_a_login_is_one_key_whatever_scope_is_asked_for(world: World) -> None:
    name = world.connection("unicommerce", allowed_scopes=["*"])
    world.provider.to = issuing(field="accessToken", status="SUCCESS")
    given = {world.ask(world.instance(), name, scope=scope).access_token for scope in (None, "a", "b")}
    assert given == {"tok-1"}
    assert len(world.provider) == 1


def test_where_each_issue_revokes_the_one_before_a_lease_counts_as_a_scope_set(world: World, broker: Broker) -> None:
    name = world.connection(issue_revokes_previous=True, allowed_scopes=["*"])
    refused: list[object] = []

    def other_scope() -> None:
        with pytest.raises(TooManyScopeSets) as caught:
            world.ask(world.instance(), name, scope="b")
        refused.append(caught.value)

    world.faults.before("vault.read", other_scope)
    assert world.ask(broker, name, scope="a").access_token == "tok-1"
    assert len(refused) == len(world.provider) == 1


def test_our_own_slowness_is_no_failure_of_the_provider(world: World, broker: Broker, name: ConnectionName) -> None:
    world.faults.before("vault.read", lambda: world.clock.advance(13))
    with pytest.raises(BrokerUnavailable):
        world.ask(broker, name)
    assert world.record(name).failures() == ()
    assert len(world.provider) == 0


def test_p2_a_token_that_ends_while_it_is_opened_is_not_handed_out(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = issuing(expires_in=60)
    world.ask(broker, name)
    world.clock.advance(57)
    world.faults.before("sealer.open", lambda: world.clock.advance(5))
    with pytest.raises(ProviderUnavailable):
        world.ask(world.instance(), name, min_ttl=0)


def test_a_refusal_stays_one_while_the_secret_cannot_be_looked_at(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = refusing("invalid_client")
    with pytest.raises(ProviderRefused):
        world.ask(broker, name)
    world.faults.take_down("vault")
    with pytest.raises(ProviderRefused):
        world.ask(broker, name)


def test_keep_warm_always_warms_once_the_secret_is_there(world: World, broker: Broker) -> None:
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


def test_revocations_that_meet_refused_credentials_are_not_repeated(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.ask(broker, name)
    world.revoker.to = refusing("invalid_client")
    done = broker.purge(name, None, deadline=world.clock() + timedelta(seconds=26))
    assert [item.reason for item in done.not_revoked] == ["provider_refused"]
    world.clock.advance(600)
    world.renew(broker, name)
    assert len(world.revoker) == 1

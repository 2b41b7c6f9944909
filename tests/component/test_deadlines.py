"""Credentials and refresh tokens that expire are shown days ahead."""

from __future__ import annotations

from datetime import timedelta

from tests.fakes import World, answering, issuing
from tests.unit.grant_requests import jwt
from token_broker.core.expiries import ExpiryDate
from token_broker.core.names import ConnectionName
from token_broker.http.responses import timestamp
from token_broker.service import Broker
from token_broker.service.renew import RenewalOutcome

DAY = timedelta(days=1)


def days_left(world: World, deadlines: tuple[ExpiryDate, ...]) -> dict[str, int]:
    return {deadline.what: round(deadline.days_left(world.clock())) for deadline in deadlines}


def test_expiring_credentials_show_in_the_state_and_at_each_renewal(world: World, broker: Broker) -> None:
    end = timestamp(world.clock() + 20 * DAY)
    name = world.connection(credentials_expire_at=end)
    world.get_token(broker, name)
    world.clock.advance(3000)
    renewal = world.renew(broker, name)
    assert renewal.outcome is RenewalOutcome.RENEWED
    assert days_left(world, renewal.deadlines) == days_left(world, broker.connections.show(name).deadlines)
    assert days_left(world, renewal.deadlines) == {"credentials": 20}
    world.clock.advance(DAY.total_seconds() * 25)
    assert days_left(world, broker.connections.show(name).deadlines) == {"credentials": -5}


def test_the_expiry_of_a_refresh_token_shows_until_it_was_sent(world: World, broker: Broker) -> None:
    end = world.clock() + 14 * DAY
    name = world.connection("ucommerce")
    world.provider.to = issuing(expires_in=300, refresh_token=jwt(exp=end.timestamp()))
    world.get_token(broker, name)
    (deadline,) = broker.connections.show(name).deadlines
    assert (deadline.what, deadline.scope, deadline.at) == ("refresh_token", "", end)
    world.clock.advance(250)
    world.provider.to = answering(503)
    world.renew(broker, name)
    assert broker.connections.show(name).deadlines == ()


def test_without_an_expiry_there_is_no_deadline(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    assert broker.connections.show(name).deadlines == ()


def test_a_renewal_says_how_often_the_provider_failed(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.provider.to = answering(503)
    world.clock.advance(3000)
    failed = [world.renew(broker, name).consecutive_failures]
    for _ in range(3):
        world.clock.advance(600)
        failed.append(world.renew(broker, name).consecutive_failures)
    assert failed[:1] == [1]
    assert failed == sorted(failed)
    assert failed[-1] > 1

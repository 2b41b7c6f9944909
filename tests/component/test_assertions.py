"""A connection whose assertions are signed outside: when signatures are made, and what a failed one means."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.fakes import World, in_turn, issuing, refusing
from tests.signing_keys import private_key
from token_broker.core.names import ConnectionName
from token_broker.errors import BrokerUnavailable, ConnectionMisconfigured
from token_broker.service import Broker

PROVIDER = "oauth2-private-key-jwt"


@pytest.fixture
def signer(world: World) -> ConnectionName:
    name = world.connection(PROVIDER)
    world.signing_keys.pems[name] = private_key("P-256")
    return name


def assertions(world: World) -> list[dict[str, Any]]:
    """The claims of the assertions that were sent, in order."""
    jwts = [parse_qs(body)["client_assertion"][0] for body in world.provider.bodies()]
    return [json.loads(base64.urlsafe_b64decode(jwt.split(".")[1] + "==")) for jwt in jwts]


def test_an_assertion_says_who_asks_whom_and_when(world: World, broker: Broker, signer: ConnectionName) -> None:
    world.get_token(broker, signer)
    (claims,) = assertions(world)
    now = int(world.clock().timestamp())
    jti = claims.pop("jti")
    assert claims == {"iss": "id", "sub": "id", "aud": "https://id.example", "iat": now, "exp": now + 300}
    assert jti


def test_a_refused_refresh_token_and_the_new_grant_have_an_assertion_each(
    world: World, broker: Broker, signer: ConnectionName
) -> None:
    world.provider.to = in_turn(
        issuing(refresh_token="refresh-{n}", expires_in=300), refusing("invalid_grant"), issuing("second-{n}")
    )
    world.get_token(broker, signer)
    world.clock.advance(250)
    world.renew(broker, signer)
    assert len({claims["jti"] for claims in assertions(world)}) == len(world.provider) == world.signing_keys.signed == 3


def test_no_request_is_sent_or_counted_without_a_signature(
    world: World, broker: Broker, signer: ConnectionName
) -> None:
    world.signing_keys.denied = True
    with pytest.raises(BrokerUnavailable):
        world.get_token(broker, signer)
    del world.signing_keys.pems[signer]
    world.signing_keys.denied = False
    world.clock.advance(60)
    with pytest.raises(ConnectionMisconfigured):
        world.get_token(broker, signer)
    assert len(world.provider) == 0


def test_a_signature_that_fails_after_a_request_keeps_what_was_sent(
    world: World, broker: Broker, signer: ConnectionName
) -> None:
    """The refresh token was refused, and the assertion of the new grant cannot be signed."""
    world.provider.to = issuing(refresh_token="refresh-{n}", expires_in=300)
    world.get_token(broker, signer)
    world.clock.advance(250)

    def refuse_and_deny(*arguments: Any) -> Any:
        world.signing_keys.denied = True
        return refusing("invalid_grant")(*arguments)

    world.provider.to = refuse_and_deny
    with pytest.raises(BrokerUnavailable):
        world.renew(broker, signer)
    refresh_token, failure = world.record(signer).refresh_token, world.record(signer).failure
    assert refresh_token is None or refresh_token.sent
    assert failure is not None
    assert failure.code == "broker_unavailable"
    world.signing_keys.denied = False
    world.provider.to = issuing("later-{n}")
    world.clock.advance(120)
    assert world.get_token(broker, signer).access_token == "later-1"

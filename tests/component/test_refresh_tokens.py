"""P6: no refresh token is lost or sent twice, wherever a renewal is interrupted."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qs

import pytest

from tests.fakes import World, answering, calling_back, dying, hanging, in_turn, issuing, refusing, unreachable
from token_broker.core.names import ConnectionName, TokenKey, fingerprint
from token_broker.ports import Send
from token_broker.service import Broker
from token_broker.service.renew import RenewalOutcome


@pytest.fixture
def store(world: World) -> ConnectionName:
    """A connection of ucommerce: tokens of 300 s, with rotating refresh tokens."""
    world.provider.to = issuing(refresh_token="refresh-{n}", expires_in=300)
    return world.connection("ucommerce")


def sent(world: World) -> list[str]:
    """The refresh tokens that were sent, in order."""
    forms = [parse_qs(body) for body in world.provider.bodies()]
    return [form["refresh_token"][0] for form in forms if "refresh_token" in form]


def renew(world: World, broker: Broker, name: ConnectionName) -> None:
    world.clock.advance(250)
    world.renew(broker, name)


def test_a_renewal_refreshes_and_stores_the_new_pair(world: World, broker: Broker, store: ConnectionName) -> None:
    world.get_token(broker, store)
    for _ in range(3):
        renew(world, broker, store)
    assert sent(world) == ["refresh-1", "refresh-2", "refresh-3"]
    assert len(world.connect) == 1
    refresh = world.record(store).refresh_token
    assert refresh is not None
    assert (refresh.refresh_id, refresh.sent) == (fingerprint("refresh-4"), False)


def test_a_refresh_token_is_marked_before_it_is_sent(world: World, broker: Broker, store: ConnectionName) -> None:
    world.get_token(broker, store)
    during = []
    world.provider.to = calling_back(lambda: during.append(world.record(store).refresh_token), world.provider.to)
    renew(world, broker, store)
    (refresh,) = during
    assert refresh is not None
    assert (refresh.refresh_id, refresh.sent) == (fingerprint("refresh-1"), True)


def test_a_response_without_refresh_token_keeps_the_old_one(
    world: World, broker: Broker, store: ConnectionName
) -> None:
    world.get_token(broker, store)
    world.provider.to = issuing(expires_in=300)
    renew(world, broker, store)
    renew(world, broker, store)
    assert sent(world) == ["refresh-1", "refresh-1"]


@pytest.mark.parametrize(
    "outcome",
    [
        hanging(),
        answering(200, b"cut o"),
        answering(200, {"token_type": "Bearer"}),
        answering(503),
        refusing("invalid_grant"),
    ],
    ids=["time-out", "no object", "no token", "outage", "refused"],
)
def test_a_refresh_token_that_was_sent_is_never_sent_again(
    world: World, broker: Broker, store: ConnectionName, outcome: Send
) -> None:
    world.get_token(broker, store)
    world.provider.to = in_turn(outcome, issuing("anew-{n}", refresh_token="fresh-{n}"))
    renew(world, broker, store)
    world.clock.advance(1000)
    assert world.get_token(broker, store).access_token == "anew-1"
    assert sent(world) == ["refresh-1"]


def test_after_a_refused_refresh_token_the_grant_starts_anew_at_once(
    world: World, broker: Broker, store: ConnectionName
) -> None:
    world.get_token(broker, store)
    world.provider.to = in_turn(refusing("invalid_grant"), issuing("anew-{n}"))
    renew(world, broker, store)
    assert len(world.connect) == 2
    token = world.record(store).token
    assert token is not None
    assert token.token_id == fingerprint("anew-1")


def test_a_refresh_token_that_was_not_sent_is_used_again(world: World, broker: Broker, store: ConnectionName) -> None:
    """The provider was unreachable, so nothing was sent."""
    world.get_token(broker, store)
    working, world.provider.to = world.provider.to, unreachable()
    renew(world, broker, store)
    world.provider.to = working
    world.provider.requests.clear()
    renew(world, broker, store)
    assert sent(world) == ["refresh-1"]


@pytest.mark.parametrize("call", ["secrets.read", "sealer.open", "sealer.prepare"])
def test_a_refresh_token_is_kept_if_we_fail_before_sending_it(
    world: World, broker: Broker, store: ConnectionName, call: str
) -> None:
    world.get_token(broker, store)
    world.clock.advance(250)
    world.faults.fail(call)
    assert world.renew(broker, store).code == "broker_unavailable"
    world.clock.advance(20)
    world.renew(broker, store)
    assert sent(world) == ["refresh-1"]
    assert len(world.connect) == 1


def test_a_refresh_token_is_not_sent_again_if_we_fail_after_sending_it(
    world: World, broker: Broker, store: ConnectionName
) -> None:
    world.get_token(broker, store)
    world.clock.advance(250)
    world.faults.let_pass("tokens.save")
    world.faults.fail("tokens.save")
    assert world.renew(broker, store).code == "broker_unavailable"
    world.clock.advance(60)
    world.get_token(world.instance(), store)
    assert sent(world) == ["refresh-1"]
    assert len(world.connect) == 2


def test_a_commit_whose_response_is_lost_keeps_the_new_pair(
    world: World, broker: Broker, store: ConnectionName
) -> None:
    world.get_token(broker, store)
    world.clock.advance(250)
    world.faults.let_pass("tokens.save")
    world.faults.lose_response("tokens.save")
    assert world.renew(broker, store).outcome is RenewalOutcome.RENEWED
    renew(world, broker, store)
    assert sent(world) == ["refresh-1", "refresh-2"]


def test_a_refresh_token_stored_between_the_read_and_the_lease_is_marked_too(
    world: World, broker: Broker, store: ConnectionName
) -> None:
    """The process pauses between its read and its lease, longer than the lifetime of another's token."""

    def freeze() -> None:
        world.get_token(world.instance(), store)
        world.clock.advance(301)

    world.faults.before("tokens.save", freeze)
    working = world.provider.to
    world.provider.to = in_turn(working, dying())
    with pytest.raises(KeyboardInterrupt):
        world.get_token(broker, store, within=timedelta(hours=1))
    world.provider.to = working
    world.clock.advance(18.001)
    world.get_token(world.instance(), store)
    assert len(sent(world)) == len(set(sent(world)))


def test_after_a_repeated_lease_write_the_refresh_token_is_sent(
    world: World, broker: Broker, store: ConnectionName
) -> None:
    """The revision says that the mark is ours."""
    world.get_token(broker, store)
    world.faults.send_twice("tokens.save")
    renew(world, broker, store)
    assert sent(world) == ["refresh-1"]
    assert len(world.connect) == 1


def test_if_the_item_changed_before_the_lease_write_was_repeated_the_refresh_token_is_not_sent(
    world: World, broker: Broker, store: ConnectionName
) -> None:
    """The mark could be another holder's, so the grant starts anew."""
    world.get_token(broker, store)
    world.faults.send_twice("tokens.save", between=lambda: world.change(store, last_used_at=world.clock()))
    renew(world, broker, store)
    world.clock.advance(18)
    world.renew(broker, store)
    assert sent(world) == []
    assert len(world.connect) == 2


def test_a_refresh_token_belongs_to_its_token_key(world: World, broker: Broker) -> None:
    world.provider.to = issuing(refresh_token="refresh-{n}", expires_in=300)
    name = world.connection("ucommerce", allowed_scopes=["a", "b"])
    world.get_token(broker, name, scope="a")
    world.get_token(broker, name, scope="b")
    world.clock.advance(250)
    world.renew(broker, name, "b")
    assert sent(world) == ["refresh-2"]


def test_a_refresh_token_with_a_broken_seal_is_not_sent(world: World, broker: Broker, store: ConnectionName) -> None:
    world.get_token(broker, store)
    world.sealer.broken = True
    renew(world, broker, store)
    assert sent(world) == []
    assert len(world.connect) == 2


def test_a_late_pair_does_not_overwrite_a_newer_one(world: World, broker: Broker, store: ConnectionName) -> None:
    world.get_token(broker, store)
    world.clock.advance(250)
    world.faults.let_pass("tokens.save")
    world.faults.before("tokens.save", lambda: (world.clock.advance(60), world.get_token(world.instance(), store)))
    world.renew(broker, store)
    refresh = world.record(store).refresh_token
    assert refresh is not None
    assert refresh.refresh_id == fingerprint("refresh-3")


def test_the_tokens_are_stored_sealed(world: World, broker: Broker, store: ConnectionName) -> None:
    world.get_token(broker, store)
    record = world.tokens.read(TokenKey(store, ""))[1]
    assert record.token is not None
    assert record.refresh_token is not None
    assert b"tok-1" not in record.token.sealed
    assert b"refresh-1" not in record.refresh_token.sealed
    assert "refresh-1" not in repr(record)

"""P6: no refresh token is lost or sent twice, whatever breaks off where."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qs

import pytest

from tests.fakes import World, answering, calling_back, dying, hanging, in_turn, issuing, refusing, unreachable
from token_broker.core.names import ConnectionName, TokenKey, fingerprint
from token_broker.errors import BrokerError, BrokerUnavailable
from token_broker.ports import Send
from token_broker.service import Broker


@pytest.fixture
def store_front(world: World) -> ConnectionName:
    """A store of ucommerce: tokens of 300 s, each with a refresh token that rotates."""
    world.provider.to = issuing(refresh_token="refresh-{n}", expires_in=300)
    return world.connection("ucommerce")


def sent(world: World) -> list[str]:
    """The refresh tokens that went out, in order."""
    forms = [parse_qs(body) for body in world.provider.bodies()]
    return [form["refresh_token"][0] for form in forms if "refresh_token" in form]


def renew(world: World, broker: Broker, name: ConnectionName) -> None:
    world.clock.advance(250)
    world.renew(broker, name)


def test_a_renewal_refreshes_and_keeps_the_new_pair(world: World, broker: Broker, store_front: ConnectionName) -> None:
    world.ask(broker, store_front)
    for _ in range(3):
        renew(world, broker, store_front)
    assert sent(world) == ["refresh-1", "refresh-2", "refresh-3"]
    assert len(world.connect) == 1
    refresh = world.record(store_front).refresh_token
    assert refresh is not None
    assert (refresh.refresh_id, refresh.sent) == (fingerprint("refresh-4"), False)


def test_a_renewal_with_a_refresh_token_takes_at_most_nine_calls(
    world: World, broker: Broker, store_front: ConnectionName
) -> None:
    world.ask(broker, store_front)
    world.faults.calls.clear()
    renew(world, broker, store_front)
    assert world.faults.calls.total() <= 9


def test_a_refresh_token_is_marked_before_it_is_sent(world: World, broker: Broker, store_front: ConnectionName) -> None:
    world.ask(broker, store_front)
    seen = []
    world.provider.to = calling_back(lambda: seen.append(world.record(store_front).refresh_token), world.provider.to)
    renew(world, broker, store_front)
    (refresh,) = seen
    assert refresh is not None
    assert (refresh.refresh_id, refresh.sent) == (fingerprint("refresh-1"), True)


def test_an_answer_without_refresh_token_keeps_the_old_one(
    world: World, broker: Broker, store_front: ConnectionName
) -> None:
    world.ask(broker, store_front)
    world.provider.to = issuing(expires_in=300)
    renew(world, broker, store_front)
    renew(world, broker, store_front)
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
def test_a_refresh_token_that_went_out_is_never_sent_again(
    world: World, broker: Broker, store_front: ConnectionName, outcome: Send
) -> None:
    world.ask(broker, store_front)
    world.provider.to = in_turn(outcome, issuing("anew-{n}", refresh_token="fresh-{n}"))
    renew(world, broker, store_front)
    world.clock.advance(1000)
    assert world.ask(broker, store_front).access_token == "anew-1"
    assert sent(world) == ["refresh-1"]


def test_a_refused_refresh_token_is_followed_by_the_grant_anew_in_one_go(
    world: World, broker: Broker, store_front: ConnectionName
) -> None:
    world.ask(broker, store_front)
    world.provider.to = in_turn(refusing("invalid_grant"), issuing("anew-{n}"))
    renew(world, broker, store_front)
    assert len(world.connect) == 2
    token = world.record(store_front).token
    assert token is not None
    assert token.token_id == fingerprint("anew-1")


def test_a_refresh_token_that_never_left_is_still_good(
    world: World, broker: Broker, store_front: ConnectionName
) -> None:
    """Nobody listened: nothing was sent, so nothing is spent."""
    world.ask(broker, store_front)
    working, world.provider.to = world.provider.to, unreachable()
    renew(world, broker, store_front)
    world.provider.to = working
    world.provider.requests.clear()
    renew(world, broker, store_front)
    assert sent(world) == ["refresh-1"]


@pytest.mark.parametrize("call", ["vault.read", "sealer.open"])
def test_a_refresh_token_is_kept_where_we_fail_before_sending_it(
    world: World, broker: Broker, store_front: ConnectionName, call: str
) -> None:
    world.ask(broker, store_front)
    world.clock.advance(250)
    world.faults.fail(call)
    with pytest.raises(BrokerUnavailable):
        world.renew(broker, store_front)
    world.clock.advance(20)
    world.renew(broker, store_front)
    assert sent(world) == ["refresh-1"]
    assert len(world.connect) == 1


@pytest.mark.parametrize("call", ["sealer.seal", "tokens.commit"])
def test_a_refresh_token_is_not_sent_again_where_we_fail_after_sending_it(
    world: World, broker: Broker, store_front: ConnectionName, call: str
) -> None:
    world.ask(broker, store_front)
    world.clock.advance(250)
    world.faults.fail(call)
    with pytest.raises(BrokerUnavailable):
        world.renew(broker, store_front)
    world.clock.advance(60)
    world.ask(world.instance(), store_front)
    assert sent(world) == ["refresh-1"]
    assert len(world.connect) == 2


def test_a_commit_whose_answer_is_lost_keeps_the_new_pair(
    world: World, broker: Broker, store_front: ConnectionName
) -> None:
    world.ask(broker, store_front)
    world.clock.advance(250)
    world.faults.lose_answer("tokens.commit")
    with pytest.raises(BrokerUnavailable):
        world.renew(broker, store_front)
    renew(world, broker, store_front)
    assert sent(world) == ["refresh-1", "refresh-2"]


def test_a_holder_that_dies_with_the_refresh_token_out_leaves_it_marked(
    world: World, broker: Broker, store_front: ConnectionName
) -> None:
    """The process ends between the request and anything else: no release, no commit."""
    world.ask(broker, store_front)
    world.clock.advance(250)
    working, world.provider.to = world.provider.to, dying()
    with pytest.raises(KeyboardInterrupt):
        world.renew(broker, store_front)
    world.provider.to = working
    world.clock.advance(18.001)
    world.ask(world.instance(), store_front, min_ttl=60)
    assert sent(world) == ["refresh-1"]
    assert len(world.connect) == 2


def test_a_refresh_token_that_came_between_reading_and_leasing_is_marked_too(
    world: World, broker: Broker, store_front: ConnectionName
) -> None:
    """The process is frozen between its read and its lease, longer than another's whole token lives."""

    def freeze() -> None:
        world.ask(world.instance(), store_front)
        world.clock.advance(301)

    world.faults.before("tokens.take_lease", freeze)
    working = world.provider.to
    world.provider.to = in_turn(working, dying())
    with pytest.raises(KeyboardInterrupt):
        world.ask(broker, store_front, within=timedelta(hours=1))
    world.provider.to = working
    world.clock.advance(18.001)
    world.ask(world.instance(), store_front)
    assert len(sent(world)) == len(set(sent(world)))


def test_a_lease_write_that_was_sent_twice_does_not_send_the_refresh_token(
    world: World, broker: Broker, store_front: ConnectionName
) -> None:
    """The mark could be another's: whoever finds it starts the grant anew."""
    world.ask(broker, store_front)
    world.faults.send_twice("tokens.take_lease")
    renew(world, broker, store_front)
    assert sent(world) == []
    assert len(world.connect) == 2


def test_a_refresh_token_belongs_to_its_token_key(world: World, broker: Broker) -> None:
    world.provider.to = issuing(refresh_token="refresh-{n}", expires_in=300)
    name = world.connection("ucommerce", allowed_scopes=["a", "b"])
    world.ask(broker, name, scope="a")
    world.ask(broker, name, scope="b")
    world.clock.advance(250)
    world.renew(broker, name, "b")
    assert sent(world) == ["refresh-2"]


def test_a_refresh_token_whose_seal_is_broken_is_left_alone(
    world: World, broker: Broker, store_front: ConnectionName
) -> None:
    world.ask(broker, store_front)
    world.sealer.broken = True
    renew(world, broker, store_front)
    assert sent(world) == []
    assert len(world.connect) == 2


def test_a_late_pair_does_not_overwrite_a_newer_one(world: World, broker: Broker, store_front: ConnectionName) -> None:
    world.ask(broker, store_front)
    world.clock.advance(250)
    world.faults.before("tokens.commit", lambda: (world.clock.advance(60), world.ask(world.instance(), store_front)))
    world.renew(broker, store_front)
    refresh = world.record(store_front).refresh_token
    assert refresh is not None
    assert refresh.refresh_id == fingerprint("refresh-3")


def test_the_whole_of_it_is_sealed(world: World, broker: Broker, store_front: ConnectionName) -> None:
    world.ask(broker, store_front)
    record = world.tokens.read(TokenKey(store_front, ""))[1]
    assert record.token is not None
    assert record.refresh_token is not None
    assert b"tok-1" not in record.token.sealed
    assert b"refresh-1" not in record.refresh_token.sealed
    assert "refresh-1" not in repr(record)


def test_without_a_way_out_the_error_is_one_of_ours(world: World, broker: Broker, store_front: ConnectionName) -> None:
    world.connect.to = answering(200, b"<html>not on the whitelist</html>")
    with pytest.raises(BrokerError, match="whitelist") as caught:
        world.ask(broker, store_front)
    assert caught.value.code == "provider_refused"

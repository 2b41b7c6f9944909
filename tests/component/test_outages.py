"""P4: outages are absorbed, refusals are not repeated, limits are obeyed, no account is locked by us."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.fakes import World, answering, failing_first, hanging, issuing, refusing, unreachable
from token_broker.core.names import ConnectionName
from token_broker.errors import (
    ConnectionMisconfigured,
    ProviderError,
    ProviderInvalidResponse,
    ProviderRateLimited,
    ProviderRefused,
    ProviderUnavailable,
)
from token_broker.ports import Send
from token_broker.service import Broker

DENIED = refusing("invalid_client", 401)


def rests(world: World, broker: Broker, name: ConnectionName, times: int) -> list[float]:
    """Fails some times, each as soon as the rest before has ended; the rests in seconds."""
    found = []
    for _ in range(times):
        asked = len(world.provider)
        with pytest.raises(ProviderError) as caught:
            world.ask(broker, name)
        assert len(world.provider) > asked
        assert caught.value.retry_after is not None
        found.append(caught.value.retry_after.total_seconds())
        world.clock.advance(found[-1])
    return found


@pytest.mark.parametrize("outage", [answering(503), answering(200, b"<html>"), hanging(), unreachable(), DENIED])
def test_an_outage_takes_no_valid_token_away(world: World, broker: Broker, name: ConnectionName, outage: Send) -> None:
    world.ask(broker, name)
    world.provider.to = outage
    world.clock.advance(3000)
    world.renew(broker, name)
    for instance in (broker, world.instance()):
        given = world.ask(instance, name)
        assert (given.access_token, given.warnings) == ("tok-1", ("renewal_failing",))
    world.clock.advance(600)
    with pytest.raises(ProviderError):
        world.ask(broker, name)


def test_who_wants_a_longer_token_gets_the_short_one_while_the_provider_fails(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.ask(broker, name)
    world.provider.to = answering(503)
    world.clock.advance(3000)
    for _ in range(2):  # failing now, and resting
        given = world.ask(broker, name, min_ttl=1200)
        assert (given.access_token, given.warnings) == ("tok-1", ("renewal_failing", "min_ttl_unmet"))
    assert len(world.provider) == 2


def test_a_failure_rests_for_all_instances(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = answering(503)
    with pytest.raises(ProviderUnavailable):
        world.ask(broker, name)
    for _ in range(20):
        with pytest.raises(ProviderUnavailable) as caught:
            world.ask(world.instance(), name)
        assert caught.value.retry_after == timedelta(seconds=2)
    assert len(world.provider) == 1


def test_the_rests_of_an_outage_grow_to_five_minutes(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = answering(503)
    assert rests(world, broker, name, 8) == [2, 30, 60, 120, 240, 300, 300, 300]


def test_a_success_ends_the_count(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = failing_first(2)
    assert rests(world, broker, name, 2) == [2, 30]
    assert world.ask(broker, name).warnings == ()
    assert world.record(name).failures() == ()
    world.clock.advance(3600)
    world.provider.to = answering(503)
    assert rests(world, broker, name, 1) == [2]


def test_a_hanging_provider_holds_one_caller_up_and_then_nobody(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = hanging(world.clock)
    started_at = world.clock()
    with pytest.raises(ProviderUnavailable):
        world.ask(broker, name)
    assert world.clock() - started_at == timedelta(seconds=8)
    with pytest.raises(ProviderUnavailable):
        world.ask(world.instance(), name)
    assert world.clock() - started_at == timedelta(seconds=8)


def test_a_bad_certificate_rests_five_minutes_at_once(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = unreachable(bad_certificate=True)
    assert rests(world, broker, name, 2) == [300, 300]


def test_a_redirect_rests_a_quarter_of_an_hour(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = answering(302, headers={"location": "https://evil.example/?secret"})
    with pytest.raises(ProviderInvalidResponse) as caught:
        world.ask(broker, name)
    assert caught.value.retry_after == timedelta(minutes=15)
    assert "evil" not in str(caught.value)


def test_a_refusal_is_not_repeated(world: World, name: ConnectionName) -> None:
    world.provider.to = DENIED
    for _ in range(20):
        with pytest.raises(ProviderRefused) as caught:
            world.ask(world.instance(), name)
        assert caught.value.provider_error == "invalid_client"
        world.clock.advance(40)
    assert len(world.provider) == 1


def test_a_refused_connection_refuses_all_its_scopes(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = DENIED
    for scope in ("a", "b", "c"):
        with pytest.raises(ProviderRefused):
            world.ask(broker, name, scope=scope)
    assert len(world.provider) == 1


def test_a_refused_scope_refuses_itself_only(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = refusing("invalid_scope")
    for _ in range(2):
        with pytest.raises(ProviderRefused):
            world.ask(broker, name, scope="a")
    world.provider.to = issuing()
    assert world.ask(broker, name, scope="b").access_token == "tok-1"
    with pytest.raises(ProviderRefused):
        world.ask(broker, name, scope="a")
    assert len(world.provider) == 2


def test_the_rests_of_a_refusal_grow_to_a_day(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = DENIED
    assert rests(world, broker, name, 5) == [900, 3600, 14_400, 86_400, 86_400]


def test_p9_a_new_version_of_the_secret_ends_a_refusal(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = DENIED
    with pytest.raises(ProviderRefused):
        world.ask(broker, name)
    world.provider.to = issuing()
    world.secrets.put(name, {"client_id": "id", "client_secret": "new"})
    assert world.ask(world.instance(), name).access_token == "tok-1"
    assert world.record(name).failures() == ()


def test_an_instance_looks_for_a_new_version_twice_a_minute_at_most(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = DENIED
    world.faults.calls.clear()
    for _ in range(60):
        with pytest.raises(ProviderRefused):
            world.ask(broker, name)
        world.clock.advance(1)
    assert world.faults.calls["vault.read"] <= 3


def test_changed_settings_end_a_refusal(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = DENIED
    with pytest.raises(ProviderRefused):
        world.ask(broker, name)
    world.provider.to = issuing()
    world.settings(name, client_auth="form")
    assert world.ask(broker, name).access_token == "tok-1"


def test_at_most_three_new_versions_of_a_secret_are_tried_in_an_hour(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = DENIED
    for _ in range(8):
        with pytest.raises(ProviderError):
            world.ask(broker, name)
        world.secrets.put(name, {"client_id": "id", "client_secret": "guess"})
        world.clock.advance(31)
    assert len(world.provider) == 1 + 3
    with pytest.raises(ProviderRateLimited) as caught:
        world.ask(broker, name)
    assert caught.value.retry_after is not None
    world.clock.advance(caught.value.retry_after.total_seconds())
    world.provider.to = issuing()
    assert world.ask(broker, name).access_token == "tok-1"


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {}, 60),
        (429, {"retry-after": "7"}, 7),
        (429, {"retry-after": "86400"}, 3600),
        (503, {"retry-after": "90"}, 90),
        (429, {"retry-after": "Sun, 22 Nov 2026 12:02:00 GMT"}, 120),
    ],
)
def test_a_limit_rests_as_long_as_the_provider_says(
    world: World, broker: Broker, name: ConnectionName, status: int, headers: dict[str, str], seconds: int
) -> None:
    world.provider.to = answering(status, b"slow down", headers)
    with pytest.raises(ProviderRateLimited) as caught:
        world.ask(broker, name)
    assert caught.value.retry_after == timedelta(seconds=seconds)
    world.provider.to = issuing()
    world.clock.advance(seconds - 0.001)
    with pytest.raises(ProviderRateLimited):
        world.ask(world.instance(), name)
    world.clock.advance(0.001)
    assert world.ask(broker, name).access_token == "tok-1"


def test_a_limit_per_connection_rests_the_connection_only(world: World, broker: Broker, name: ConnectionName) -> None:
    other = world.connection(connection="other")
    world.provider.to = answering(429, headers={"retry-after": "120"})
    with pytest.raises(ProviderRateLimited):
        world.ask(broker, name)
    world.provider.to = issuing()
    assert world.ask(broker, other).access_token == "tok-1"
    with pytest.raises(ProviderRateLimited):
        world.ask(broker, name, scope="another")


def test_a_limit_per_host_rests_every_connection_there(world: World, broker: Broker) -> None:
    one, two = (world.connection("commerce-layer", c, scope="market:id:1") for c in ("one", "two"))
    wrong_redirect = world.connection(
        "commerce-layer", "elsewhere", scope="market:id:1", token_url="https://auth.other.example/token"
    )
    world.provider.to = answering(429, headers={"retry-after": "120"})
    with pytest.raises(ProviderRateLimited):
        world.ask(broker, one)
    world.provider.to = issuing()
    for name in (one, two):
        with pytest.raises(ProviderRateLimited) as caught:
            world.ask(world.instance(), name)
        assert caught.value.retry_after == timedelta(seconds=120)
    assert world.ask(broker, wrong_redirect).access_token == "tok-1"
    world.clock.advance(120)
    assert world.ask(broker, two).access_token == "tok-2"


@pytest.mark.parametrize(
    ("secret", "named"),
    [
        (None, "no secret"),
        ("{", "not a JSON object"),
        ({"client_secret": "x"}, "client_id"),
        ({"client_id": 7}, "client_id"),
    ],
)
def test_a_secret_that_will_not_do_is_named_and_not_sent(
    world: World, broker: Broker, name: ConnectionName, secret: dict[str, object] | str | None, named: str
) -> None:
    world.secrets.delete(name)
    if secret is not None:
        world.secrets.put(name, secret)
    with pytest.raises(ConnectionMisconfigured, match=named):
        world.ask(broker, name)
    assert len(world.provider) == 0
    world.secrets.put(name, {"client_id": "id", "client_secret": "secret"})
    assert world.ask(broker, name).access_token == "tok-1"


def unicommerce(world: World) -> ConnectionName:
    world.provider.to = hanging()
    return world.connection("unicommerce")


def test_two_logins_with_an_unknown_outcome_count_as_a_refusal(world: World, broker: Broker) -> None:
    name = unicommerce(world)
    with pytest.raises(ProviderUnavailable):
        world.ask(broker, name)
    world.clock.advance(2)
    with pytest.raises(ProviderRefused) as caught:
        world.ask(broker, name)
    assert caught.value.retry_after == timedelta(minutes=15)
    world.clock.advance(600)
    with pytest.raises(ProviderRefused):
        world.ask(world.instance(), name)
    assert len(world.provider) == 2


def test_logins_whose_sender_died_are_counted(world: World, broker: Broker) -> None:
    """The attempt is written before the request goes out: a crash after it is an unknown outcome."""
    name = unicommerce(world)
    world.tokens.begin_login(name, "dead", "v1")
    with pytest.raises(ProviderRefused):
        world.ask(broker, name)
    assert len(world.provider) == 1


def test_a_login_that_is_answered_settles_the_attempts(world: World, broker: Broker) -> None:
    name = unicommerce(world)
    with pytest.raises(ProviderUnavailable):
        world.ask(broker, name)
    world.clock.advance(2)
    world.provider.to = issuing(field="accessToken", status="SUCCESS")
    assert world.ask(broker, name).access_token == "tok-1"
    assert world.record(name).health.unresolved_logins == 0


def test_a_failed_login_is_believed_the_second_time_where_it_worked_before(world: World, broker: Broker) -> None:
    name = world.connection("unicommerce")
    world.provider.to = issuing(field="accessToken", status="SUCCESS")
    world.ask(broker, name)
    world.provider.to = answering(200, {"status": "FAILED"})
    world.clock.advance(72_000)
    with pytest.raises(ProviderUnavailable) as caught:
        world.ask(broker, name)
    assert caught.value.retry_after == timedelta(seconds=60)
    world.clock.advance(60)
    with pytest.raises(ProviderRefused):
        world.ask(broker, name)


def test_a_failed_login_of_new_credentials_is_a_refusal(world: World, broker: Broker) -> None:
    name = world.connection("unicommerce")
    world.provider.to = answering(200, {"status": "FAILED"})
    with pytest.raises(ProviderRefused):
        world.ask(broker, name)

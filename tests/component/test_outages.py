"""P4: valid tokens survive outages, refusals are not repeated, rate limits are obeyed, and no account is locked."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.fakes import World, answering, failing_first, hanging, issuing, refusing, unreachable
from tests.fakes.world import OAUTH_CREDENTIALS
from token_broker.core.health import ConnectionHealth
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.errors import (
    ConnectionMisconfigured,
    ProviderError,
    ProviderRateLimited,
    ProviderRefused,
    ProviderUnavailable,
)
from token_broker.oauth.exchange import HttpResponse
from token_broker.ports import Send
from token_broker.service import Broker

REFUSED = refusing("invalid_client", 401)


def cooldowns(world: World, broker: Broker, name: ConnectionName, times: int) -> list[float]:
    """Lets requests fail, each at the end of the last cooldown. Returns the cooldowns in seconds."""
    found = []
    for _ in range(times):
        sent_before = len(world.provider)
        with pytest.raises(ProviderError) as caught:
            world.get_token(broker, name)
        assert len(world.provider) > sent_before
        assert caught.value.retry_after is not None
        found.append(caught.value.retry_after.total_seconds())
        world.clock.advance(found[-1])
    return found


@pytest.mark.parametrize("outage", [answering(503), answering(200, b"<html>"), hanging(), unreachable(), REFUSED])
def test_a_valid_token_is_served_during_an_outage(
    world: World, broker: Broker, name: ConnectionName, outage: Send
) -> None:
    world.get_token(broker, name)
    world.provider.to = outage
    world.clock.advance(3000)
    world.renew(broker, name)
    for instance in (broker, world.instance()):
        response = world.get_token(instance, name)
        assert (response.access_token, response.warnings) == ("tok-1", ("renewal_failing",))
    world.clock.advance(600)
    with pytest.raises(ProviderError):
        world.get_token(broker, name)


def test_a_cooldown_holds_for_all_instances(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = answering(503)
    with pytest.raises(ProviderUnavailable):
        world.get_token(broker, name)
    for _ in range(20):
        with pytest.raises(ProviderUnavailable) as caught:
            world.get_token(world.instance(), name)
        assert caught.value.retry_after == timedelta(seconds=2)
    assert len(world.provider) == 1


def test_a_success_resets_the_count_of_failures(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = failing_first(2)
    assert cooldowns(world, broker, name, 2) == [2, 30]
    assert world.get_token(broker, name).warnings == ()
    assert world.record(name).failures() == ()
    world.clock.advance(3600)
    world.provider.to = answering(503)
    assert cooldowns(world, broker, name, 1) == [2]


def test_a_hanging_provider_delays_one_caller_and_then_nobody(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = hanging(world.clock)
    started_at = world.clock()
    with pytest.raises(ProviderUnavailable):
        world.get_token(broker, name)
    assert world.clock() - started_at == timedelta(seconds=8)
    with pytest.raises(ProviderUnavailable):
        world.get_token(world.instance(), name)
    assert world.clock() - started_at == timedelta(seconds=8)


def test_a_refusal_is_not_repeated(world: World, name: ConnectionName) -> None:
    world.provider.to = REFUSED
    for _ in range(20):
        with pytest.raises(ProviderRefused) as caught:
            world.get_token(world.instance(), name)
        assert caught.value.provider_error == "invalid_client"
        world.clock.advance(40)
    # The second one is the one more try after the first refusal.
    assert len(world.provider) == 2


def test_refused_credentials_concern_all_scopes(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = REFUSED
    for scope in ("a", "b", "c"):
        with pytest.raises(ProviderRefused):
            world.get_token(broker, name, scope=scope)
    assert len(world.provider) == 1


def test_a_refused_scope_concerns_only_itself(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = refusing("invalid_scope")
    for _ in range(2):
        with pytest.raises(ProviderRefused):
            world.get_token(broker, name, scope="a")
    world.provider.to = issuing()
    assert world.get_token(broker, name, scope="b").access_token == "tok-1"
    with pytest.raises(ProviderRefused):
        world.get_token(broker, name, scope="a")
    assert len(world.provider) == 2


def test_the_cooldowns_of_a_refusal_grow_to_a_day(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = REFUSED
    assert cooldowns(world, broker, name, 6) == [60, 900, 3600, 14_400, 86_400, 86_400]


SCOPES = ("a", "b", "c")


def renew_all(world: World, broker: Broker, name: ConnectionName) -> int:
    """How many requests the renewals of three keys cause."""
    sent_before = len(world.provider)
    for scope in SCOPES:
        broker.renew(name, TokenKey(name, scope).scope_id)
    return len(world.provider) - sent_before


@pytest.fixture
def refused_at_first(world: World, broker: Broker, name: ConnectionName) -> ConnectionName:
    """Three keys have tokens, the secret changed, and the provider refused the new one a minute ago."""
    for scope in SCOPES:
        world.get_token(broker, name, scope=scope)
    world.clock.advance(1)
    world.secrets.put(name, {**OAUTH_CREDENTIALS, "client_secret": "new"})
    broker.secret_changed(name)
    world.provider.to = REFUSED
    assert renew_all(world, broker, name) == 1
    world.clock.advance(60)
    return name


def test_new_credentials_that_the_provider_accepts_after_a_minute_work_without_a_caller(
    world: World, broker: Broker, refused_at_first: ConnectionName
) -> None:
    world.provider.to = issuing("new-{n}")
    assert renew_all(world, broker, refused_at_first) == 3
    for scope in SCOPES:
        assert world.get_token(broker, refused_at_first, scope=scope).access_token.startswith("new-")


@pytest.mark.parametrize("when", ["health.save", "sealer.prepare"])
def test_there_is_one_more_try_for_the_whole_connection(
    world: World, broker: Broker, refused_at_first: ConnectionName, when: str
) -> None:
    """Others are faster than the try of the first key, or meet it."""
    world.faults.before(when, lambda: renew_all(world, world.instance(), refused_at_first))
    assert renew_all(world, broker, refused_at_first) == 1
    world.clock.advance(899)
    assert renew_all(world, broker, refused_at_first) == 0


def test_the_one_more_try_of_a_killed_process_is_made_by_another(
    world: World, refused_at_first: ConnectionName
) -> None:
    def killed(*_args: object) -> HttpResponse:
        raise KeyboardInterrupt

    world.provider.to = killed
    with pytest.raises(KeyboardInterrupt):
        renew_all(world, world.instance(), refused_at_first)
    world.provider.to = issuing("new-{n}")
    assert renew_all(world, world.instance(), refused_at_first) == 0
    world.clock.advance(18)
    assert renew_all(world, world.instance(), refused_at_first) == 3


def test_p9_a_new_version_of_the_secret_clears_a_refusal(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = REFUSED
    with pytest.raises(ProviderRefused):
        world.get_token(broker, name)
    world.provider.to = issuing()
    world.secrets.put(name, {"client_id": "id", "client_secret": "new"})
    assert world.get_token(world.instance(), name).access_token == "tok-1"
    assert world.record(name).failures() == ()


def test_an_instance_looks_for_a_new_version_twice_a_minute_at_most(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = REFUSED
    world.faults.calls.clear()
    for _ in range(60):
        with pytest.raises(ProviderRefused):
            world.get_token(broker, name)
        world.clock.advance(1)
    assert world.faults.calls["secrets.read"] <= 3


def test_at_most_three_new_versions_of_a_secret_are_used_in_an_hour(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = REFUSED
    for _ in range(8):
        with pytest.raises(ProviderError):
            world.get_token(broker, name)
        world.secrets.put(name, {"client_id": "id", "client_secret": "guess"})
        world.clock.advance(31)
    assert len(world.provider) == 1 + 3
    with pytest.raises(ProviderRateLimited) as caught:
        world.get_token(broker, name)
    assert caught.value.retry_after is not None
    world.clock.advance(caught.value.retry_after.total_seconds())
    world.provider.to = issuing()
    assert world.get_token(broker, name).access_token == "tok-1"


def test_a_rate_limit_per_connection_concerns_the_connection_only(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    other = world.connection(connection="other")
    world.provider.to = answering(429, headers={"retry-after": "120"})
    with pytest.raises(ProviderRateLimited):
        world.get_token(broker, name)
    world.provider.to = issuing()
    assert world.get_token(broker, other).access_token == "tok-1"
    with pytest.raises(ProviderRateLimited):
        world.get_token(broker, name, scope="another")


def test_a_rate_limit_per_host_concerns_every_connection_there(world: World, broker: Broker) -> None:
    one, two = (world.connection("commerce-layer", c, scope="market:id:1") for c in ("one", "two"))
    other_host = world.connection(
        "commerce-layer", "elsewhere", scope="market:id:1", token_url="https://auth.other.example/token"
    )
    world.provider.to = answering(429, headers={"retry-after": "120"})
    with pytest.raises(ProviderRateLimited):
        world.get_token(broker, one)
    world.provider.to = issuing()
    for name in (one, two):
        with pytest.raises(ProviderRateLimited) as caught:
            world.get_token(world.instance(), name)
        assert caught.value.retry_after == timedelta(seconds=120)
    assert world.get_token(broker, other_host).access_token == "tok-1"
    world.clock.advance(120)
    assert world.get_token(broker, two).access_token == "tok-2"


@pytest.mark.parametrize(
    ("secret", "named"),
    [
        (None, "no secret"),
        ("{", "not a JSON object"),
        ({"client_secret": "x"}, "client_id"),
        ({"client_id": 7}, "client_id"),
    ],
)
def test_an_invalid_secret_is_reported_and_not_sent(
    world: World, broker: Broker, name: ConnectionName, secret: dict[str, object] | str | None, named: str
) -> None:
    world.secrets.delete(name)
    if secret is not None:
        world.secrets.put(name, secret)
    with pytest.raises(ConnectionMisconfigured, match=named):
        world.get_token(broker, name)
    assert len(world.provider) == 0
    world.secrets.put(name, {"client_id": "id", "client_secret": "secret"})
    assert world.get_token(broker, name).access_token == "tok-1"


def unicommerce(world: World) -> ConnectionName:
    world.provider.to = hanging()
    return world.connection("unicommerce")


def test_two_logins_with_an_unknown_outcome_count_as_a_refusal(world: World, broker: Broker) -> None:
    name = unicommerce(world)
    with pytest.raises(ProviderUnavailable):
        world.get_token(broker, name)
    world.clock.advance(2)
    with pytest.raises(ProviderRefused) as caught:
        world.get_token(broker, name)
    assert caught.value.retry_after == timedelta(minutes=15)
    world.clock.advance(600)
    with pytest.raises(ProviderRefused):
        world.get_token(world.instance(), name)
    assert len(world.provider) == 2


def test_logins_of_a_killed_process_are_counted(world: World, broker: Broker) -> None:
    """The login is counted before it is sent. After a crash its outcome is unknown."""
    name = unicommerce(world)
    begun = replace(ConnectionHealth().login_counted("v1"), revision="dead")
    assert world.health.save(name, ConnectionHealth(), begun) is None
    with pytest.raises(ProviderRefused):
        world.get_token(broker, name)
    assert len(world.provider) == 1


def test_a_login_with_a_response_resolves_all_logins(world: World, broker: Broker) -> None:
    name = unicommerce(world)
    with pytest.raises(ProviderUnavailable):
        world.get_token(broker, name)
    world.clock.advance(2)
    world.provider.to = issuing(field="accessToken", status="SUCCESS")
    assert world.get_token(broker, name).access_token == "tok-1"
    assert world.record(name).health.unresolved_logins == 0

"""POST …/trial: the pending or current credentials, tried once, nothing kept."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.fakes import World, answering, calling_back, hanging, issuing, refusing
from token_broker.core.names import ConnectionName, TokenKey, fingerprint
from token_broker.errors import (
    AcquisitionInProgress,
    ConnectionMisconfigured,
    ConnectionSuspended,
    ProviderRateLimited,
    ProviderRefused,
    ProviderUnavailable,
    TooManyTrials,
    WouldRevoke,
)
from token_broker.service import Broker

NEW = {"client_id": "id", "client_secret": "new"}


def test_a_trial_tells_what_the_credentials_bring_and_keeps_nothing(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    result = broker.trial(name, force=False)
    assert (result.token_id, result.expires_in, result.stage) == (
        fingerprint("tok-1"),
        timedelta(hours=1),
        "AWSCURRENT",
    )
    record = world.record(name)
    assert (record.token, record.lease, record.retired) == (None, None, ())
    assert "token=tok-1" in world.revoker.bodies()[0]


def test_a_trial_takes_the_pending_version_where_there_is_one(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.secrets.put(name, NEW, stage="AWSPENDING")
    assert broker.trial(name, force=False).stage == "AWSPENDING"


def test_a_pending_label_on_the_current_version_means_the_current_one(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.secrets.put(name, NEW, stage="AWSPENDING")
    world.secrets.promote(name)
    assert broker.trial(name, force=False).stage == "AWSCURRENT"


def test_a_pending_version_can_be_tried_before_there_is_a_current_one(world: World, broker: Broker) -> None:
    name = world.connection()
    world.secrets.delete(name)
    world.secrets.put(name, NEW, stage="AWSPENDING")
    assert broker.trial(name, force=False).stage == "AWSPENDING"


def test_a_connection_is_tried_once_in_five_minutes(world: World, broker: Broker, name: ConnectionName) -> None:
    broker.trial(name, force=False)
    world.clock.advance(299)
    with pytest.raises(TooManyTrials) as caught:
        world.instance().trial(name, force=True)
    assert caught.value.retry_after is not None
    assert len(world.provider) == 1
    world.clock.advance(1)
    broker.trial(name, force=False)


def test_a_trial_that_could_not_begin_is_none(world: World, broker: Broker, name: ConnectionName) -> None:
    """The key is leased: nothing was tried, so nothing is spaced."""
    now = world.clock()
    seen = world.record(name)
    world.tokens.take_lease(seen, "other", now=now, until=now + timedelta(seconds=17), mark_refresh=False)
    with pytest.raises(AcquisitionInProgress):
        broker.trial(name, force=False)
    world.tokens.end_lease(TokenKey(name, ""), "other")
    broker.trial(name, force=False)


def test_a_trial_holds_the_keys_lease(world: World, broker: Broker, name: ConnectionName) -> None:
    seen = []
    world.provider.to = calling_back(lambda: seen.append(world.record(name).lease), issuing())
    broker.trial(name, force=False)
    assert seen[0] is not None
    assert world.record(name).lease is None


@pytest.mark.parametrize("failing", ["hanging", "refused"])
def test_a_trial_gives_the_lease_back_however_it_ends(
    world: World, broker: Broker, name: ConnectionName, failing: str
) -> None:
    if failing == "refused":
        world.provider.to = refusing("invalid_client")
        with pytest.raises(ProviderRefused):
            broker.trial(name, force=False)
    else:
        world.provider.to = hanging()
        with pytest.raises(ProviderUnavailable):
            broker.trial(name, force=False)
    assert world.record(name).lease is None


def test_a_trial_holds_the_budget(world: World, broker: Broker) -> None:
    names = [world.connection("commerce-layer", f"market-{n}", scope="market:id:1") for n in range(16)]
    for name in names[:15]:
        world.ask(broker, name)
    with pytest.raises(ProviderRateLimited):
        broker.trial(names[15], force=False)
    assert len(world.provider) == 15


def test_a_trial_leaves_the_live_token_and_its_renewal_alone(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.ask(broker, name)
    before = world.record(name)
    broker.trial(name, force=False)
    record = world.record(name)
    assert (record.token, record.due_at) == (before.token, before.due_at)


def test_a_live_token_that_comes_again_is_not_revoked(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = issuing("same")
    world.ask(broker, name)
    assert broker.trial(name, force=False).token_id == fingerprint("same")
    assert len(world.revoker) == 0


def test_a_success_with_the_current_version_ends_the_connections_rests(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = refusing("invalid_client")
    with pytest.raises(ProviderRefused):
        world.ask(broker, name)
    world.provider.to = issuing()
    broker.trial(name, force=False)
    assert world.ask(broker, name).source == "provider"


def test_a_success_with_the_current_version_ends_the_rests_of_its_keys_too(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = refusing("invalid_scope")
    for scope in (None, "a"):
        with pytest.raises(ProviderRefused):
            world.ask(broker, name, scope=scope)
    world.provider.to = issuing()
    broker.trial(name, force=False)
    assert world.ask(broker, name, scope="a").source == "provider"
    assert world.ask(broker, name).source == "provider"


def test_a_success_with_the_pending_version_ends_no_rest(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = refusing("invalid_client")
    with pytest.raises(ProviderRefused):
        world.ask(broker, name)
    world.secrets.put(name, NEW, stage="AWSPENDING")
    world.provider.to = issuing()
    broker.trial(name, force=False)
    with pytest.raises(ProviderRefused):
        world.ask(broker, name)


def test_a_refusal_of_the_current_version_rests_the_connection(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = refusing("invalid_client")
    with pytest.raises(ProviderRefused) as caught:
        broker.trial(name, force=False)
    assert caught.value.provider_error == "invalid_client"
    with pytest.raises(ProviderRefused):
        world.ask(broker, name)
    assert len(world.provider) == 1


def test_a_refusal_of_the_pending_version_rests_nothing(world: World, broker: Broker, name: ConnectionName) -> None:
    world.secrets.put(name, NEW, stage="AWSPENDING")
    world.provider.to = refusing("invalid_client")
    with pytest.raises(ProviderRefused):
        broker.trial(name, force=False)
    world.provider.to = issuing()
    assert world.ask(broker, name).source == "provider"


def test_a_refused_trial_does_not_shorten_the_rests(world: World, broker: Broker, name: ConnectionName) -> None:
    """15 min, 1 h, 4 h: a trial in between is one more refusal, not the first."""
    world.provider.to = refusing("invalid_client")
    for seconds in (900, 3600, 0):
        with pytest.raises(ProviderRefused):
            world.ask(broker, name)
        world.clock.advance(seconds)
    failure = world.record(name).health.failure
    assert failure is not None
    with pytest.raises(ProviderRefused):
        broker.trial(name, force=False)
    after = world.record(name).health.failure
    assert after is not None
    assert after.retry_at >= failure.retry_at


def test_a_refused_scope_in_a_trial_rests_its_key_only(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = refusing("invalid_scope")
    with pytest.raises(ProviderRefused):
        broker.trial(name, force=False)
    world.provider.to = issuing()
    assert world.ask(broker, name, scope="another").source == "provider"


def test_a_limit_met_by_a_trial_rests_the_host(world: World, broker: Broker) -> None:
    one, two = (world.connection("commerce-layer", c, scope="market:id:1") for c in ("one", "two"))
    world.provider.to = answering(429, headers={"retry-after": "120"})
    with pytest.raises(ProviderRateLimited):
        broker.trial(one, force=False)
    world.provider.to = issuing()
    with pytest.raises(ProviderRateLimited):
        world.ask(broker, two)


def test_logins_of_a_trial_with_an_unknown_outcome_are_counted(world: World, broker: Broker) -> None:
    """P4: the attempt is written before the request goes out, whoever makes it."""
    name = world.connection("unicommerce")
    seen: list[int] = []
    world.provider.to = calling_back(lambda: None, hanging())
    world.faults.before("tokens.begin_attempt", lambda: seen.append(len(world.provider)))
    with pytest.raises(ProviderUnavailable):
        broker.trial(name, force=False)
    assert seen == [0]
    assert world.record(name).health.unresolved_logins == 1


def test_a_trial_does_not_forget_an_open_login(world: World, broker: Broker) -> None:
    name = world.connection("unicommerce")
    world.provider.to = hanging()
    with pytest.raises(ProviderUnavailable):
        world.ask(broker, name)
    world.clock.advance(2)
    with pytest.raises((ProviderUnavailable, ProviderRefused)):
        broker.trial(name, force=False)
    world.clock.advance(30)
    with pytest.raises(ProviderRefused):
        world.ask(broker, name)
    assert len(world.provider) == 2


def test_a_trial_would_revoke_the_live_token_of_some_servers(world: World, broker: Broker) -> None:
    name = world.connection(issue_revokes_previous=True)
    world.ask(broker, name)
    with pytest.raises(WouldRevoke):
        broker.trial(name, force=False)
    assert len(world.provider) == 1
    broker.trial(name, force=True)
    assert len(world.provider) == 2


def test_without_a_live_token_a_trial_revokes_nothing_of_anybodys(world: World, broker: Broker) -> None:
    name = world.connection(issue_revokes_previous=True)
    broker.trial(name, force=False)
    assert len(world.provider) == 1


def test_what_a_trial_got_is_revoked_on_such_servers_too(world: World, broker: Broker) -> None:
    name = world.connection(issue_revokes_previous=True)
    broker.trial(name, force=False)
    assert "token=tok-1" in "".join(world.revoker.bodies())


def test_a_suspended_or_incomplete_connection_is_not_tried(world: World, broker: Broker, name: ConnectionName) -> None:
    world.secrets.put(name, "{}")
    with pytest.raises(ConnectionMisconfigured, match="client_id"):
        broker.trial(name, force=False)
    world.settings(name, suspended=True)
    with pytest.raises(ConnectionSuspended):
        broker.trial(name, force=False)
    assert len(world.provider) == 0

"""POST …/trial: tries the pending or current credentials once and keeps no token."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.fakes import World, answering, calling_back, hanging, issuing, refusing
from token_broker.core.names import ConnectionName, fingerprint
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


def test_a_trial_describes_the_token_and_keeps_nothing(world: World, broker: Broker, name: ConnectionName) -> None:
    result = broker.trial(name, force=False)
    assert (result.token_id, result.expires_in, result.stage) == (
        fingerprint("tok-1"),
        timedelta(hours=1),
        "AWSCURRENT",
    )
    record = world.record(name)
    assert (record.token, record.lease, world.retired(name)) == (None, None, [])
    assert "token=tok-1" in world.revoker.bodies()[0]


def test_a_trial_uses_the_pending_version_if_there_is_one(world: World, broker: Broker, name: ConnectionName) -> None:
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


def test_a_secret_version_has_one_trial_in_five_minutes(world: World, broker: Broker, name: ConnectionName) -> None:
    broker.trial(name, force=False)
    world.clock.advance(299)
    with pytest.raises(TooManyTrials) as caught:
        world.instance().trial(name, force=True)
    assert caught.value.retry_after == timedelta(seconds=1)
    assert len(world.provider) == 1
    world.clock.advance(1)
    broker.trial(name, force=False)


def test_five_secret_versions_have_a_trial_in_15_minutes(world: World, broker: Broker, name: ConnectionName) -> None:
    """Somebody mistypes the secret four times. The fifth is right, and is not held back after that."""
    world.provider.to = refusing("invalid_client")
    for number in range(4):
        world.secrets.put(name, {**NEW, "client_secret": f"typo-{number}"}, stage="AWSPENDING")
        with pytest.raises(ProviderRefused):
            broker.trial(name, force=False)
    world.provider.to = issuing()
    world.secrets.put(name, NEW, stage="AWSPENDING")
    assert broker.trial(name, force=False).stage == "AWSPENDING"
    world.secrets.put(name, {**NEW, "client_secret": "sixth"}, stage="AWSPENDING")
    with pytest.raises(TooManyTrials) as caught:
        broker.trial(name, force=False)
    assert caught.value.retry_after == timedelta(minutes=15)
    world.clock.advance(900)
    broker.trial(name, force=False)


def test_a_trial_that_could_not_begin_does_not_count(world: World, broker: Broker, name: ConnectionName) -> None:
    """The key is leased, so the provider was not asked."""
    world.lease(name)
    with pytest.raises(AcquisitionInProgress):
        broker.trial(name, force=False)
    world.change(name, lease=None)
    broker.trial(name, force=False)


def test_a_trial_holds_the_keys_lease(world: World, broker: Broker, name: ConnectionName) -> None:
    leases = []
    world.provider.to = calling_back(lambda: leases.append(world.record(name).lease), issuing())
    broker.trial(name, force=False)
    assert leases[0] is not None
    assert world.record(name).lease is None


@pytest.mark.parametrize("failing", ["hanging", "refused"])
def test_a_failed_trial_ends_its_lease(world: World, broker: Broker, name: ConnectionName, failing: str) -> None:
    if failing == "refused":
        world.provider.to = refusing("invalid_client")
        with pytest.raises(ProviderRefused):
            broker.trial(name, force=False)
    else:
        world.provider.to = hanging()
        with pytest.raises(ProviderUnavailable):
            broker.trial(name, force=False)
    assert world.record(name).lease is None


def test_a_trial_uses_the_budget(world: World, broker: Broker) -> None:
    names = [world.connection("commerce-layer", f"market-{n}", scope="market:id:1") for n in range(16)]
    for name in names[:15]:
        world.get_token(broker, name)
    with pytest.raises(ProviderRateLimited):
        broker.trial(names[15], force=False)
    assert len(world.provider) == 15


def test_a_trial_does_not_change_the_live_token_or_its_renewal(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.get_token(broker, name)
    before = world.record(name)
    broker.trial(name, force=False)
    record = world.record(name)
    assert (record.token, record.due_at) == (before.token, before.due_at)


def test_a_live_token_that_is_issued_again_is_not_revoked(world: World, broker: Broker, name: ConnectionName) -> None:
    world.provider.to = issuing("same")
    world.get_token(broker, name)
    assert broker.trial(name, force=False).token_id == fingerprint("same")
    assert len(world.revoker) == 0


def test_a_success_with_the_current_version_ends_the_connections_cooldowns(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = refusing("invalid_client")
    with pytest.raises(ProviderRefused):
        world.get_token(broker, name)
    world.provider.to = issuing()
    broker.trial(name, force=False)
    assert world.get_token(broker, name).source == "provider"


def test_a_success_with_the_current_version_ends_the_cooldowns_of_its_keys_too(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = refusing("invalid_scope")
    for scope in (None, "a"):
        with pytest.raises(ProviderRefused):
            world.get_token(broker, name, scope=scope)
    world.provider.to = issuing()
    broker.trial(name, force=False)
    assert world.get_token(broker, name, scope="a").source == "provider"
    assert world.get_token(broker, name).source == "provider"


def test_a_success_with_the_pending_version_ends_no_cooldown(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = refusing("invalid_client")
    with pytest.raises(ProviderRefused):
        world.get_token(broker, name)
    world.secrets.put(name, NEW, stage="AWSPENDING")
    world.provider.to = issuing()
    broker.trial(name, force=False)
    with pytest.raises(ProviderRefused):
        world.get_token(broker, name)


def test_a_refusal_of_the_current_version_starts_the_connections_cooldown(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = refusing("invalid_client")
    with pytest.raises(ProviderRefused) as caught:
        broker.trial(name, force=False)
    assert caught.value.provider_error == "invalid_client"
    with pytest.raises(ProviderRefused):
        world.get_token(broker, name)
    assert len(world.provider) == 1


def test_a_refusal_of_the_pending_version_starts_no_cooldown(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.secrets.put(name, NEW, stage="AWSPENDING")
    world.provider.to = refusing("invalid_client")
    with pytest.raises(ProviderRefused):
        broker.trial(name, force=False)
    world.provider.to = issuing()
    assert world.get_token(broker, name).source == "provider"


def test_a_refused_trial_does_not_shorten_the_cooldown(world: World, broker: Broker, name: ConnectionName) -> None:
    """15 min, 1 h, 4 h: a trial in between is one more refusal, not the first."""
    world.provider.to = refusing("invalid_client")
    for seconds in (900, 3600, 0):
        with pytest.raises(ProviderRefused):
            world.get_token(broker, name)
        world.clock.advance(seconds)
    failure = world.record(name).health.failure
    assert failure is not None
    with pytest.raises(ProviderRefused):
        broker.trial(name, force=False)
    after = world.record(name).health.failure
    assert after is not None
    assert after.retry_at >= failure.retry_at


def test_a_refused_scope_in_a_trial_starts_the_cooldown_of_its_key_only(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = refusing("invalid_scope")
    with pytest.raises(ProviderRefused):
        broker.trial(name, force=False)
    world.provider.to = issuing()
    assert world.get_token(broker, name, scope="another").source == "provider"


def test_a_rate_limit_in_a_trial_starts_the_hosts_cooldown(world: World, broker: Broker) -> None:
    one, two = (world.connection("commerce-layer", c, scope="market:id:1") for c in ("one", "two"))
    world.provider.to = answering(429, headers={"retry-after": "120"})
    with pytest.raises(ProviderRateLimited):
        broker.trial(one, force=False)
    world.provider.to = issuing()
    with pytest.raises(ProviderRateLimited):
        world.get_token(broker, two)


def test_logins_of_a_trial_with_an_unknown_outcome_are_counted(world: World, broker: Broker) -> None:
    """P4: every login is counted before its request is sent."""
    name = world.connection("unicommerce")
    sent_before: list[int] = []
    world.provider.to = calling_back(lambda: None, hanging())
    world.faults.let_pass("health.save")  # the trial itself is noted first
    world.faults.before("health.save", lambda: sent_before.append(len(world.provider)))
    with pytest.raises(ProviderUnavailable):
        broker.trial(name, force=False)
    assert sent_before == [0]
    assert world.record(name).health.unresolved_logins == 1


def test_a_trial_does_not_forget_an_unresolved_login(world: World, broker: Broker) -> None:
    name = world.connection("unicommerce")
    world.provider.to = hanging()
    with pytest.raises(ProviderUnavailable):
        world.get_token(broker, name)
    world.clock.advance(2)
    with pytest.raises((ProviderUnavailable, ProviderRefused)):
        broker.trial(name, force=False)
    world.clock.advance(30)
    with pytest.raises(ProviderRefused):
        world.get_token(broker, name)
    assert len(world.provider) == 2


def test_a_trial_that_would_revoke_the_live_token_needs_force(world: World, broker: Broker) -> None:
    name = world.connection(issue_revokes_previous=True)
    world.get_token(broker, name)
    with pytest.raises(WouldRevoke):
        broker.trial(name, force=False)
    assert len(world.provider) == 1
    broker.trial(name, force=True)
    assert len(world.provider) == 2


def test_without_a_live_token_a_trial_needs_no_force(world: World, broker: Broker) -> None:
    name = world.connection(issue_revokes_previous=True)
    broker.trial(name, force=False)
    assert len(world.provider) == 1


def test_the_token_of_a_trial_is_revoked_on_such_servers_too(world: World, broker: Broker) -> None:
    name = world.connection(issue_revokes_previous=True)
    broker.trial(name, force=False)
    assert "token=tok-1" in "".join(world.revoker.bodies())


def test_a_suspended_or_incomplete_connection_has_no_trial(world: World, broker: Broker, name: ConnectionName) -> None:
    world.secrets.put(name, "{}")
    with pytest.raises(ConnectionMisconfigured, match="client_id"):
        broker.trial(name, force=False)
    world.settings(name, suspended=True)
    with pytest.raises(ConnectionSuspended):
        broker.trial(name, force=False)
    assert len(world.provider) == 0

"""P12 and P14: from every state, once AWS, provider, secret and settings are right again, the next caller or the sweep
gets a token under the current settings and secret. Each test is a sequence that once left a connection stuck."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.fakes import CALLER, World, answering, calling_back, hanging, issuing, refusing
from tests.fakes.world import SETTINGS
from token_broker.core.names import ConnectionName, TokenKey, fingerprint
from token_broker.core.schedule import KEEP, LOOK_AGAIN, SHARDS
from token_broker.errors import (
    AcquisitionInProgress,
    BrokerError,
    BrokerUnavailable,
    ConnectionMisconfigured,
    ProviderRefused,
    TooManyScopeSets,
)
from token_broker.ports import SecretNotReadable
from token_broker.service import Broker

HOUR = timedelta(hours=1)
REFUSED = refusing("invalid_client", 401)


def work(world: World, broker: Broker) -> None:
    """One sweep, and the worker's messages after their delays."""
    broker.sweep(scheduled_at=world.clock(), deadline=world.clock() + timedelta(seconds=50))
    messages = sorted(world.queue.take(), key=lambda message: message.delay)
    start = world.clock()
    for message in messages:
        world.clock.advance(to=start + message.delay)
        broker.renew(message.name, message.scope_id, message.token_id)


def work_for(world: World, broker: Broker, duration: timedelta, step: timedelta = timedelta(minutes=1)) -> None:
    end = world.clock() + duration
    while world.clock() < end:
        work(world, broker)
        world.clock.advance(to=min(world.clock() + step, end))


def to_renewal(world: World, name: ConnectionName) -> None:
    """Moves the clock to the time when the token is to be renewed."""
    token = world.record(name).token
    assert token is not None
    world.clock.advance(to=token.renew_at)


def is_indexed(world: World, name: ConnectionName) -> bool:
    far = world.clock() + timedelta(days=365)
    return any(due.name == name for shard in range(SHARDS) for due in world.due_index.due(shard, until=far))


def put(broker: Broker, name: ConnectionName, **settings: object) -> None:
    whole = {"allowed_callers": [CALLER], **SETTINGS[name.provider], **settings}
    broker.connections.put(name, whole, expected=None, absent=False)


def try_to_get(world: World, broker: Broker, name: ConnectionName, scope: str | None = None) -> str:
    """The token, or the error's code."""
    try:
        return world.get_token(broker, name, scope=scope).access_token
    except BrokerError as error:
        return error.code


# ------------------------------------------------------------------ our own services


def test_kms_denied_for_an_hour_costs_no_token_request(world: World, broker: Broker, name: ConnectionName) -> None:
    world.sealer.denied = True
    for _ in range(60):
        assert try_to_get(world, broker, name) == "broker_unavailable"
        world.clock.advance(60)
    assert len(world.provider) == 0
    world.sealer.denied = False
    world.clock.advance(300)
    assert try_to_get(world, broker, name) == "tok-1"


def test_kms_denied_does_not_count_logins(world: World, broker: Broker) -> None:
    name = world.connection("unicommerce")
    world.provider.to = issuing(field="accessToken", status="SUCCESS")
    world.sealer.denied = True
    for _ in range(5):
        assert try_to_get(world, broker, name) == "broker_unavailable"
        world.clock.advance(600)
    world.sealer.denied = False
    world.clock.advance(600)
    assert try_to_get(world, broker, name) == "tok-1"
    assert world.record(name).health.unresolved_logins == 0


@pytest.mark.parametrize("lost", ["before", "after"])
def test_a_token_whose_commit_failed_is_revoked_only_if_it_was_not_stored(
    world: World, broker: Broker, name: ConnectionName, lost: str
) -> None:
    """The commit is the second save. After a lost response the record holds the token, and it is served."""

    def break_commit(action: Callable[[str], None]) -> None:
        world.faults.before("tokens.save", lambda: action("tokens.save"))

    break_commit(world.faults.fail if lost == "before" else world.faults.lose_response)
    if lost == "before":
        assert try_to_get(world, broker, name) == "broker_unavailable"
        assert [fingerprint("tok-1")] == [fingerprint(body.split("token=")[1]) for body in world.revoker.bodies()]
    else:
        assert try_to_get(world, broker, name) == "tok-1"
        assert len(world.revoker) == 0
    world.clock.advance(300)
    assert try_to_get(world, world.instance(), name) in ("tok-1", "tok-2")


def test_a_token_is_not_revoked_while_the_store_cannot_be_read(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.provider.to = calling_back(lambda: world.faults.take_down("tokens"), issuing())
    with pytest.raises(BrokerUnavailable):
        world.get_token(broker, name)
    assert len(world.provider) == 1
    assert len(world.revoker) == 0


def test_a_secret_that_may_not_be_read_is_misconfigured_and_cools_down(
    world: World, broker: Broker, name: ConnectionName, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_name: ConnectionName, _stage: str = "") -> None:
        raise SecretNotReadable

    world.get_token(broker, name)
    with monkeypatch.context() as patch:
        patch.setattr(world.secrets, "read", denied)
        to_renewal(world, name)
        world.faults.calls.clear()
        work_for(world, broker, HOUR)
        assert world.faults.calls["secrets.read"] <= 13
        with pytest.raises(ConnectionMisconfigured, match="SecretKeyArns"):
            world.get_token(world.instance(), name)
    world.clock.advance(300)
    assert try_to_get(world, broker, name) == "tok-2"


# ------------------------------------------------------------------ settings and secrets


def test_after_suspend_rotate_and_resume_the_next_token_comes_from_the_new_secret(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.get_token(broker, name)
    put(broker, name, suspended=True)
    new_version = world.secrets.put(name, {"client_id": "id", "client_secret": "new"})
    put(broker, name)
    world.clock.advance(31)
    assert world.get_token(broker, name).access_token == "tok-2"
    token = world.record(name).token
    assert token is not None
    assert token.secret_version == new_version


@pytest.mark.parametrize("keep_warm", ["used", "never"])
@pytest.mark.parametrize("last", ["a caller", "a failed acquisition", "a trial"])
def test_after_a_resume_whose_marking_failed_the_next_token_comes_from_the_new_secret(
    world: World, broker: Broker, keep_warm: str, last: str
) -> None:
    """The PUT is not repeated. Whoever comes next sees that the suspension ended."""
    name = world.connection(keep_warm=keep_warm)
    world.get_token(broker, name)
    put(broker, name, keep_warm=keep_warm, suspended=True)
    new_version = world.secrets.put(name, {"client_id": "id", "client_secret": "new"})
    world.faults.fail("tokens.save")
    with pytest.raises(BrokerUnavailable):
        put(broker, name, keep_warm=keep_warm)
    if last == "a trial":
        broker.trial(name, force=False)
    elif last == "a failed acquisition":
        world.provider.to = answering(503)
        world.clock.advance(60)
        world.get_token(world.instance(), name, min_ttl=3600)
        assert len(world.provider) == 2
    world.provider.to = issuing("new-{n}")
    for _ in range(2):
        world.clock.advance(31)
        try_to_get(world, broker, name)
    token = world.record(name).token
    assert token is not None
    assert token.secret_version == new_version


def test_a_key_in_use_is_renewed_in_time_after_a_suspension(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    put(broker, name, suspended=True)
    work_for(world, broker, timedelta(minutes=5))
    assert not is_indexed(world, name)
    put(broker, name)
    assert is_indexed(world, name)
    work_for(world, broker, timedelta(minutes=3))
    assert len(world.provider) == 2


@pytest.mark.parametrize("broken", ["settings", "provider"])
def test_a_release_that_cannot_read_a_connection_keeps_its_key_in_the_index(world: World, broken: str) -> None:
    old = world.instance()
    name = world.connection(keep_warm="always")
    put(old, name, keep_warm="always")
    work_for(world, old, timedelta(minutes=3))
    catalogue = dict(old.context.catalogue)
    if broken == "provider":
        del catalogue["oauth2"]
    else:
        world.settings(name, keep_warm="always", unheard_of=1)
    release = world.instance(catalogue=catalogue)
    work_for(world, release, timedelta(hours=2))
    assert is_indexed(world, name)
    world.settings(name, keep_warm="always")
    work_for(world, old, LOOK_AGAIN + timedelta(minutes=4))
    assert world.record(name).live_token(world.clock()) is not None


def test_always_refused_mended_and_passed_a_trial_is_due_at_once(world: World, broker: Broker) -> None:
    name = world.connection(keep_warm="always")
    put(broker, name, keep_warm="always")
    world.provider.to = REFUSED
    work_for(world, broker, timedelta(minutes=30))
    assert is_indexed(world, name)
    refused = len(world.provider)
    world.provider.to = issuing()
    world.secrets.put(name, {"client_id": "id", "client_secret": "mended"})
    assert broker.trial(name, force=False).stage == "AWSCURRENT"
    work_for(world, broker, timedelta(minutes=3))
    assert world.record(name).live_token(world.clock()) is not None
    assert len(world.provider) == refused + 2


def test_the_sweep_asks_again_within_15_min_of_a_new_secret_without_any_event(world: World, broker: Broker) -> None:
    name = world.connection(keep_warm="always")
    put(broker, name, keep_warm="always")
    world.provider.to = REFUSED
    work_for(world, broker, timedelta(hours=3))
    assert len(world.provider) == 2
    world.provider.to = issuing()
    world.secrets.put(name, {"client_id": "id", "client_secret": "mended"})
    work_for(world, broker, LOOK_AGAIN + timedelta(minutes=4))
    assert world.record(name).live_token(world.clock()) is not None


@pytest.mark.parametrize("trouble", ["no secret", "provider down"])
def test_always_is_still_there_after_three_days(world: World, broker: Broker, trouble: str) -> None:
    name = world.connection(keep_warm="always")
    put(broker, name, keep_warm="always")
    work_for(world, broker, timedelta(minutes=3))
    if trouble == "no secret":
        world.secrets.delete(name)
    else:
        world.provider.to = answering(503)
    work_for(world, broker, timedelta(days=3), timedelta(minutes=5))
    record = world.record(name)
    assert record.delete_at is None
    assert is_indexed(world, name)
    world.secrets.put(name, {"client_id": "id", "client_secret": "secret"})
    world.provider.to = issuing("new-{n}")
    work_for(world, broker, timedelta(minutes=9))
    assert world.record(name).live_token(world.clock()) is not None


def test_never_with_changed_params_gets_a_token_under_the_new_ones(world: World, broker: Broker) -> None:
    name = world.connection(keep_warm="never")
    world.get_token(broker, name)
    world.settings(name, keep_warm="never", params={"audience": "new"})
    world.clock.advance(31)
    assert world.get_token(broker, name).access_token == "tok-2"
    assert "audience=new" in world.provider.bodies()[-1]


def test_never_with_a_changed_secret_gets_a_new_token(world: World, broker: Broker) -> None:
    name = world.connection(keep_warm="never")
    world.get_token(broker, name)
    world.secrets.put(name, {"client_id": "id", "client_secret": "new"})
    broker.secret_changed(name)
    world.clock.advance(31)
    assert world.get_token(broker, name).access_token == "tok-2"


def test_a_failing_replacement_leaves_the_live_token_in_service(world: World, broker: Broker) -> None:
    name = world.connection()
    world.get_token(broker, name)
    world.settings(name, params={"audience": "new"})
    world.provider.to = answering(503)
    world.clock.advance(31)
    response = world.get_token(broker, name)
    assert (response.access_token, response.warnings) == ("tok-1", ("renewal_failing",))
    assert world.get_token(broker, name).access_token == "tok-1"
    assert len(world.provider) == 2


def test_a_token_of_another_issuer_is_not_served_when_its_replacement_fails(world: World, broker: Broker) -> None:
    name = world.connection()
    world.get_token(broker, name)
    world.settings(name, token_url="https://other.example/token")
    world.provider.to = answering(503)
    world.clock.advance(31)
    assert try_to_get(world, broker, name) == "provider_unavailable"


def test_a_put_whose_marking_failed_marks_when_it_is_repeated(world: World, broker: Broker) -> None:
    name = world.connection()
    world.get_token(broker, name)
    world.faults.fail("tokens.save")
    with pytest.raises(BrokerUnavailable):
        put(broker, name, params={"audience": "new"})
    assert world.record(name).stale_at is None
    put(broker, name, params={"audience": "new"})
    assert world.record(name).stale_at is not None
    work_for(world, broker, timedelta(minutes=3))
    assert "audience=new" in world.provider.bodies()[-1]


def test_a_delete_that_aws_repeats_succeeds_and_drops_what_came_in_between(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    other = world.instance()
    world.get_token(broker, name)
    world.faults.before("connections.delete", lambda: world.get_token(other, name))
    world.faults.send_twice("connections.delete")
    assert broker.connections.delete(name, expected=None).dropped == 2
    assert world.record(name).token is None


def test_all_dropped_tokens_are_reported_while_their_revocation_fails(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.revoker.to = answering(503)
    for _ in range(12):
        world.get_token(broker, name)
        last = broker.purge_and_revoke(name, None, deadline=world.clock() + timedelta(seconds=26))
        world.clock.advance(1)
    assert len({item.token_id for item in last.not_revoked}) == 12
    world.revoker.to = answering(200, {})
    work_for(world, broker, timedelta(minutes=10))
    assert world.tokens.items(name).retired == []


def test_a_renewal_does_not_take_the_mark_of_a_purge_away(world: World, broker: Broker, name: ConnectionName) -> None:
    """The purge comes while the provider is asked, and its revocation fails."""
    world.get_token(broker, name)
    to_renewal(world, name)
    world.revoker.to = answering(503)
    other = world.instance()
    deadline = world.clock() + timedelta(seconds=26)
    world.provider.to = calling_back(lambda: other.purge_and_revoke(name, None, deadline=deadline), issuing("tok-2"))
    world.renew(broker, name)
    assert {item.token_id for item in world.tokens.items(name).retired if item.revoke} == {
        fingerprint("tok-1"),
        fingerprint("tok-2"),
    }


# ------------------------------------------------------------------ providers


@pytest.mark.parametrize("host", ["api.example", "api.example:443", "api.example.", "API.example"])
def test_one_endpoint_has_one_budget_however_it_is_written(world: World, broker: Broker, host: str) -> None:
    first = world.connection("commerce-layer", "first", token_url="https://api.example/oauth/token")
    second = world.connection("commerce-layer", "second", token_url=f"https://{host}/oauth/token")
    world.provider.to = answering(429, headers={"retry-after": "120"})
    assert try_to_get(world, broker, first) == "provider_rate_limited"
    assert try_to_get(world, broker, second) == "provider_rate_limited"
    assert len(world.provider) == 1


def test_nonsense_scopes_cause_a_bounded_number_of_requests_and_items(world: World, broker: Broker) -> None:
    name = world.connection(allowed_scopes=["*"])
    world.provider.to = refusing("invalid_scope")
    codes = set()
    for number in range(500):
        codes.add(try_to_get(world, broker, name, scope=f"nonsense-{number}"))
        world.clock.advance(5)
    assert codes == {"provider_refused", TooManyScopeSets.code}
    assert len(world.provider) <= 32
    assert len(world.tokens.items(name).records) <= 33


def test_an_unknown_error_code_twice_in_a_row_is_a_refusal(world: World, broker: Broker) -> None:
    name = world.connection()
    world.provider.to = answering(200, {"error": "invalid_client_secret"})
    assert try_to_get(world, broker, name) == "provider_invalid_response"
    world.clock.advance(61)
    with pytest.raises(ProviderRefused):
        world.get_token(broker, name)
    world.clock.advance(600)
    with pytest.raises(ProviderRefused):
        world.get_token(broker, name)
    assert len(world.provider) == 2
    world.secrets.put(name, {"client_id": "id", "client_secret": "new"})
    world.provider.to = issuing()
    world.clock.advance(31)
    assert try_to_get(world, broker, name) == "tok-1"


# ------------------------------------------------------------------ callers


def test_nobody_waits_for_an_acquisition_after_a_failure(world: World, broker: Broker, name: ConnectionName) -> None:
    """P14: while one caller asks a hanging provider again, the others are told at once."""
    world.provider.to = hanging(world.clock)
    assert try_to_get(world, broker, name) == "provider_unavailable"
    world.clock.advance(3)
    waited = []

    def another_caller() -> None:
        started = world.clock()
        with pytest.raises(AcquisitionInProgress):
            world.get_token(world.instance(), name)
        waited.append(world.clock() - started)

    world.clock.at(1, another_caller)
    try_to_get(world, broker, name)
    assert waited == [timedelta()]


def test_a_used_up_budget_takes_no_lease_and_reads_no_secret(world: World, broker: Broker) -> None:
    names = [world.connection("commerce-layer", f"c{number}") for number in range(17)]
    codes = [try_to_get(world, broker, name) for name in names]
    assert codes.count("provider_rate_limited") == 2
    world.faults.calls.clear()
    assert try_to_get(world, broker, names[-1]) == "provider_rate_limited"
    assert world.faults.calls["tokens.save"] == 0
    assert world.faults.calls["secrets.read"] == 0


# ------------------------------------------------------------------ items


def test_claims_without_a_worker_keep_the_item(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    for _ in range(200):
        broker.sweep(scheduled_at=world.clock(), deadline=world.clock() + timedelta(seconds=50))
        world.queue.take()
        world.clock.advance(1800)
    record = world.record(name)
    assert record.due_at is not None
    assert record.delete_at is not None
    assert record.delete_at >= record.due_at + KEEP


def test_a_deleted_connection_leaves_no_key_in_the_index(world: World, broker: Broker) -> None:
    name = world.connection(keep_warm="always")
    put(broker, name, keep_warm="always")
    work_for(world, broker, timedelta(minutes=3))
    broker.connections.delete(name, expected=None)
    work_for(world, broker, timedelta(minutes=10))
    assert not is_indexed(world, name)
    assert world.record(name).delete_at is not None
    assert world.tokens.read(TokenKey(name, ""))[1].live_token(world.clock()) is None

"""DELETE /v1/tokens: drops the tokens, then revokes what it can. The worker revokes the rest."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.fakes import World, answering, calling_back, issuing, unreachable
from token_broker.core.names import ConnectionName, fingerprint
from token_broker.errors import BrokerError, ConnectionSuspended, UnknownConnection
from token_broker.service import Broker, PurgeResult
from token_broker.service.renew import RenewalOutcome

FIRST = fingerprint("tok-1")
SECOND = fingerprint("tok-2")


def purge(world: World, broker: Broker, name: ConnectionName, scope: str | None = None) -> PurgeResult:
    return broker.purge_and_revoke(name, scope, deadline=world.clock() + timedelta(seconds=26))


def reasons(result: PurgeResult) -> dict[str, str]:
    return {item.token_id: item.reason for item in result.not_revoked}


def test_a_purge_drops_and_revokes(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    result = purge(world, broker, name)
    assert (result.dropped, result.revoked, result.not_revoked) == (1, (FIRST,), ())
    assert "token=tok-1" in world.revoker.bodies()[0]
    record = world.record(name)
    assert (record.token, record.refresh_token, world.retired(name)) == (None, None, [])


def test_every_instance_stops_serving_a_purged_token_within_thirty_seconds(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    other = world.instance()
    world.get_token(broker, name)
    world.get_token(other, name)
    purge(world, broker, name)
    world.clock.advance(30.001)
    assert world.get_token(other, name).access_token == "tok-2"


def test_a_superseded_live_token_is_revoked_too(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.clock.advance(3000)
    world.renew(broker, name)
    result = purge(world, broker, name)
    assert (result.dropped, set(result.revoked)) == (1, {FIRST, SECOND})


def test_an_expired_token_is_not_revoked(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.clock.advance(3600)
    result = purge(world, broker, name)
    assert (result.revoked, result.not_revoked) == ((), ())
    assert len(world.revoker) == 0


def test_a_purge_of_one_scope_set_or_of_all(world: World, broker: Broker, name: ConnectionName) -> None:
    for scope in ("a", "b", "c"):
        world.get_token(broker, name, scope=scope)
    assert purge(world, broker, name, "b").revoked == (SECOND,)
    assert world.get_token(world.instance(), name, scope="a").access_token == "tok-1"
    assert purge(world, broker, name).dropped == 2


def test_tokens_are_dropped_without_a_secret(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.secrets.delete(name)
    result = purge(world, broker, name)
    assert (result.dropped, reasons(result)) == (1, {FIRST: "credentials_missing"})
    assert world.record(name).token is None


def test_tokens_are_dropped_while_the_provider_is_unreachable(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.get_token(broker, name)
    world.revoker.to = calling_back(lambda: None, unreachable())
    result = purge(world, broker, name)
    assert (result.dropped, reasons(result)) == (1, {FIRST: "provider_unavailable"})


def test_without_a_revocation_endpoint_the_result_says_so(world: World, broker: Broker) -> None:
    name = world.connection(revocation_url=None)
    world.get_token(broker, name)
    result = purge(world, broker, name)
    assert reasons(result) == {FIRST: "not_supported"}
    assert result.not_revoked[0].expires_at == world.clock() + timedelta(hours=1)
    assert world.retired(name) == []


def test_tokens_are_dropped_before_they_are_revoked(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    during = []
    world.revoker.to = calling_back(lambda: during.append(world.record(name).token), answering(200, {}))
    purge(world, broker, name)
    assert during == [None]


def test_revocations_end_before_the_deadline_and_the_rest_is_queued(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    for scope in ("a", "b", "c"):
        world.get_token(broker, name, scope=scope)
    slow = answering(200, {})
    world.revoker.to = lambda *arguments: (world.clock.advance(8), slow(*arguments))[1]
    deadline = world.clock() + timedelta(seconds=20)
    result = broker.purge_and_revoke(name, None, deadline=deadline)
    assert world.clock() <= deadline
    assert (result.dropped, len(result.revoked), list(reasons(result).values())) == (3, 2, ["queued"])


def test_the_worker_retries_failed_revocations(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.revoker.to = answering(503)
    purge(world, broker, name)
    assert world.retired(name)[0].due_at == world.clock() + timedelta(minutes=1)
    world.clock.advance(60)
    assert world.retry_revocations(broker, name) == [RenewalOutcome.NOT_REVOKED]
    assert world.retired(name)[0].due_at == world.clock() + timedelta(minutes=5)
    world.revoker.to = answering(200, {})
    assert world.retry_revocations(broker, name) == [RenewalOutcome.REVOKED]
    assert len(world.revoker) == 3
    assert world.retired(name) == []


def test_the_sweep_queues_each_token_that_is_still_to_be_revoked(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    for scope in ("a", "b"):
        world.get_token(broker, name, scope=scope)
    world.revoker.to = answering(503)
    purge(world, broker, name)
    world.clock.advance(60)
    broker.sweep(scheduled_at=world.clock(), deadline=world.clock() + timedelta(seconds=50))
    assert {message.token_id for message in world.queue.take()} == {FIRST, SECOND}


@pytest.mark.parametrize("is_gone", [False, True], ids=["connection", "deleted connection"])
def test_p8_the_worker_does_not_trust_the_revocation_address_in_a_tokens_item(
    world: World, broker: Broker, name: ConnectionName, *, is_gone: bool
) -> None:
    """A writer of the token table must not decide who gets the credentials."""
    world.get_token(broker, name)
    world.revoker.to = answering(503)
    purge(world, broker, name)
    (item,) = world.retired(name)
    assert item.settings is not None
    changed = {**item.settings, "revocation_url": "https://elsewhere.example/revoke"}
    world.tokens.put_retired(replace(item, settings=changed))
    if is_gone:
        world.connections.delete(name, expected=None)
    world.revoker.requests.clear()
    world.clock.advance(60)
    assert world.retry_revocations(broker, name) == [RenewalOutcome.NOT_REVOKED]
    assert len(world.revoker) == 0
    assert world.retired(name) == []


def test_the_worker_revokes_for_a_deleted_connection(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.revoker.to = answering(503)
    purge(world, broker, name)
    world.connections.delete(name, expected=None)
    world.revoker.to = answering(200, {})
    world.revoker.requests.clear()
    world.clock.advance(60)
    assert world.retry_revocations(broker, name) == [RenewalOutcome.REVOKED]
    assert "token=tok-1" in world.revoker.bodies()[0]


def test_the_worker_revokes_at_the_endpoint_of_the_current_settings(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """After a leak, an owner adds the revocation endpoint to the settings."""
    world.settings(name, revocation_url=None)
    world.get_token(broker, name)
    world.settings(name)
    world.revoker.to = answering(503)
    purge(world, broker, name)
    world.revoker.to = answering(200, {})
    world.clock.advance(60)
    assert world.retry_revocations(broker, name) == [RenewalOutcome.REVOKED]


def test_the_worker_acquires_no_token_after_a_purge(world: World, broker: Broker, name: ConnectionName) -> None:
    """Only the next GET does."""
    world.get_token(broker, name)
    purge(world, broker, name)
    world.clock.advance(60)
    assert world.renew(broker, name).outcome is not RenewalOutcome.RENEWED
    assert len(world.provider) == 1


def test_the_next_request_acquires_a_token_and_leaves_revocations_to_the_worker(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.get_token(broker, name)
    world.revoker.to = answering(503)
    purge(world, broker, name)
    assert world.get_token(world.instance(), name).access_token == "tok-2"
    assert [(item.token_id, item.revoke) for item in world.retired(name)] == [(FIRST, True)]
    world.revoker.to = answering(200, {})
    world.retry_revocations(broker, name)
    assert world.retired(name) == []
    assert world.get_token(world.instance(), name).access_token == "tok-2"


@pytest.mark.parametrize("keep_warm", ["used", "never"])
def test_a_failed_revocation_stays_due_beside_a_new_token(world: World, broker: Broker, keep_warm: str) -> None:
    """Otherwise it would be retried at the new token's renewal, or never."""
    name = world.connection(keep_warm=keep_warm)
    world.get_token(broker, name)
    world.revoker.to = answering(503)
    purge(world, broker, name)
    world.get_token(world.instance(), name)
    due_at = world.retired(name)[0].due_at
    assert due_at is not None
    assert due_at <= world.clock() + timedelta(minutes=5)


def test_the_worker_revokes_for_a_suspended_connection(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.revoker.to = answering(503)
    purge(world, broker, name)
    world.settings(name, suspended=True)
    assert world.renew(broker, name).outcome is RenewalOutcome.IDLE
    world.revoker.to = answering(200, {})
    assert world.retry_revocations(broker, name) == [RenewalOutcome.REVOKED]


def test_a_purge_wins_over_a_running_acquisition(world: World, broker: Broker, name: ConnectionName) -> None:
    """The token that was requested before is not returned, not stored, and revoked."""
    world.provider.to = calling_back(lambda: purge(world, broker, name), issuing())
    with pytest.raises(BrokerError):
        world.get_token(broker, name)
    record = world.record(name)
    assert (record.token, record.lease) == (None, None)
    assert "token=tok-1" in world.revoker.bodies()[0]
    assert world.get_token(broker, name).access_token == "tok-2"


def test_a_purge_wins_over_a_running_renewal(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.clock.advance(3000)
    world.provider.to = calling_back(lambda: purge(world, broker, name), issuing("new"))
    world.renew(broker, name)
    assert world.record(name).token is None
    assert {body.partition("token=")[2].partition("&")[0] for body in world.revoker.bodies()} == {"tok-1", "new"}


def test_the_token_of_a_purged_acquisition_is_left_to_the_worker_if_it_cannot_be_revoked(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.revoker.to = answering(503)
    world.provider.to = calling_back(lambda: purge(world, broker, name), issuing())
    with pytest.raises(BrokerError):
        world.get_token(broker, name)
    assert [item.token_id for item in world.retired(name)] == [FIRST]


def test_a_purge_of_an_unknown_connection_is_an_error(world: World, broker: Broker) -> None:
    with pytest.raises(UnknownConnection):
        purge(world, broker, ConnectionName("oauth2", "nowhere"))


def test_a_purge_works_with_invalid_stored_settings(world: World, broker: Broker, name: ConnectionName) -> None:
    """A leaked token must be dropped whatever else is wrong."""
    world.get_token(broker, name)
    world.settings(name, token_url="ftp://x")
    assert purge(world, broker, name).dropped == 1
    assert world.record(name).token is None


def test_revocations_use_the_budget(world: World, broker: Broker) -> None:
    names = [world.connection("commerce-layer", f"market-{n}", scope="market:id:1") for n in range(15)]
    for name in names:
        world.get_token(broker, name)
    assert reasons(purge(world, broker, names[0])) == {FIRST: "rate_limited"}
    assert len(world.revoker) == 0


def test_a_token_with_a_broken_seal_is_reported_and_not_retried(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.get_token(broker, name)
    world.sealer.broken = True
    assert reasons(purge(world, broker, name)) == {FIRST: "unreadable"}
    assert world.retired(name) == []


def test_a_revocation_without_kms_is_reported_and_retried(world: World, broker: Broker, name: ConnectionName) -> None:
    world.get_token(broker, name)
    world.sealer.denied = True
    result = purge(world, broker, name)
    assert (result.dropped, reasons(result)) == (1, {FIRST: "broker_unavailable"})
    assert [item.token_id for item in world.retired(name)] == [FIRST]


@pytest.mark.parametrize(
    ("change", "error"),
    [("suspended", ConnectionSuspended), ("deleted", UnknownConnection)],
    ids=["suspended", "deleted"],
)
def test_a_first_request_that_has_begun_does_not_survive_a_purge(
    world: World, broker: Broker, name: ConnectionName, change: str, error: type[BrokerError]
) -> None:
    """The key has no item yet, so the purge cannot fence it."""

    def suspend_or_delete() -> None:
        other = world.instance()
        if change == "suspended":
            world.settings(name, suspended=True)
            purge(world, other, name)
        else:
            other.connections.delete(name, expected=None)

    world.faults.before("tokens.save", suspend_or_delete)
    with pytest.raises(error):
        world.get_token(broker, name)
    assert len(world.provider) == 0
    assert world.record(name).lease is None

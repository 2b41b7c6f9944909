"""DELETE /v1/tokens: purge first, then revoke what can be, the rest by the worker."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.fakes import World, answering, calling_back, issuing, unreachable
from token_broker.core.names import ConnectionName, fingerprint
from token_broker.errors import BrokerError, ConnectionSuspended, UnknownConnection
from token_broker.service import Broker, PurgeResult
from token_broker.service.renew import RenewalOutcome

FIRST, SECOND = fingerprint("tok-1"), fingerprint("tok-2")


def purge(world: World, broker: Broker, name: ConnectionName, scope: str | None = None) -> PurgeResult:
    return broker.purge(name, scope, deadline=world.clock() + timedelta(seconds=26))


def reasons(done: PurgeResult) -> dict[str, str]:
    return {item.token_id: item.reason for item in done.not_revoked}


def test_a_purge_drops_and_revokes(world: World, broker: Broker, name: ConnectionName) -> None:
    world.ask(broker, name)
    done = purge(world, broker, name)
    assert (done.dropped, done.revoked, done.not_revoked) == (1, (FIRST,), ())
    assert "token=tok-1" in world.revoker.bodies()[0]
    record = world.record(name)
    assert (record.token, record.retired, record.refresh_token) == (None, (), None)


def test_every_instance_stops_within_thirty_seconds(world: World, broker: Broker, name: ConnectionName) -> None:
    other = world.instance()
    world.ask(broker, name)
    world.ask(other, name)
    purge(world, broker, name)
    world.clock.advance(30.001)
    assert world.ask(other, name).access_token == "tok-2"


def test_the_superseded_token_that_still_lives_is_revoked_too(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.ask(broker, name)
    world.clock.advance(3000)
    world.renew(broker, name)
    done = purge(world, broker, name)
    assert (done.dropped, set(done.revoked)) == (1, {FIRST, SECOND})


def test_a_token_that_has_ended_is_not_revoked(world: World, broker: Broker, name: ConnectionName) -> None:
    world.ask(broker, name)
    world.clock.advance(3600)
    done = purge(world, broker, name)
    assert (done.revoked, done.not_revoked) == ((), ())
    assert len(world.revoker) == 0


def test_one_scope_set_or_all_of_them(world: World, broker: Broker, name: ConnectionName) -> None:
    for scope in ("a", "b", "c"):
        world.ask(broker, name, scope=scope)
    assert purge(world, broker, name, "b").revoked == (SECOND,)
    assert world.ask(world.instance(), name, scope="a").access_token == "tok-1"
    assert purge(world, broker, name).dropped == 2


def test_the_tokens_go_although_the_secret_is_gone(world: World, broker: Broker, name: ConnectionName) -> None:
    world.ask(broker, name)
    world.secrets.delete(name)
    done = purge(world, broker, name)
    assert (done.dropped, reasons(done)) == (1, {FIRST: "credentials_missing"})
    assert world.record(name).token is None


def test_the_tokens_go_although_the_provider_hangs(world: World, broker: Broker, name: ConnectionName) -> None:
    world.ask(broker, name)
    world.revoker.to = calling_back(lambda: None, unreachable())
    done = purge(world, broker, name)
    assert (done.dropped, reasons(done)) == (1, {FIRST: "provider_unavailable"})


def test_a_provider_without_revocation_says_so(world: World, broker: Broker) -> None:
    name = world.connection(revocation_url=None)
    world.ask(broker, name)
    done = purge(world, broker, name)
    assert reasons(done) == {FIRST: "not_supported"}
    assert done.not_revoked[0].expires_at == world.clock() + timedelta(hours=1)
    assert world.record(name).retired == ()


def test_a_purge_comes_before_its_revocations(world: World, broker: Broker, name: ConnectionName) -> None:
    world.ask(broker, name)
    seen = []
    world.revoker.to = calling_back(lambda: seen.append(world.record(name).token), answering(200, {}))
    purge(world, broker, name)
    assert seen == [None]


def test_revocations_end_before_the_deadline_and_the_rest_is_queued(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    for scope in ("a", "b", "c"):
        world.ask(broker, name, scope=scope)
    slow = answering(200, {})
    world.revoker.to = lambda *arguments: (world.clock.advance(8), slow(*arguments))[1]
    deadline = world.clock() + timedelta(seconds=20)
    done = broker.purge(name, None, deadline=deadline)
    assert world.clock() <= deadline
    assert (done.dropped, len(done.revoked), list(reasons(done).values())) == (3, 2, ["queued"])


def test_what_is_outstanding_is_retried_by_the_worker(world: World, broker: Broker, name: ConnectionName) -> None:
    world.ask(broker, name)
    world.revoker.to = answering(503)
    purge(world, broker, name)
    assert world.record(name).due_at == world.clock() + timedelta(minutes=1)
    world.clock.advance(60)
    world.renew(broker, name)
    world.revoker.to = answering(200, {})
    world.renew(broker, name)
    assert len(world.revoker) == 3
    assert world.record(name).retired == ()


@pytest.mark.parametrize("is_gone", [False, True], ids=["connection", "deleted connection"])
def test_p8_the_worker_sends_nothing_to_an_address_that_stands_beside_a_token(
    world: World, broker: Broker, name: ConnectionName, *, is_gone: bool
) -> None:
    """Whoever may write the table of tokens must not thereby choose who is sent the credentials."""
    world.ask(broker, name)
    world.revoker.to = answering(503)
    purge(world, broker, name)
    record = world.record(name)
    assert record.revocation_settings is not None
    wrong_redirect = {**record.revocation_settings, "revocation_url": "https://elsewhere.example/revoke"}
    world.tokens._change(record.key, revocation_settings=wrong_redirect)
    if is_gone:
        world.connections.delete(name, expected=None)
    world.revoker.requests.clear()
    world.clock.advance(60)
    world.renew(broker, name)
    assert len(world.revoker) == 0
    assert world.record(name).retired == ()


def test_the_worker_revokes_for_a_deleted_connection_where_its_token_says(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.ask(broker, name)
    world.revoker.to = answering(503)
    purge(world, broker, name)
    world.connections.delete(name, expected=None)
    world.revoker.to = answering(200, {})
    world.revoker.requests.clear()
    world.clock.advance(60)
    assert world.renew(broker, name).outcome is RenewalOutcome.REVOKED
    assert "token=tok-1" in world.revoker.bodies()[0]


def test_the_worker_revokes_where_the_settings_say_by_now(world: World, broker: Broker, name: ConnectionName) -> None:
    """An owner learns of a leak, and names the revocation endpoint only then."""
    world.settings(name, revocation_url=None)
    world.ask(broker, name)
    world.settings(name)
    world.revoker.to = answering(503)
    purge(world, broker, name)
    world.revoker.to = answering(200, {})
    world.clock.advance(60)
    assert world.renew(broker, name).outcome is RenewalOutcome.REVOKED


def test_the_worker_issues_nothing_anew_after_a_purge(world: World, broker: Broker, name: ConnectionName) -> None:
    """Only the next GET does; nobody has asked since."""
    world.ask(broker, name)
    purge(world, broker, name)
    world.clock.advance(60)
    assert world.renew(broker, name).outcome is not RenewalOutcome.RENEWED
    assert len(world.provider) == 1


def test_the_next_request_issues_anew_and_leaves_the_outstanding_to_the_worker(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.ask(broker, name)
    world.revoker.to = answering(503)
    purge(world, broker, name)
    assert world.ask(world.instance(), name).access_token == "tok-2"
    assert [(item.token_id, item.revoke) for item in world.record(name).retired] == [(FIRST, True)]
    world.revoker.to = answering(200, {})
    world.renew(broker, name)
    assert world.record(name).retired == ()
    assert world.ask(world.instance(), name).access_token == "tok-2"


@pytest.mark.parametrize("keep_warm", ["used", "never"])
def test_what_is_outstanding_stays_due_beside_a_new_token(world: World, broker: Broker, keep_warm: str) -> None:
    """Else it is not retried before the new token's renewal, or never."""
    name = world.connection(keep_warm=keep_warm)
    world.ask(broker, name)
    world.revoker.to = answering(503)
    purge(world, broker, name)
    world.ask(world.instance(), name)
    due_at = world.record(name).due_at
    assert due_at is not None
    assert due_at <= world.clock() + timedelta(minutes=5)


def test_the_worker_revokes_for_a_suspended_connection(world: World, broker: Broker, name: ConnectionName) -> None:
    world.ask(broker, name)
    world.revoker.to = answering(503)
    purge(world, broker, name)
    world.settings(name, suspended=True)
    assert world.renew(broker, name).outcome is RenewalOutcome.IDLE
    assert world.record(name).due_at is not None
    world.revoker.to = answering(200, {})
    assert world.renew(broker, name).outcome is RenewalOutcome.REVOKED


def test_a_purge_wins_over_an_acquisition_in_flight(world: World, broker: Broker, name: ConnectionName) -> None:
    """What was asked for before is not handed out, not kept, and revoked."""
    world.provider.to = calling_back(lambda: purge(world, broker, name), issuing())
    with pytest.raises(BrokerError):
        world.ask(broker, name)
    record = world.record(name)
    assert (record.token, record.lease) == (None, None)
    assert "token=tok-1" in world.revoker.bodies()[0]
    assert world.ask(broker, name).access_token == "tok-2"


def test_a_purge_wins_over_a_renewal_in_flight(world: World, broker: Broker, name: ConnectionName) -> None:
    world.ask(broker, name)
    world.clock.advance(3000)
    world.provider.to = calling_back(lambda: purge(world, broker, name), issuing("new"))
    world.renew(broker, name)
    assert world.record(name).token is None
    assert {body.partition("token=")[2].partition("&")[0] for body in world.revoker.bodies()} == {"tok-1", "new"}


def test_a_failing_commit_of_a_purged_acquisition_leaves_its_token_to_the_worker(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    world.revoker.to = answering(503)
    world.provider.to = calling_back(lambda: purge(world, broker, name), issuing())
    with pytest.raises(BrokerError):
        world.ask(broker, name)
    assert [item.token_id for item in world.record(name).retired] == [FIRST]


def test_a_purge_of_an_unknown_connection_says_so(world: World, broker: Broker) -> None:
    with pytest.raises(UnknownConnection):
        purge(world, broker, ConnectionName("oauth2", "nowhere"))


def test_a_purge_works_with_settings_that_were_broken_by_hand(
    world: World, broker: Broker, name: ConnectionName
) -> None:
    """A leaked token must be stopped whatever else is wrong."""
    world.ask(broker, name)
    world.settings(name, token_url="ftp://x")
    assert purge(world, broker, name).dropped == 1
    assert world.record(name).token is None


def test_revocations_take_from_the_budget(world: World, broker: Broker) -> None:
    names = [world.connection("commerce-layer", f"market-{n}", scope="market:id:1") for n in range(15)]
    for name in names:
        world.ask(broker, name)
    assert reasons(purge(world, broker, names[0])) == {FIRST: "rate_limited"}
    assert len(world.revoker) == 0


def test_a_broken_seal_is_told_and_not_retried(world: World, broker: Broker, name: ConnectionName) -> None:
    world.ask(broker, name)
    world.sealer.broken = True
    assert reasons(purge(world, broker, name)) == {FIRST: "unreadable"}
    assert world.record(name).retired == ()


def test_an_unreachable_kms_is_told_and_retried(world: World, broker: Broker, name: ConnectionName) -> None:
    world.ask(broker, name)
    world.sealer.denied = True
    done = purge(world, broker, name)
    assert (done.dropped, reasons(done)) == (1, {FIRST: "broker_unavailable"})
    assert [item.token_id for item in world.record(name).retired] == [FIRST]


@pytest.mark.parametrize(
    ("ended", "error"),
    [("suspended", ConnectionSuspended), ("deleted", UnknownConnection)],
    ids=["suspended", "deleted"],
)
def test_a_first_request_under_way_does_not_outlive_a_purge(
    world: World, broker: Broker, name: ConnectionName, ended: str, error: type[BrokerError]
) -> None:
    """The key has no item yet on which the purge could leave a fence."""

    def end() -> None:
        other = world.instance()
        if ended == "suspended":
            world.settings(name, suspended=True)
            purge(world, other, name)
        else:
            other.connections.delete(name, expected=None)

    world.faults.before("tokens.take_lease", end)
    with pytest.raises(error):
        world.ask(broker, name)
    assert len(world.provider) == 0
    assert world.record(name).lease is None

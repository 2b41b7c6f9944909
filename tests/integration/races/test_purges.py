"""DELETE and suspension during other operations: no token comes back, and none stays live at the provider."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from tests.integration.handlers.world import World

from .fleet import RESPONSE_S
from .gate import Gate
from .ground import Ground

REVOKING = ["unidy", "oauth2"]


@pytest.fixture(params=REVOKING)
def provider(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_a_token_that_arrives_after_a_purge_is_revoked_and_nobody_gets_it(ground: Ground, provider: str) -> None:
    for round_ in ground:
        name, simulator = round_.connect(provider), round_.world.simulator(provider)
        simulator.fail("hang")
        caller = round_.race.meanwhile(partial(round_.fleet.get, name))
        assert simulator.waits.until_held(1, RESPONSE_S)
        assert round_.fleet.purge(name)["dropped"] == 0
        simulator.waits.release()
        assert caller.result(RESPONSE_S).code == "acquisition_in_progress"
        assert (round_.count(name, "issued"), round_.count(name, "revocations")) == (1, 1)
        assert round_.live(name) == round_.kept(name) == set()


def test_the_worker_revokes_what_could_not_be_revoked_at_once(ground: Ground, provider: str) -> None:
    for round_ in ground:
        name, simulator = round_.connect(provider), round_.world.simulator(provider)
        simulator.fail("hang")
        simulator.fail("status", on="revoke", status=503)
        caller = round_.race.meanwhile(partial(round_.fleet.get, name))
        assert simulator.waits.until_held(1, RESPONSE_S)
        round_.fleet.purge(name)
        simulator.waits.release()
        assert caller.result(RESPONSE_S).code == "acquisition_in_progress"
        assert round_.live(name) == round_.kept(name) != set()
        assert round_.current(name) == ""
        round_.retry_revocations(name)
        assert round_.live(name) == round_.kept(name) == set()
        assert round_.count(name, "token_requests") == 1


def test_callers_reports_and_a_purge_at_once_leave_no_unknown_token(ground: Ground) -> None:
    for round_ in ground:
        name, old = round_.seeded("unidy", keep=False)
        calls: list[Callable[[], object]] = [partial(round_.fleet.get, name, old.token_id)]
        calls += [partial(round_.fleet.purge, name), partial(round_.fleet.get, name)]
        round_.race.together(calls)
        assert old.token_id not in round_.live(name)
        assert round_.live(name) <= round_.kept(name)
        # The worker revokes a token whose commit failed while another caller held the lease.
        round_.retry_revocations(name)
        assert round_.live(name) <= round_.kept(name)
        assert len(round_.live(name)) <= 1


def test_a_purge_between_the_read_and_the_lease_of_a_caller_wins(ground: Ground, gate: Gate) -> None:
    """The caller reads and decides again, and gets a new token."""
    for round_ in ground:
        name, old = round_.seeded("unidy", keep=False)
        lease = gate.hold("UpdateItem", holding="#lease_owner = :lease_owner")
        caller = round_.race.meanwhile(partial(round_.fleet.get, name, old.token_id))
        lease.wait()
        assert round_.fleet.purge(name)["revoked"] == [old.token_id]
        lease.let_go()
        got = caller.result(RESPONSE_S)
        assert got.token_id not in ("", old.token_id)
        assert round_.live(name) == round_.kept(name) == {got.token_id}


def test_a_suspended_and_purged_connection_returns_no_token_of_a_running_acquisition(ground: Ground) -> None:
    for round_ in ground:
        name, simulator = round_.connect("unidy"), round_.world.simulator("unidy")
        simulator.fail("hang")
        callers = [round_.race.meanwhile(partial(round_.fleet.get, name)) for _ in range(3)]
        assert simulator.waits.until_held(1, RESPONSE_S)
        round_.fleet.put(name, round_.world.settings("unidy", suspended=True))
        round_.fleet.purge(name)
        simulator.waits.release()
        assert {caller.result(RESPONSE_S).code for caller in callers} == {"connection_suspended"}
        assert round_.live(name) == round_.kept(name) == set()


def test_a_suspension_lets_a_running_acquisition_finish_and_starts_none(ground: Ground) -> None:
    for round_ in ground:
        name, simulator = round_.connect("unidy"), round_.world.simulator("unidy")
        simulator.fail("hang")
        caller = round_.race.meanwhile(partial(round_.fleet.get, name))
        assert simulator.waits.until_held(1, RESPONSE_S)
        round_.fleet.put(name, round_.world.settings("unidy", suspended=True))
        simulator.waits.release()
        assert caller.result(RESPONSE_S).code == ""
        assert round_.live(name) == round_.kept(name)
        round_.expire_token(name)
        assert round_.bystander.get(name).code == "connection_suspended"
        round_.fleet.renew(name, round_.scope_id(name))
        assert round_.count(name, "token_requests") == 1


@pytest.mark.parametrize("warm", [False, True], ids=["of-a-purged-key", "of-a-key-in-use"])
def test_a_stop_between_the_read_and_the_lease_of_a_caller_leaves_no_token(
    ground: Ground, gate: Gate, warm: bool
) -> None:
    """A stop is a suspension, then a purge. A caller that read the table before must not store a token afterwards."""
    for round_ in ground:
        name = round_.connect("unidy")
        if warm:
            round_.bystander.get(name)
            round_.expire_token(name)
        else:
            round_.bystander.get(name)
            round_.fleet.purge(name)
        before = round_.world.report("unidy")["issued"]
        lease = gate.hold("UpdateItem", holding="#lease_owner = :lease_owner")
        caller = round_.race.meanwhile(partial(round_.bystander.get, name))
        lease.wait()
        round_.fleet.put(name, round_.world.settings("unidy", suspended=True))
        round_.fleet.purge(name)
        lease.let_go()
        assert caller.result(RESPONSE_S).code == "connection_suspended"
        assert round_.world.report("unidy")["issued"] == before
        assert round_.kept(name) == set()


def test_a_connection_deleted_during_an_acquisition_leaves_no_token(ground: Ground, provider: str) -> None:
    for round_ in ground:
        name, simulator = round_.connect(provider), round_.world.simulator(provider)
        simulator.fail("hang")
        caller = round_.race.meanwhile(partial(round_.fleet.get, name))
        assert simulator.waits.until_held(1, RESPONSE_S)
        round_.fleet.delete(name)
        simulator.waits.release()
        assert caller.result(RESPONSE_S).code == "unknown_connection"
        assert round_.live(name) == round_.kept(name) == set()


def test_a_running_renewal_stores_no_token_after_a_purge(ground: Ground, provider: str) -> None:
    for round_ in ground:
        name, old = round_.seeded(provider, keep=False)
        scope_id, simulator = round_.scope_id(name), round_.world.simulator(provider)
        round_.make_due(name)
        simulator.fail("hang")
        worker = round_.race.meanwhile(partial(round_.fleet.renew, name, scope_id))
        assert simulator.waits.until_held(1, RESPONSE_S)
        assert round_.fleet.purge(name)["revoked"] == [old.token_id]
        simulator.waits.release()
        worker.result(RESPONSE_S)
        assert round_.live(name) == set()
        assert round_.current(name) == ""
        # The worker kept the old token once more, before its commit was refused. The next purge drops that too.
        assert round_.kept(name) <= {old.token_id}
        round_.fleet.purge(name)
        assert round_.kept(name) == set()


def test_two_purges_at_once_revoke_every_token(ground: Ground) -> None:
    for round_ in ground:
        name, old = round_.seeded("unidy", keep=False)
        done = round_.race.together([partial(round_.fleet.purge, name)] * 2)
        assert {token_id for response in done for token_id in response["revoked"]} == {old.token_id}
        assert round_.live(name) == round_.kept(name) == set()


def test_a_late_note_of_its_use_does_not_restore_a_purged_token(world: World, ground: Ground, gate: Gate) -> None:
    """A request notes the use of a token after reading it. A purge in between must leave no item with a token."""
    for round_ in ground:
        name, old = round_.seeded("unidy", keep=False)
        world.aws.change_token_item(name, last_used_at=-timedelta(hours=1))
        note = gate.hold("UpdateItem", holding="SET #last_used_at")
        caller = round_.race.meanwhile(partial(round_.bystander.get, name))
        note.wait()
        round_.fleet.purge(name)
        note.let_go()
        assert caller.result(RESPONSE_S).token_id == old.token_id
        assert round_.current(name) == ""
        assert round_.record(name).last_used_at is None

"""DELETE and suspension against what is under way: a token neither comes back nor lives on at the provider."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from tests.integration.handlers.world import World

from .fleet import ANSWER_S
from .gate import Gate
from .ground import Ground

REVOKING = ["unidy", "oauth2"]


@pytest.fixture(params=REVOKING)
def provider(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_a_token_that_arrives_after_a_purge_is_nobodys_and_revoked(ground: Ground, provider: str) -> None:
    for round_ in ground:
        name, simulator = round_.connect(provider), round_.world.simulator(provider)
        simulator.fail("hang")
        caller = round_.race.meanwhile(partial(round_.fleet.get, name))
        assert simulator.waits.until_held(1, ANSWER_S)
        assert round_.fleet.purge(name)["dropped"] == 0
        simulator.waits.release()
        assert caller.result(ANSWER_S).code == "acquisition_in_progress"
        assert (round_.count(name, "issued"), round_.count(name, "revocations")) == (1, 1)
        assert round_.live(name) == round_.kept(name) == set()


def test_what_cannot_be_revoked_at_once_is_left_to_the_worker(ground: Ground, provider: str) -> None:
    for round_ in ground:
        name, simulator = round_.connect(provider), round_.world.simulator(provider)
        simulator.fail("hang")
        simulator.fail("status", on="revoke", status=503)
        caller = round_.race.meanwhile(partial(round_.fleet.get, name))
        assert simulator.waits.until_held(1, ANSWER_S)
        round_.fleet.purge(name)
        simulator.waits.release()
        assert caller.result(ANSWER_S).code == "acquisition_in_progress"
        assert round_.live(name) == round_.kept(name) != set()
        assert round_.current(name) == ""
        round_.fleet.renew(name, round_.scope_id(name))
        assert round_.live(name) == round_.kept(name) == set()
        assert round_.count(name, "token_requests") == 1


def test_whoever_wins_between_callers_reporters_and_a_purge_no_token_is_lost_sight_of(ground: Ground) -> None:
    for round_ in ground:
        name, old = round_.seeded("unidy", keep=False)
        calls: list[Callable[[], object]] = [partial(round_.fleet.get, name, old.token_id)]
        calls += [partial(round_.fleet.purge, name), partial(round_.fleet.get, name)]
        round_.race.together(calls)
        assert old.token_id not in round_.live(name)
        assert round_.live(name) <= round_.kept(name)
        # A token that was fenced off while another caller led is the worker's to revoke.
        round_.fleet.renew(name, round_.scope_id(name))
        assert round_.live(name) <= round_.kept(name)
        assert len(round_.live(name)) <= 1


def test_a_purge_between_the_look_and_the_lease_of_a_caller_wins(ground: Ground, gate: Gate) -> None:
    """What was decided on before the purge is decided anew: the caller gets a new token, and not one of before."""
    for round_ in ground:
        name, old = round_.seeded("unidy", keep=False)
        lease = gate.hold("UpdateItem", holding="lease_owner = :owner, lease_until")
        caller = round_.race.meanwhile(partial(round_.fleet.get, name, old.token_id))
        lease.wait()
        assert round_.fleet.purge(name)["revoked"] == [old.token_id]
        lease.let_go()
        got = caller.result(ANSWER_S)
        assert got.token_id not in ("", old.token_id)
        assert round_.live(name) == round_.kept(name) == {got.token_id}


def test_a_suspended_and_purged_connection_hands_out_nothing_that_was_under_way(ground: Ground) -> None:
    for round_ in ground:
        name, simulator = round_.connect("unidy"), round_.world.simulator("unidy")
        simulator.fail("hang")
        callers = [round_.race.meanwhile(partial(round_.fleet.get, name)) for _ in range(3)]
        assert simulator.waits.until_held(1, ANSWER_S)
        round_.fleet.put(name, round_.world.settings("unidy", suspended=True))
        round_.fleet.purge(name)
        simulator.waits.release()
        assert {caller.result(ANSWER_S).code for caller in callers} == {"connection_suspended"}
        assert round_.live(name) == round_.kept(name) == set()


def test_a_suspension_alone_lets_the_acquisition_under_way_end_and_starts_none(ground: Ground) -> None:
    for round_ in ground:
        name, simulator = round_.connect("unidy"), round_.world.simulator("unidy")
        simulator.fail("hang")
        caller = round_.race.meanwhile(partial(round_.fleet.get, name))
        assert simulator.waits.until_held(1, ANSWER_S)
        round_.fleet.put(name, round_.world.settings("unidy", suspended=True))
        simulator.waits.release()
        assert caller.result(ANSWER_S).code == ""
        assert round_.live(name) == round_.kept(name)
        round_.let_end(name)
        assert round_.bystander.get(name).code == "connection_suspended"
        round_.fleet.renew(name, round_.scope_id(name))
        assert round_.count(name, "token_requests") == 1


@pytest.mark.parametrize("warm", [False, True], ids=["of-a-purged-key", "of-a-key-in-use"])
def test_a_stop_between_the_look_and_the_lease_of_a_caller_leaves_no_token(
    ground: Ground, gate: Gate, warm: bool
) -> None:
    """To stop a connection: suspend it, then purge. Whoever had looked before must not bring a token in afterwards."""
    for round_ in ground:
        name = round_.connect("unidy")
        if warm:
            round_.bystander.get(name)
            round_.let_end(name)
        else:
            round_.bystander.get(name)
            round_.fleet.purge(name)
        before = round_.world.report("unidy")["issued"]
        lease = gate.hold("UpdateItem", holding="lease_owner = :owner, lease_until")
        caller = round_.race.meanwhile(partial(round_.bystander.get, name))
        lease.wait()
        round_.fleet.put(name, round_.world.settings("unidy", suspended=True))
        round_.fleet.purge(name)
        lease.let_go()
        assert caller.result(ANSWER_S).code == "connection_suspended"
        assert round_.world.report("unidy")["issued"] == before
        assert round_.kept(name) == set()


def test_a_connection_deleted_under_an_acquisition_leaves_no_token(ground: Ground, provider: str) -> None:
    for round_ in ground:
        name, simulator = round_.connect(provider), round_.world.simulator(provider)
        simulator.fail("hang")
        caller = round_.race.meanwhile(partial(round_.fleet.get, name))
        assert simulator.waits.until_held(1, ANSWER_S)
        round_.fleet.delete(name)
        simulator.waits.release()
        assert caller.result(ANSWER_S).code == "unknown_connection"
        assert round_.live(name) == round_.kept(name) == set()


def test_a_renewal_under_way_does_not_outlive_a_purge(ground: Ground, provider: str) -> None:
    for round_ in ground:
        name, old = round_.seeded(provider, keep=False)
        scope_id, simulator = round_.scope_id(name), round_.world.simulator(provider)
        round_.let_come_due(name)
        simulator.fail("hang")
        worker = round_.race.meanwhile(partial(round_.fleet.renew, name, scope_id))
        assert simulator.waits.until_held(1, ANSWER_S)
        assert round_.fleet.purge(name)["revoked"] == [old.token_id]
        simulator.waits.release()
        worker.result(ANSWER_S)
        assert round_.live(name) == round_.kept(name) == set()


def test_two_purges_at_once_revoke_each_token_and_forget_none(ground: Ground) -> None:
    for round_ in ground:
        name, old = round_.seeded("unidy", keep=False)
        done = round_.race.together([partial(round_.fleet.purge, name)] * 2)
        assert {token_id for answer in done for token_id in answer["revoked"]} == {old.token_id}
        assert round_.live(name) == round_.kept(name) == set()


def test_the_purged_token_is_not_revived_by_a_note_of_its_use(world: World, ground: Ground, gate: Gate) -> None:
    """A hand-out notes the use of its token after it was read: a purge in between leaves no stump with a token."""
    for round_ in ground:
        name, old = round_.seeded("unidy", keep=False)
        world.aws.change_token_item(name, last_used_at=-timedelta(hours=1))
        note = gate.hold("UpdateItem", holding="SET last_used_at")
        caller = round_.race.meanwhile(partial(round_.bystander.get, name))
        note.wait()
        round_.fleet.purge(name)
        note.let_go()
        assert caller.result(ANSWER_S).token_id == old.token_id
        assert round_.current(name) == ""
        assert round_.record(name).last_used_at is None

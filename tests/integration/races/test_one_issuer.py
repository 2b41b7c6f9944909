"""However many ask at once, one of them asks the provider, and everybody gets the token."""

from __future__ import annotations

from functools import partial

from .conftest import CALLERS
from .fleet import RESPONSE_S
from .ground import Ground

FEW = 6


def test_fifty_callers_on_a_cold_key_make_one_request(ground: Ground) -> None:
    requests = []
    for round_ in ground:
        name = round_.connect("unidy")
        round_.world.simulator("unidy").fail("delay", seconds=0.05)
        responses = round_.race.together([partial(round_.fleet.get, name)] * CALLERS)
        requests.append(round_.count(name, "token_requests"))
        assert round_.tokens_of(responses) == round_.live(name) == round_.kept(name)
    assert requests == [1] * ground.rounds


def test_callers_and_workers_of_an_expired_key_make_one_request(ground: Ground) -> None:
    requests = []
    for round_ in ground:
        name, old = round_.seeded("unidy")
        scope_id = round_.scope_id(name)
        round_.expire_token(name)
        workers = [round_.race.meanwhile(partial(round_.fleet.renew, name, scope_id)) for _ in range(2)]
        responses = round_.race.together([partial(round_.fleet.get, name)] * FEW)
        assert [worker.result(RESPONSE_S) for worker in workers] == [None, None]
        requests.append(round_.count(name, "token_requests"))
        (token_id,) = round_.tokens_of(responses)
        assert token_id != old.token_id
    assert requests == [1] * ground.rounds


def test_no_refresh_token_is_sent_twice_by_callers_and_workers_of_a_rotating_key(ground: Ground) -> None:
    requests, replayed = [], 0
    for round_ in ground:
        name, _ = round_.seeded("ucommerce")
        scope_id = round_.scope_id(name)
        round_.expire_token(name)
        workers = [round_.race.meanwhile(partial(round_.fleet.renew, name, scope_id)) for _ in range(2)]
        responses = round_.race.together([partial(round_.fleet.get, name)] * FEW)
        assert [worker.result(RESPONSE_S) for worker in workers] == [None, None]
        requests.append(round_.count(name, "token_requests"))
        replayed += round_.count(name, "replayed_refresh_tokens")
        assert len(round_.tokens_of(responses)) == 1
        assert round_.count(name, "connect_requests") == 0
    assert requests == [1] * ground.rounds
    assert replayed == 0


def test_two_reports_of_one_token_force_one_request(ground: Ground) -> None:
    requests = []
    for round_ in ground:
        name, old = round_.seeded("unidy")
        round_.allow_reports(name)
        responses = round_.race.together([partial(round_.fleet.get, name, old.token_id)] * 2)
        requests.append(round_.count(name, "token_requests"))
        (token_id,) = round_.tokens_of(responses)
        assert token_id != old.token_id
    assert requests == [1] * ground.rounds


def test_a_report_and_a_renewal_of_one_token_make_one_request(ground: Ground) -> None:
    requests = []
    for round_ in ground:
        name, old = round_.seeded("unidy")
        scope_id = round_.scope_id(name)
        round_.allow_reports(name)
        round_.make_due(name)
        worker = round_.race.meanwhile(partial(round_.fleet.renew, name, scope_id))
        (reported,) = round_.race.together([partial(round_.fleet.get, name, old.token_id)])
        assert worker.result(RESPONSE_S) is None
        requests.append(round_.count(name, "token_requests"))
        assert round_.tokens_of([reported]) == {round_.current(name)}
        assert reported.token_id != old.token_id
    assert requests == [1] * ground.rounds


def test_workers_of_a_key_that_is_due_make_one_request_while_callers_keep_their_token(ground: Ground) -> None:
    requests = []
    for round_ in ground:
        name, old = round_.seeded("unidy")
        scope_id = round_.scope_id(name)
        round_.make_due(name)
        simulator = round_.world.simulator("unidy")
        simulator.fail("hang")
        workers = [round_.race.meanwhile(partial(round_.fleet.renew, name, scope_id)) for _ in range(2)]
        assert simulator.waits.until_held(1, RESPONSE_S)
        responses = round_.race.together([partial(round_.fleet.get, name)] * 4)
        simulator.waits.release()
        assert [worker.result(RESPONSE_S) for worker in workers] == [None, None]
        requests.append(round_.count(name, "token_requests"))
        assert round_.tokens_of(responses) == {old.token_id}
    assert requests == [1] * ground.rounds


def test_two_sweeps_at_once_queue_each_key_once(ground: Ground) -> None:
    keys = 3
    for round_ in ground:
        names = [round_.seeded("unidy", slot)[0] for slot in range(keys)]
        for name in names:
            round_.make_due(name)
        before = round_.queued()
        assert sum(round_.race.together([round_.fleet.sweep] * 2)) == keys
        assert round_.fleet.sweep() == 0
        assert round_.queued() - before == keys

"""Every fault at every provider: what the caller gets, what the provider counts, what the state says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from tests.integration.faults import connect_table, table
from tests.integration.faults.outcomes import COLD, RENEWAL, STATUS, Case, Outcome
from tests.integration.faults.playing import FREE_TEXT, Gone
from tests.integration.faults.stage import DONE, MEMORY, MOTO, Stage, moment
from tests.integration.handlers.functions import BrokerResponse
from tests.integration.handlers.problems import assert_problem
from tests.integration.handlers.world import PROVIDERS

SOAK = os.environ.get("SOAK") == "1"
CASES = [case for row in table.ROWS for case in row.cases]
CONNECT_CASES = [case for row in connect_table.ROWS for case in row.cases]


# All cases at all providers; over moto too, with SOAK all, else the first case of each row at one provider.
FIRSTS = [(row.cases[0], PROVIDERS[index % len(PROVIDERS)]) for index, row in enumerate(table.ROWS)]
MATRIX = [
    pytest.param(aws, case, slug, id=f"{case.id}-{slug}-{aws}")
    for aws in (MEMORY, MOTO)
    for case in CASES
    for slug in PROVIDERS
    if aws == MEMORY or SOAK or (case, slug) in FIRSTS
]
CONNECT_MATRIX = [
    pytest.param(aws, case, id=f"{case.id}-{aws}")
    for aws in ((MEMORY, MOTO) if SOAK else (MEMORY,))
    for case in CONNECT_CASES
]


def check_answer(answer: BrokerResponse, expected: Outcome, left_s: int) -> None:
    """What the caller got: the code, for how long to wait, and nothing of what the provider wrote."""
    assert_problem(answer, STATUS[expected.code], expected.code)
    # After a refusal waiting alone does not help.
    assert answer.headers.get("retry-after") == (None if expected.for_good else str(left_s))
    assert answer.body.get("provider_error") == expected.provider_error
    assert FREE_TEXT not in answer.text


def check_state(stage: Stage, name: str, slug: str, expected: Outcome) -> None:
    """What an engineer sees of it, and where it rests."""
    state = stage.state(name)
    failure = state.body["last_failure"]
    assert (state.body["state"], failure["code"]) == ("failing", expected.code)
    assert failure["provider_error"] == expected.provider_error
    assert moment(failure["at"]) == stage.clock()
    assert moment(failure["retry_at"]) - stage.clock() == timedelta(seconds=expected.rest_s)
    assert FREE_TEXT not in state.text
    (record,) = stage.records(name)
    assert {failure.rule for failure in record.failures()} == {expected.rule}
    place = expected.place(slug)
    # What rests at an endpoint is noted on the key as well, for whoever looks at it.
    assert stage.rests_at(name) == ({"endpoint", "scope"} if place == "endpoint" else {place})


@contextmanager
def playing(stage: Stage, case: Case, slug: str, on: str) -> Iterator[None]:
    """The fault lasts as long as this block."""
    if isinstance(case.play, Gone):
        with stage.gone(slug):
            yield
    else:
        case.play(stage, slug, on)
        yield
        stage.heal(slug)


def connected(stage: Stage, case: Case, slug: str) -> str:
    if isinstance(case.play, Gone):
        stage.provider_of_its_own(slug)
    return stage.connect(slug)


def cold(stage: Stage, case: Case, slug: str, on: str = "token") -> None:
    expected = case.expected(slug, COLD)
    name = connected(stage, case, slug)
    if expected is None:
        with playing(stage, case, slug, on):
            assert stage.token(name).status == 200
        return
    with playing(stage, case, slug, on):
        check_answer(stage.token(name), expected, expected.rest_s)
        asked = (*expected.asked(slug, COLD), expected.attempts(slug, COLD))
        assert stage.asked(slug) == asked
        check_state(stage, name, slug, expected)
        check_answer(stage.token(name), expected, expected.rest_s)
        # The sweep has nothing to renew, and nobody asks before the rest is over.
        assert stage.renew(name) == DONE
        stage.clock.advance(expected.rest_s - 1)
        check_answer(stage.token(name), expected, 1)
        assert stage.asked(slug) == asked
    stage.clock.advance(1)
    recovered = stage.token(name)
    assert (recovered.status, recovered.body.get("source"), recovered.body.get("warnings")) == (200, "provider", [])
    assert stage.state(name).body["state"] == "ok"
    if stage.fakes is None:
        assert stage.world.resource(recovered).status_code == 200


def renewal(stage: Stage, case: Case, slug: str, on: str = "token", *, spent: bool = False) -> None:
    """`spent`: the refresh token that is there is dead at the provider, so that connect comes next."""
    expected = case.expected(slug, RENEWAL)
    name = connected(stage, case, slug)
    first = stage.token(name)
    stage.near_the_end(first)
    if spent:
        stage.simulator(slug).revoke_tokens()
    if expected is None:
        with playing(stage, case, slug, on):
            assert stage.renew(name) == DONE
            assert stage.token(name).body["token_id"] != first.body["token_id"]
        return
    of_this = (*expected.asked(slug, RENEWAL), expected.attempts(slug, RENEWAL))
    asked = tuple(map(sum, zip(stage.asked(slug), of_this, (spent, 0, spent), strict=True)))
    with playing(stage, case, slug, on):
        assert stage.renew(name) == DONE
        assert stage.asked(slug) == asked
        check_state(stage, name, slug, expected)
        for _ in range(2):
            served = stage.token(name)
            assert (served.status, served.body["warnings"]) == (200, ["renewal_failing"])
            assert (served.body["token_id"], served.body["source"]) == (first.body["token_id"], "table")
            assert stage.renew(name) == DONE
        assert stage.asked(slug) == asked
    (record,) = stage.records(name)
    retry_at = stage.clock() + timedelta(seconds=expected.rest_s)
    assert record.token is not None
    assert record.due_at == (None if expected.for_good else max(retry_at, record.token.renew_at))
    stage.clock.advance(to=max(retry_at, moment(first.body["expires_at"])))
    recovered = stage.token(name)
    assert (recovered.status, recovered.body.get("source"), recovered.body.get("warnings")) == (200, "provider", [])
    assert recovered.body["token_id"] != first.body["token_id"]
    assert stage.state(name).body["state"] == "ok"
    report = stage.simulator(slug).report()
    assert (report["replayed_refresh_tokens"], report["replayed_codes"]) == (0, 0)


@pytest.mark.soak
@pytest.mark.parametrize(("stage", "case", "slug"), MATRIX, indirect=["stage"])
def test_a_fault_without_a_token(stage: Stage, case: Case, slug: str) -> None:
    cold(stage, case, slug)


@pytest.mark.soak
@pytest.mark.parametrize(("stage", "case", "slug"), MATRIX, indirect=["stage"])
def test_a_fault_at_the_renewal_of_a_token_that_still_lives(stage: Stage, case: Case, slug: str) -> None:
    renewal(stage, case, slug)


@pytest.mark.soak
@pytest.mark.parametrize(("stage", "case"), CONNECT_MATRIX, indirect=["stage"])
def test_a_fault_at_connect_without_a_token(stage: Stage, case: Case) -> None:
    cold(stage, case, "ucommerce", "connect")


@pytest.mark.soak
@pytest.mark.parametrize(("stage", "case"), CONNECT_MATRIX, indirect=["stage"])
def test_a_fault_at_connect_after_the_refresh_token_was_refused(stage: Stage, case: Case) -> None:
    renewal(stage, case, "ucommerce", "connect", spent=True)


def test_the_tables_hold_every_row_of_the_broker() -> None:
    assert {case.outcome.row for case in CASES + CONNECT_CASES} == set(range(1, 17))
    assert all(case.outcome.row == row.number for row in table.ROWS for case in row.cases)


@pytest.mark.parametrize("cases", [CASES, CONNECT_CASES], ids=["token", "connect"])
def test_no_two_cases_have_one_name(cases: list[Case]) -> None:
    assert len({case.id for case in cases}) == len(cases)

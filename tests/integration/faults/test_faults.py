"""Every fault at every provider: what the caller gets, what the provider counts, what the connection's state is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from tests.integration.faults import connect_table, table
from tests.integration.faults.outcomes import COLD, REFUSED, RENEWAL, STATUS, Case, Outcome, RequestCounts
from tests.integration.faults.provider_faults import FREE_TEXT, NotListening
from tests.integration.faults.stage import DONE, MEMORY, MOTO, Stage, moment
from tests.integration.handlers.functions import BrokerResponse
from tests.integration.handlers.problems import assert_problem
from tests.integration.handlers.world import PROVIDERS
from token_broker.core.schedule import LOOK_AGAIN
from token_broker.oauth.outcomes import RULES

SOAK = os.environ.get("SOAK") == "1"
# Certificates and addresses: tests/integration/test_provider_http_tls.py and test_provider_http.py. Consents:
# tests/component/test_consents.py.
TESTED_ELSEWHERE = {"certificate_not_trusted", "address_not_public", "consent_refused"}
CASES = [case for section in table.SECTIONS for case in section.cases]
CONNECT_CASES = [case for section in connect_table.SECTIONS for case in section.cases]

# All cases at all providers. Over moto only the first case of each section at one provider; under SOAK all.
FIRSTS = [(section.cases[0], PROVIDERS[index % len(PROVIDERS)]) for index, section in enumerate(table.SECTIONS)]
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


def check_response(response: BrokerResponse, expected: Outcome, wait_s: int) -> None:
    """The caller gets the code and how long to wait, and nothing that the provider wrote."""
    assert_problem(response, STATUS[expected.code], expected.code)
    # After a refusal waiting alone does not help.
    assert response.headers.get("retry-after") == (None if expected.code == REFUSED else str(wait_s))
    assert response.body.get("provider_error") == expected.provider_error
    assert FREE_TEXT not in response.text


def check_state(stage: Stage, name: str, slug: str, expected: Outcome) -> None:
    """What operators see, and what has a cooldown."""
    state = stage.state(name)
    failure = state.body["last_failure"]
    assert (state.body["state"], failure["code"]) == ("failing", expected.code)
    assert failure["provider_error"] == expected.provider_error
    assert moment(failure["at"]) == stage.clock()
    assert moment(failure["retry_at"]) - stage.clock() == timedelta(seconds=expected.cooldown_s)
    assert FREE_TEXT not in state.text
    (record,) = stage.records(name)
    assert {failure.rule for failure in record.failures()} == {expected.rule}
    level = expected.level_at(slug)
    # An endpoint's cooldown is stored on the key too, so that operators see it.
    assert stage.cooldowns_at(name) == ({"endpoint", "key"} if level == "endpoint" else {level})


@contextmanager
def fault_active(stage: Stage, case: Case, slug: str, on: str) -> Iterator[None]:
    """The fault lasts until the block ends."""
    if isinstance(case.fault, NotListening):
        with stage.stopped(slug):
            yield
    else:
        case.fault(stage, slug, on)
        yield
        stage.heal(slug)


def connected(stage: Stage, case: Case, slug: str) -> str:
    if isinstance(case.fault, NotListening):
        stage.provider_of_its_own(slug)
    return stage.connect(slug)


def cold(stage: Stage, case: Case, slug: str, on: str = "token") -> None:
    expected = case.expected(slug, COLD)
    name = connected(stage, case, slug)
    if expected is None:
        with fault_active(stage, case, slug, on):
            assert stage.token(name).status == 200
        return
    with fault_active(stage, case, slug, on):
        check_response(stage.token(name), expected, expected.cooldown_s)
        requests = expected.requests(slug, COLD)
        assert stage.requests(slug) == requests
        check_state(stage, name, slug, expected)
        check_response(stage.token(name), expected, expected.cooldown_s)
        # The worker has nothing to renew, and nothing asks the provider before the cooldown ends.
        assert stage.renew(name) == DONE
        stage.clock.advance(expected.cooldown_s - 1)
        check_response(stage.token(name), expected, 1)
        assert stage.requests(slug) == requests
    stage.clock.advance(1)
    recovered = stage.token(name)
    assert (recovered.status, recovered.body.get("source"), recovered.body.get("warnings")) == (200, "provider", [])
    assert stage.state(name).body["state"] == "ok"
    if stage.fakes is None:
        assert stage.world.resource(recovered).status_code == 200


def renewal(stage: Stage, case: Case, slug: str, on: str = "token", *, spent: bool = False) -> None:
    """`spent`: the provider has revoked the refresh token, so that the flow goes on to connect."""
    expected = case.expected(slug, RENEWAL)
    name = connected(stage, case, slug)
    first = stage.token(name)
    stage.advance_near_expiry(first)
    if spent:
        stage.simulator(slug).revoke_tokens()
    if expected is None:
        with fault_active(stage, case, slug, on):
            assert stage.renew(name) == DONE
            assert stage.token(name).body["token_id"] != first.body["token_id"]
        return
    before, renewal_requests, refused_refresh = stage.requests(slug), expected.requests(slug, RENEWAL), int(spent)
    requests = RequestCounts(
        token=before.token + renewal_requests.token + refused_refresh,
        connect=before.connect + renewal_requests.connect,
        sent=before.sent + renewal_requests.sent + refused_refresh,
    )
    with fault_active(stage, case, slug, on):
        assert stage.renew(name) == DONE
        assert stage.requests(slug) == requests
        check_state(stage, name, slug, expected)
        for _ in range(2):
            served = stage.token(name)
            assert (served.status, served.body["warnings"]) == (200, ["renewal_failing"])
            assert (served.body["token_id"], served.body["source"]) == (first.body["token_id"], "table")
            assert stage.renew(name) == DONE
        assert stage.requests(slug) == requests
    (record,) = stage.records(name)
    retry_at = stage.clock() + timedelta(seconds=expected.cooldown_s)
    next_look = stage.clock() + LOOK_AGAIN if expected.for_good else retry_at
    assert record.token is not None
    assert record.due_at == max(next_look, record.token.renew_at)
    stage.clock.advance(to=max(retry_at, moment(first.body["expires_at"])))
    recovered = stage.token(name)
    assert (recovered.status, recovered.body.get("source"), recovered.body.get("warnings")) == (200, "provider", [])
    assert recovered.body["token_id"] != first.body["token_id"]
    assert stage.state(name).body["state"] == "ok"
    report = stage.simulator(slug).report()
    assert (report["replayed_refresh_tokens"], report["replayed_codes"]) == (0, 0)


@pytest.mark.soak
@pytest.mark.parametrize(("stage", "case", "slug"), MATRIX, indirect=["stage"])
def test_a_fault_when_there_is_no_token(stage: Stage, case: Case, slug: str) -> None:
    cold(stage, case, slug)


@pytest.mark.soak
@pytest.mark.parametrize(("stage", "case", "slug"), MATRIX, indirect=["stage"])
def test_a_fault_when_a_live_token_is_renewed(stage: Stage, case: Case, slug: str) -> None:
    renewal(stage, case, slug)


@pytest.mark.soak
@pytest.mark.parametrize(("stage", "case"), CONNECT_MATRIX, indirect=["stage"])
def test_a_fault_at_connect_when_there_is_no_token(stage: Stage, case: Case) -> None:
    cold(stage, case, "ucommerce", "connect")


@pytest.mark.soak
@pytest.mark.parametrize(("stage", "case"), CONNECT_MATRIX, indirect=["stage"])
def test_a_fault_at_connect_after_the_refresh_token_was_refused(stage: Stage, case: Case) -> None:
    renewal(stage, case, "ucommerce", "connect", spent=True)


def test_every_failure_rule_has_a_case() -> None:
    cases = {outcome.rule for case in CASES + CONNECT_CASES for outcome in case.outcomes}
    assert cases | TESTED_ELSEWHERE == {rule.name for rule in RULES}

"""What a provider's response means: the table of failure rules, row by row."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.outcomes import (
    CONNECTION,
    INVALID,
    MEANINGS,
    OUTCOMES,
    UNUSABLE,
    failure_of,
)
from token_broker.core.failures import cooldown
from token_broker.oauth.outcomes import RULES, ExchangeResult, Step, TransportFailure, classify, unusable_response
from token_broker.oauth.responses import KNOWN_ERRORS

RULE_NAMES = [rule.name for rule in RULES]


@pytest.mark.parametrize(("rule", "result"), OUTCOMES, ids=lambda value: str(value)[:80])
def test_each_outcome_has_its_rule(rule: str, result: ExchangeResult) -> None:
    failure = failure_of(result)
    assert (failure.rule, (failure.kind.code, failure.level)) == (rule, MEANINGS[rule])


def test_the_table_covers_every_rule() -> None:
    assert {rule for rule, _ in OUTCOMES} == set(RULE_NAMES)


def test_rules_have_unique_names() -> None:
    assert len(set(RULE_NAMES)) == len(RULE_NAMES)


@pytest.mark.parametrize(
    "result",
    [
        ExchangeResult("token", 200),
        ExchangeResult("refresh", 201),
        ExchangeResult("login", 200, worked_before=True),
        ExchangeResult("token", 200, error="unrecognised"),
        ExchangeResult("connect", 302),
    ],
)
def test_a_success_is_no_failure(result: ExchangeResult) -> None:
    assert classify(result) is None


def test_the_outcome_is_unknown_only_without_a_response_that_was_read() -> None:
    unknown = {rule for rule, result in OUTCOMES if failure_of(result).outcome_unknown}
    assert unknown == {"no_complete_response", "unreadable_response"}


@pytest.mark.parametrize(("step", "restarts"), [("refresh", True), ("code", True), ("token", False), ("login", False)])
def test_invalid_grant_restarts_the_grant_after_a_code_or_refresh_token(step: Step, restarts: bool) -> None:
    assert failure_of(ExchangeResult(step, 400, error="invalid_grant")).restart is restarts


def test_a_refusal_at_connect_names_redirect_uri_and_the_whitelist() -> None:
    assert "redirect_uri" in failure_of(ExchangeResult("connect", 400)).detail
    assert "whitelist" in failure_of(ExchangeResult("connect", 200)).detail


def test_the_providers_error_code_is_kept() -> None:
    assert failure_of(ExchangeResult("token", 401, error="invalid_client")).provider_error == "invalid_client"
    assert failure_of(ExchangeResult("token", 403, error="unrecognised")).provider_error == "unrecognised"


def test_an_unusable_response_says_why() -> None:
    failure = unusable_response("it had expired when it was issued")
    assert (failure.rule, failure.kind.code, failure.level) == ("unusable_response", INVALID, CONNECTION)
    assert "it had expired when it was issued" in failure.detail


STEPS = st.sampled_from(["connect", "token", "code", "refresh", "login"])
CODES = st.sampled_from([None, "unrecognised", *sorted(KNOWN_ERRORS)])
TRANSPORT_FAILURES: st.SearchStrategy[TransportFailure | None] = st.sampled_from(
    [None, "unreachable", "bad_certificate", "private_address", "unknown"]
)


@given(
    step=STEPS,
    status=st.integers(100, 599),
    error=CODES,
    html=st.booleans(),
    worked_before=st.booleans(),
    retry_after=st.none() | st.timedeltas(timedelta(), timedelta(days=400)),
)
def test_every_response_is_a_failure_except_2xx_and_the_redirect_of_connect(
    step: Step, status: int, error: str | None, html: bool, worked_before: bool, retry_after: timedelta | None
) -> None:
    result = ExchangeResult(step, status, error, None, retry_after, retry_after is not None, html, worked_before)
    is_redirect_with_code = step == "connect" and 300 <= status < 400 and error is None
    if not 200 <= status < 300 and not is_redirect_with_code:
        without_response = {"certificate_not_trusted", "address_not_public", "unreachable", "no_complete_response"}
        assert failure_of(result).rule in set(RULE_NAMES) - without_response


@given(
    step=STEPS,
    status=st.integers(0, 999),
    error=CODES,
    transport=TRANSPORT_FAILURES,
    html=st.booleans(),
    worked_before=st.booleans(),
    wrong_redirect=st.booleans(),
    unusable=st.sampled_from([None, UNUSABLE]),
)
def test_every_failure_is_complete(
    step: Step,
    status: int,
    error: str | None,
    transport: TransportFailure | None,
    html: bool,
    worked_before: bool,
    wrong_redirect: bool,
    unusable: str | None,
) -> None:
    failure = classify(
        ExchangeResult(step, status, error, transport, None, False, html, worked_before, wrong_redirect, unusable)
    )
    if unusable is not None or transport is not None:
        assert failure is not None
    if failure is not None:
        assert failure.detail
        assert failure.provider_error == error
        assert cooldown(failure, 1) > timedelta()

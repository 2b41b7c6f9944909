"""The table of failures, row by row, and the rests that follow."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.records import NOW, seconds
from token_broker.core.failures import (
    ExchangeFailure,
    ExchangeResult,
    Failure,
    FailureKind,
    FailureLevel,
    Step,
    Transport,
    classify,
    next_failure,
)
from token_broker.oauth.responses import KNOWN_ERRORS

TRANSIENT, INVALID, LIMITED, REFUSED = (
    "provider_unavailable",
    "provider_invalid_response",
    "provider_rate_limited",
    "provider_refused",
)
MIN, HOUR = timedelta(minutes=1), timedelta(hours=1)
UNUSABLE = "access_token is missing"

# row, what was seen, code, where it rests, fixed rest (None: the growing ones)
TABLE: list[tuple[int, ExchangeResult, str, FailureLevel, timedelta | None]] = [
    (1, ExchangeResult("token", transport="unreachable"), TRANSIENT, FailureLevel.CONNECTION, None),
    (1, ExchangeResult("login", transport="unreachable", worked_before=True), TRANSIENT, FailureLevel.CONNECTION, None),
    (1, ExchangeResult("connect", transport="bad_certificate"), TRANSIENT, FailureLevel.CONNECTION, 5 * MIN),
    (2, ExchangeResult("refresh", transport="unknown"), TRANSIENT, FailureLevel.CONNECTION, None),
    (2, ExchangeResult("code", transport="unknown"), TRANSIENT, FailureLevel.CONNECTION, None),
    (2, ExchangeResult("login", transport="unknown"), TRANSIENT, FailureLevel.CONNECTION, None),
    (3, ExchangeResult("token", 301), INVALID, FailureLevel.CONNECTION, 15 * MIN),
    (3, ExchangeResult("login", 302), INVALID, FailureLevel.CONNECTION, 15 * MIN),
    (3, ExchangeResult("refresh", 307), INVALID, FailureLevel.CONNECTION, 15 * MIN),
    (3, ExchangeResult("code", 308, error="invalid_client"), INVALID, FailureLevel.CONNECTION, 15 * MIN),
    (3, ExchangeResult("connect", 302, wrong_redirect=True), INVALID, FailureLevel.CONNECTION, 15 * MIN),
    (
        3,
        ExchangeResult("connect", 302, wrong_redirect=True, error="server_error"),
        INVALID,
        FailureLevel.CONNECTION,
        15 * MIN,
    ),
    (4, ExchangeResult("connect", 302, error="server_error"), TRANSIENT, FailureLevel.CONNECTION, None),
    (4, ExchangeResult("connect", 303, error="temporarily_unavailable"), TRANSIENT, FailureLevel.CONNECTION, None),
    (4, ExchangeResult("connect", 302, error="access_denied"), REFUSED, FailureLevel.CONNECTION, None),
    (4, ExchangeResult("connect", 302, error="invalid_scope"), REFUSED, FailureLevel.CONNECTION, None),
    (4, ExchangeResult("connect", 302, error="unrecognised"), REFUSED, FailureLevel.CONNECTION, None),
    (5, ExchangeResult("connect", 200), REFUSED, FailureLevel.CONNECTION, None),
    (
        5,
        ExchangeResult("connect", 200, html=True, unusable="connect did not redirect"),
        REFUSED,
        FailureLevel.CONNECTION,
        None,
    ),
    (5, ExchangeResult("connect", 400, error="unrecognised"), REFUSED, FailureLevel.CONNECTION, None),
    (5, ExchangeResult("connect", 401), REFUSED, FailureLevel.CONNECTION, None),
    (5, ExchangeResult("connect", 403, html=True, worked_before=True), REFUSED, FailureLevel.CONNECTION, None),
    (5, ExchangeResult("connect", 404), REFUSED, FailureLevel.CONNECTION, None),
    (6, ExchangeResult("token", 429), LIMITED, FailureLevel.ENDPOINT, MIN),
    (6, ExchangeResult("token", 429, error="invalid_client"), LIMITED, FailureLevel.ENDPOINT, MIN),
    (6, ExchangeResult("token", 429, html=True, worked_before=True), LIMITED, FailureLevel.ENDPOINT, MIN),
    (6, ExchangeResult("connect", 429), LIMITED, FailureLevel.ENDPOINT, MIN),
    (
        6,
        ExchangeResult("token", 429, retry_after=seconds(7), has_retry_after=True),
        LIMITED,
        FailureLevel.ENDPOINT,
        seconds(7),
    ),
    (
        6,
        ExchangeResult("login", 429, retry_after=timedelta(days=3), has_retry_after=True),
        LIMITED,
        FailureLevel.ENDPOINT,
        HOUR,
    ),
    (
        6,
        ExchangeResult("token", 503, retry_after=seconds(90), has_retry_after=True),
        LIMITED,
        FailureLevel.ENDPOINT,
        seconds(90),
    ),
    (6, ExchangeResult("token", 503, has_retry_after=True), LIMITED, FailureLevel.ENDPOINT, MIN),
    (
        6,
        ExchangeResult("token", 429, retry_after=seconds(0), has_retry_after=True),
        LIMITED,
        FailureLevel.ENDPOINT,
        MIN,
    ),
    (7, ExchangeResult("token", 401, error="invalid_client"), REFUSED, FailureLevel.CONNECTION, None),
    (7, ExchangeResult("token", 400, error="unauthorized_client"), REFUSED, FailureLevel.CONNECTION, None),
    (
        7,
        ExchangeResult("login", 200, error="invalid_credentials", unusable=UNUSABLE),
        REFUSED,
        FailureLevel.CONNECTION,
        None,
    ),
    (7, ExchangeResult("token", 200, error="invalid_client"), REFUSED, FailureLevel.CONNECTION, None),
    (7, ExchangeResult("token", 500, error="invalid_client"), REFUSED, FailureLevel.CONNECTION, None),
    (
        7,
        ExchangeResult("refresh", 401, error="invalid_client", html=True, worked_before=True),
        REFUSED,
        FailureLevel.CONNECTION,
        None,
    ),
    (7, ExchangeResult("connect", 400, error="unauthorized_client"), REFUSED, FailureLevel.CONNECTION, None),
    (8, ExchangeResult("token", 400, error="invalid_scope"), REFUSED, FailureLevel.KEY, None),
    (8, ExchangeResult("token", 401, error="scope_invalid"), REFUSED, FailureLevel.KEY, None),
    (8, ExchangeResult("token", 200, error="invalid_target", unusable=UNUSABLE), REFUSED, FailureLevel.KEY, None),
    (8, ExchangeResult("connect", 400, error="invalid_scope"), REFUSED, FailureLevel.KEY, None),
    (9, ExchangeResult("token", 400, error="invalid_request"), REFUSED, FailureLevel.CONNECTION, None),
    (9, ExchangeResult("code", 401, error="unsupported_grant_type"), REFUSED, FailureLevel.CONNECTION, None),
    (10, ExchangeResult("refresh", 400, error="invalid_grant"), TRANSIENT, FailureLevel.CONNECTION, None),
    (10, ExchangeResult("code", 401, error="invalid_grant"), TRANSIENT, FailureLevel.CONNECTION, None),
    (10, ExchangeResult("token", 400, error="invalid_grant"), REFUSED, FailureLevel.CONNECTION, None),
    (
        10,
        ExchangeResult("login", 200, error="invalid_grant", unusable=UNUSABLE),
        REFUSED,
        FailureLevel.CONNECTION,
        None,
    ),
    (11, ExchangeResult("token", 400, error="server_error"), TRANSIENT, FailureLevel.CONNECTION, None),
    (11, ExchangeResult("token", 401, error="temporarily_unavailable"), TRANSIENT, FailureLevel.CONNECTION, None),
    (11, ExchangeResult("refresh", 400, error="invalid_token_reuse"), TRANSIENT, FailureLevel.CONNECTION, None),
    (
        12,
        ExchangeResult("login", 200, error="failed", unusable=UNUSABLE, worked_before=True),
        TRANSIENT,
        FailureLevel.CONNECTION,
        MIN,
    ),
    (12, ExchangeResult("token", 401, html=True, worked_before=True), TRANSIENT, FailureLevel.CONNECTION, MIN),
    (12, ExchangeResult("token", 403, html=True, worked_before=True), TRANSIENT, FailureLevel.CONNECTION, MIN),
    (13, ExchangeResult("login", 200, error="failed", unusable=UNUSABLE), REFUSED, FailureLevel.CONNECTION, None),
    (13, ExchangeResult("token", 401), REFUSED, FailureLevel.CONNECTION, None),
    (13, ExchangeResult("token", 401, worked_before=True), REFUSED, FailureLevel.CONNECTION, None),
    (13, ExchangeResult("token", 403, html=True), REFUSED, FailureLevel.CONNECTION, None),
    (13, ExchangeResult("token", 403, error="unrecognised"), REFUSED, FailureLevel.CONNECTION, None),
    (14, ExchangeResult("token", 400), REFUSED, FailureLevel.CONNECTION, 15 * MIN),
    (14, ExchangeResult("token", 404, html=True, worked_before=True), REFUSED, FailureLevel.CONNECTION, 15 * MIN),
    (14, ExchangeResult("code", 415, error="unrecognised"), REFUSED, FailureLevel.CONNECTION, 15 * MIN),
    (15, ExchangeResult("token", 408), TRANSIENT, FailureLevel.CONNECTION, None),
    (15, ExchangeResult("token", 425), TRANSIENT, FailureLevel.CONNECTION, None),
    (15, ExchangeResult("connect", 408), TRANSIENT, FailureLevel.CONNECTION, None),
    (15, ExchangeResult("token", 500), TRANSIENT, FailureLevel.CONNECTION, None),
    (15, ExchangeResult("connect", 502, html=True), TRANSIENT, FailureLevel.CONNECTION, None),
    (15, ExchangeResult("token", 503), TRANSIENT, FailureLevel.CONNECTION, None),
    (15, ExchangeResult("code", 599, error="unrecognised"), TRANSIENT, FailureLevel.CONNECTION, None),
    (16, ExchangeResult("token", 200, unusable=UNUSABLE), INVALID, FailureLevel.CONNECTION, None),
    (
        16,
        ExchangeResult("refresh", 204, unusable="the answer is no JSON object"),
        INVALID,
        FailureLevel.CONNECTION,
        None,
    ),
    (16, ExchangeResult("token", 200, error="unrecognised", unusable=UNUSABLE), INVALID, FailureLevel.CONNECTION, None),
    (
        16,
        ExchangeResult("connect", 302, unusable="the redirect carries no code"),
        INVALID,
        FailureLevel.CONNECTION,
        None,
    ),
]


def _verdict(seen: ExchangeResult) -> ExchangeFailure:
    exchange_failure = classify(seen)
    assert exchange_failure is not None
    return exchange_failure


@pytest.mark.parametrize(("row", "seen", "code", "where", "rest"), TABLE, ids=lambda value: str(value)[:80])
def test_each_row_of_the_table(
    row: int, seen: ExchangeResult, code: str, where: FailureLevel, rest: timedelta | None
) -> None:
    exchange_failure = _verdict(seen)
    assert (exchange_failure.rule, exchange_failure.kind.code, exchange_failure.level, exchange_failure.rest) == (
        row,
        code,
        where,
        rest,
    )


def test_the_table_has_every_row() -> None:
    assert {row for row, *_ in TABLE} == set(range(1, 17))


@pytest.mark.parametrize(
    "seen",
    [
        ExchangeResult("token", 200),
        ExchangeResult("refresh", 201),
        ExchangeResult("login", 200, worked_before=True),
        ExchangeResult("token", 200, error="unrecognised"),
        ExchangeResult("connect", 302),
    ],
)
def test_a_success_has_no_verdict(seen: ExchangeResult) -> None:
    assert classify(seen) is None


def test_only_a_silence_after_sending_leaves_the_outcome_unknown() -> None:
    assert {row for row, seen, *_ in TABLE if _verdict(seen).outcome_unknown} == {2}


@pytest.mark.parametrize(("step", "restarts"), [("refresh", True), ("code", True), ("token", False), ("login", False)])
def test_invalid_grant_starts_anew_where_something_stale_was_sent(step: Step, restarts: bool) -> None:
    assert _verdict(ExchangeResult(step, 400, error="invalid_grant")).restart is restarts


def test_a_refusal_at_connect_names_the_whitelist() -> None:
    assert "redirect_uri" in _verdict(ExchangeResult("connect", 400)).detail
    assert "whitelist" in _verdict(ExchangeResult("connect", 200)).detail


def test_the_providers_code_is_passed_on() -> None:
    assert _verdict(ExchangeResult("token", 401, error="invalid_client")).provider_error == "invalid_client"
    assert _verdict(ExchangeResult("token", 403, error="unrecognised")).provider_error == "unrecognised"


STEPS = st.sampled_from(["connect", "token", "code", "refresh", "login"])
CODES = st.sampled_from([None, "unrecognised", *sorted(KNOWN_ERRORS)])
TRANSPORTS: st.SearchStrategy[Transport | None] = st.sampled_from([None, "unreachable", "bad_certificate", "unknown"])


@given(
    step=STEPS,
    status=st.integers(100, 599),
    error=CODES,
    html=st.booleans(),
    worked_before=st.booleans(),
    retry_after=st.none() | st.timedeltas(timedelta(), timedelta(days=400)),
)
def test_no_answer_but_a_2xx_or_connects_redirect_goes_without_a_verdict(
    step: Step, status: int, error: str | None, html: bool, worked_before: bool, retry_after: timedelta | None
) -> None:
    seen = ExchangeResult(step, status, error, None, retry_after, retry_after is not None, html, worked_before)
    is_redirect_with_code = step == "connect" and 300 <= status < 400 and error is None
    if not 200 <= status < 300 and not is_redirect_with_code:
        assert _verdict(seen).rule in range(3, 17)


@given(
    step=STEPS,
    status=st.integers(0, 999),
    error=CODES,
    transport=TRANSPORTS,
    html=st.booleans(),
    worked_before=st.booleans(),
    wrong_redirect=st.booleans(),
    unusable=st.sampled_from([None, UNUSABLE]),
)
def test_every_verdict_is_whole(
    step: Step,
    status: int,
    error: str | None,
    transport: Transport | None,
    html: bool,
    worked_before: bool,
    wrong_redirect: bool,
    unusable: str | None,
) -> None:
    exchange_failure = classify(
        ExchangeResult(step, status, error, transport, None, False, html, worked_before, wrong_redirect, unusable)
    )
    if unusable is not None or transport is not None:
        assert exchange_failure is not None
    if exchange_failure is not None:
        assert exchange_failure.detail
        assert exchange_failure.provider_error == error
        assert exchange_failure.rest is None or exchange_failure.rest > timedelta()


def _rests(exchange_failure: ExchangeFailure, times: int, previous: Failure | None = None) -> list[timedelta]:
    found = []
    for _ in range(times):
        previous = _remembered(exchange_failure, previous)
        found.append(previous.retry_at - previous.at)
    return found


def _remembered(
    exchange_failure: ExchangeFailure, previous: Failure | None = None, now: datetime = NOW, **changes: Any
) -> Failure:
    versions = {"secret_version": "v1", "settings_version": "s1", **changes}
    return next_failure(exchange_failure, previous, now=now, **versions)


def test_transient_failures_rest_2_s_then_30_s_doubling_to_5_min() -> None:
    exchange_failure = _verdict(ExchangeResult("token", 500))
    assert _rests(exchange_failure, 8) == [seconds(s) for s in (2, 30, 60, 120, 240, 300, 300, 300)]


def test_an_unusable_answer_rests_as_a_transient_one() -> None:
    assert _rests(_verdict(ExchangeResult("token", 200, unusable=UNUSABLE)), 3) == [seconds(s) for s in (2, 30, 60)]


def test_refusals_rest_15_min_then_1_4_and_24_hours() -> None:
    exchange_failure = _verdict(ExchangeResult("token", 401, error="invalid_client"))
    assert _rests(exchange_failure, 6) == [15 * MIN, HOUR, 4 * HOUR, 24 * HOUR, 24 * HOUR, 24 * HOUR]


@pytest.mark.parametrize(
    ("seen", "rest"),
    [
        (ExchangeResult("token", transport="bad_certificate"), 5 * MIN),
        (ExchangeResult("token", 302), 15 * MIN),
        (ExchangeResult("token", 404), 15 * MIN),
        (ExchangeResult("token", 429), MIN),
    ],
)
def test_a_fixed_rest_does_not_grow(seen: ExchangeResult, rest: timedelta) -> None:
    assert _rests(_verdict(seen), 3) == [rest] * 3


def test_a_refusal_after_outages_is_the_first_of_its_kind() -> None:
    outage = _remembered(_verdict(ExchangeResult("token", 500)), _remembered(_verdict(ExchangeResult("token", 500))))
    refused = _remembered(_verdict(ExchangeResult("token", 401)), outage)
    assert (refused.count, refused.retry_at - refused.at) == (1, 15 * MIN)


def test_an_outage_after_refusals_is_the_first_of_its_kind() -> None:
    refused = _remembered(_verdict(ExchangeResult("token", 401)), _remembered(_verdict(ExchangeResult("token", 401))))
    outage = _remembered(_verdict(ExchangeResult("token", 500)), refused)
    assert (outage.count, outage.retry_at - outage.at) == (1, seconds(2))


def test_proven_credentials_are_doubted_once_and_then_refused() -> None:
    exchange_failure = _verdict(ExchangeResult("login", 200, error="failed", unusable=UNUSABLE, worked_before=True))
    first = _remembered(exchange_failure)
    second = _remembered(exchange_failure, first)
    assert (first.code, first.retry_at - first.at, first.refused) == (TRANSIENT, MIN, False)
    assert (second.code, second.retry_at - second.at, second.refused) == (REFUSED, 15 * MIN, True)


def test_a_refusal_of_proven_credentials_does_not_become_a_doubt_again() -> None:
    """The credentials worked before, but have been refused twice since: a third attempt is no first one."""
    exchange_failure = _verdict(ExchangeResult("login", 200, error="failed", unusable=UNUSABLE, worked_before=True))
    believed = _remembered(exchange_failure, _remembered(exchange_failure))
    again = _remembered(exchange_failure, believed)
    assert again.refused
    assert again.retry_at - again.at == HOUR


def test_a_failure_remembers_what_was_refused() -> None:
    found = _remembered(_verdict(ExchangeResult("token", 401)), secret_version="v7", settings_digest="s9")
    assert (found.secret_version, found.settings_digest, found.at) == ("v7", "s9", NOW)
    assert found.refused
    assert not found.misconfigured


@given(kinds=st.lists(st.integers(0, len(TABLE) - 1), min_size=1, max_size=12))
def test_every_failure_rests_and_no_longer_than_a_day(kinds: list[int]) -> None:
    previous: Failure | None = None
    for index in kinds:
        previous = _remembered(_verdict(TABLE[index][1]), previous)
        assert timedelta() < previous.retry_at - previous.at <= timedelta(days=1)
        assert previous.code in {kind.code for kind in FailureKind}
        assert previous.count >= 1

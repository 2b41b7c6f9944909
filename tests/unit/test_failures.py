"""The table of failures, row by row, and the rests that follow."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.records import NOW, seconds
from token_broker.core.failures import Failure, Kind, Seen, Step, Transport, Verdict, Where, classify, next_failure
from token_broker.core.replies import KNOWN_ERRORS

TRANSIENT, INVALID, LIMITED, REFUSED = (
    "provider_unavailable",
    "provider_invalid_response",
    "provider_rate_limited",
    "provider_refused",
)
MIN, HOUR = timedelta(minutes=1), timedelta(hours=1)
UNUSABLE = "access_token is missing"

# row, what was seen, code, where it rests, fixed rest (None: the growing ones)
TABLE: list[tuple[int, Seen, str, Where, timedelta | None]] = [
    (1, Seen("token", transport="unreachable"), TRANSIENT, Where.CONNECTION, None),
    (1, Seen("login", transport="unreachable", proven=True), TRANSIENT, Where.CONNECTION, None),
    (1, Seen("connect", transport="bad_certificate"), TRANSIENT, Where.CONNECTION, 5 * MIN),
    (2, Seen("refresh", transport="unknown"), TRANSIENT, Where.CONNECTION, None),
    (2, Seen("code", transport="unknown"), TRANSIENT, Where.CONNECTION, None),
    (2, Seen("login", transport="unknown"), TRANSIENT, Where.CONNECTION, None),
    (3, Seen("token", 301), INVALID, Where.CONNECTION, 15 * MIN),
    (3, Seen("login", 302), INVALID, Where.CONNECTION, 15 * MIN),
    (3, Seen("refresh", 307), INVALID, Where.CONNECTION, 15 * MIN),
    (3, Seen("code", 308, error="invalid_client"), INVALID, Where.CONNECTION, 15 * MIN),
    (3, Seen("connect", 302, elsewhere=True), INVALID, Where.CONNECTION, 15 * MIN),
    (3, Seen("connect", 302, elsewhere=True, error="server_error"), INVALID, Where.CONNECTION, 15 * MIN),
    (4, Seen("connect", 302, error="server_error"), TRANSIENT, Where.CONNECTION, None),
    (4, Seen("connect", 303, error="temporarily_unavailable"), TRANSIENT, Where.CONNECTION, None),
    (4, Seen("connect", 302, error="access_denied"), REFUSED, Where.CONNECTION, None),
    (4, Seen("connect", 302, error="invalid_scope"), REFUSED, Where.CONNECTION, None),
    (4, Seen("connect", 302, error="unrecognised"), REFUSED, Where.CONNECTION, None),
    (5, Seen("connect", 200), REFUSED, Where.CONNECTION, None),
    (5, Seen("connect", 200, html=True, unusable="connect did not redirect"), REFUSED, Where.CONNECTION, None),
    (5, Seen("connect", 400, error="unrecognised"), REFUSED, Where.CONNECTION, None),
    (5, Seen("connect", 401), REFUSED, Where.CONNECTION, None),
    (5, Seen("connect", 403, html=True, proven=True), REFUSED, Where.CONNECTION, None),
    (5, Seen("connect", 404), REFUSED, Where.CONNECTION, None),
    (6, Seen("token", 429), LIMITED, Where.LIMIT, MIN),
    (6, Seen("token", 429, error="invalid_client"), LIMITED, Where.LIMIT, MIN),
    (6, Seen("token", 429, html=True, proven=True), LIMITED, Where.LIMIT, MIN),
    (6, Seen("connect", 429), LIMITED, Where.LIMIT, MIN),
    (6, Seen("token", 429, retry_after=seconds(7), has_retry_after=True), LIMITED, Where.LIMIT, seconds(7)),
    (6, Seen("login", 429, retry_after=timedelta(days=3), has_retry_after=True), LIMITED, Where.LIMIT, HOUR),
    (6, Seen("token", 503, retry_after=seconds(90), has_retry_after=True), LIMITED, Where.LIMIT, seconds(90)),
    (6, Seen("token", 503, has_retry_after=True), LIMITED, Where.LIMIT, MIN),
    (6, Seen("token", 429, retry_after=seconds(0), has_retry_after=True), LIMITED, Where.LIMIT, MIN),
    (7, Seen("token", 401, error="invalid_client"), REFUSED, Where.CONNECTION, None),
    (7, Seen("token", 400, error="unauthorized_client"), REFUSED, Where.CONNECTION, None),
    (7, Seen("login", 200, error="invalid_credentials", unusable=UNUSABLE), REFUSED, Where.CONNECTION, None),
    (7, Seen("token", 200, error="invalid_client"), REFUSED, Where.CONNECTION, None),
    (7, Seen("token", 500, error="invalid_client"), REFUSED, Where.CONNECTION, None),
    (7, Seen("refresh", 401, error="invalid_client", html=True, proven=True), REFUSED, Where.CONNECTION, None),
    (7, Seen("connect", 400, error="unauthorized_client"), REFUSED, Where.CONNECTION, None),
    (8, Seen("token", 400, error="invalid_scope"), REFUSED, Where.KEY, None),
    (8, Seen("token", 401, error="scope_invalid"), REFUSED, Where.KEY, None),
    (8, Seen("token", 200, error="invalid_target", unusable=UNUSABLE), REFUSED, Where.KEY, None),
    (8, Seen("connect", 400, error="invalid_scope"), REFUSED, Where.KEY, None),
    (9, Seen("token", 400, error="invalid_request"), REFUSED, Where.CONNECTION, None),
    (9, Seen("code", 401, error="unsupported_grant_type"), REFUSED, Where.CONNECTION, None),
    (10, Seen("refresh", 400, error="invalid_grant"), TRANSIENT, Where.CONNECTION, None),
    (10, Seen("code", 401, error="invalid_grant"), TRANSIENT, Where.CONNECTION, None),
    (10, Seen("token", 400, error="invalid_grant"), REFUSED, Where.CONNECTION, None),
    (10, Seen("login", 200, error="invalid_grant", unusable=UNUSABLE), REFUSED, Where.CONNECTION, None),
    (11, Seen("token", 400, error="server_error"), TRANSIENT, Where.CONNECTION, None),
    (11, Seen("token", 401, error="temporarily_unavailable"), TRANSIENT, Where.CONNECTION, None),
    (11, Seen("refresh", 400, error="invalid_token_reuse"), TRANSIENT, Where.CONNECTION, None),
    (12, Seen("login", 200, error="failed", unusable=UNUSABLE, proven=True), TRANSIENT, Where.CONNECTION, MIN),
    (12, Seen("token", 401, html=True, proven=True), TRANSIENT, Where.CONNECTION, MIN),
    (12, Seen("token", 403, html=True, proven=True), TRANSIENT, Where.CONNECTION, MIN),
    (13, Seen("login", 200, error="failed", unusable=UNUSABLE), REFUSED, Where.CONNECTION, None),
    (13, Seen("token", 401), REFUSED, Where.CONNECTION, None),
    (13, Seen("token", 401, proven=True), REFUSED, Where.CONNECTION, None),
    (13, Seen("token", 403, html=True), REFUSED, Where.CONNECTION, None),
    (13, Seen("token", 403, error="unrecognised"), REFUSED, Where.CONNECTION, None),
    (14, Seen("token", 400), REFUSED, Where.CONNECTION, 15 * MIN),
    (14, Seen("token", 404, html=True, proven=True), REFUSED, Where.CONNECTION, 15 * MIN),
    (14, Seen("code", 415, error="unrecognised"), REFUSED, Where.CONNECTION, 15 * MIN),
    (15, Seen("token", 408), TRANSIENT, Where.CONNECTION, None),
    (15, Seen("token", 425), TRANSIENT, Where.CONNECTION, None),
    (15, Seen("connect", 408), TRANSIENT, Where.CONNECTION, None),
    (15, Seen("token", 500), TRANSIENT, Where.CONNECTION, None),
    (15, Seen("connect", 502, html=True), TRANSIENT, Where.CONNECTION, None),
    (15, Seen("token", 503), TRANSIENT, Where.CONNECTION, None),
    (15, Seen("code", 599, error="unrecognised"), TRANSIENT, Where.CONNECTION, None),
    (16, Seen("token", 200, unusable=UNUSABLE), INVALID, Where.CONNECTION, None),
    (16, Seen("refresh", 204, unusable="the answer is no JSON object"), INVALID, Where.CONNECTION, None),
    (16, Seen("token", 200, error="unrecognised", unusable=UNUSABLE), INVALID, Where.CONNECTION, None),
    (16, Seen("connect", 302, unusable="the redirect carries no code"), INVALID, Where.CONNECTION, None),
]


def _verdict(seen: Seen) -> Verdict:
    verdict = classify(seen)
    assert verdict is not None
    return verdict


@pytest.mark.parametrize(("row", "seen", "code", "where", "rest"), TABLE, ids=lambda value: str(value)[:80])
def test_each_row_of_the_table(row: int, seen: Seen, code: str, where: Where, rest: timedelta | None) -> None:
    verdict = _verdict(seen)
    assert (verdict.row, verdict.kind.code, verdict.where, verdict.rest) == (row, code, where, rest)


def test_the_table_has_every_row() -> None:
    assert {row for row, *_ in TABLE} == set(range(1, 17))


@pytest.mark.parametrize(
    "seen",
    [
        Seen("token", 200),
        Seen("refresh", 201),
        Seen("login", 200, proven=True),
        Seen("token", 200, error="unrecognised"),
        Seen("connect", 302),
    ],
)
def test_a_success_has_no_verdict(seen: Seen) -> None:
    assert classify(seen) is None


def test_only_a_silence_after_sending_leaves_the_outcome_unknown() -> None:
    assert {row for row, seen, *_ in TABLE if _verdict(seen).outcome_unknown} == {2}


@pytest.mark.parametrize(("step", "restarts"), [("refresh", True), ("code", True), ("token", False), ("login", False)])
def test_invalid_grant_starts_anew_where_something_stale_was_sent(step: Step, restarts: bool) -> None:
    assert _verdict(Seen(step, 400, error="invalid_grant")).restart is restarts


def test_a_refusal_at_connect_names_the_whitelist() -> None:
    assert "redirect_uri" in _verdict(Seen("connect", 400)).detail
    assert "whitelist" in _verdict(Seen("connect", 200)).detail


def test_the_providers_code_is_passed_on() -> None:
    assert _verdict(Seen("token", 401, error="invalid_client")).provider_error == "invalid_client"
    assert _verdict(Seen("token", 403, error="unrecognised")).provider_error == "unrecognised"


STEPS = st.sampled_from(["connect", "token", "code", "refresh", "login"])
CODES = st.sampled_from([None, "unrecognised", *sorted(KNOWN_ERRORS)])
TRANSPORTS: st.SearchStrategy[Transport | None] = st.sampled_from([None, "unreachable", "bad_certificate", "unknown"])


@given(
    step=STEPS,
    status=st.integers(100, 599),
    error=CODES,
    html=st.booleans(),
    proven=st.booleans(),
    retry_after=st.none() | st.timedeltas(timedelta(), timedelta(days=400)),
)
def test_no_answer_but_a_2xx_or_connects_redirect_goes_without_a_verdict(
    step: Step, status: int, error: str | None, html: bool, proven: bool, retry_after: timedelta | None
) -> None:
    seen = Seen(step, status, error, None, retry_after, retry_after is not None, html, proven)
    is_redirect_with_code = step == "connect" and 300 <= status < 400 and error is None
    if not 200 <= status < 300 and not is_redirect_with_code:
        assert _verdict(seen).row in range(3, 17)


@given(
    step=STEPS,
    status=st.integers(0, 999),
    error=CODES,
    transport=TRANSPORTS,
    html=st.booleans(),
    proven=st.booleans(),
    elsewhere=st.booleans(),
    unusable=st.sampled_from([None, UNUSABLE]),
)
def test_every_verdict_is_whole(
    step: Step,
    status: int,
    error: str | None,
    transport: Transport | None,
    html: bool,
    proven: bool,
    elsewhere: bool,
    unusable: str | None,
) -> None:
    verdict = classify(Seen(step, status, error, transport, None, False, html, proven, elsewhere, unusable))
    if unusable is not None or transport is not None:
        assert verdict is not None
    if verdict is not None:
        assert verdict.detail
        assert verdict.provider_error == error
        assert verdict.rest is None or verdict.rest > timedelta()


def _rests(verdict: Verdict, times: int, previous: Failure | None = None) -> list[timedelta]:
    found = []
    for _ in range(times):
        previous = _remembered(verdict, previous)
        found.append(previous.retry_at - previous.at)
    return found


def _remembered(verdict: Verdict, previous: Failure | None = None, now: datetime = NOW, **changes: Any) -> Failure:
    versions = {"secret_version": "v1", "settings_version": "s1", **changes}
    return next_failure(verdict, previous, now=now, **versions)


def test_transient_failures_rest_2_s_then_30_s_doubling_to_5_min() -> None:
    verdict = _verdict(Seen("token", 500))
    assert _rests(verdict, 8) == [seconds(s) for s in (2, 30, 60, 120, 240, 300, 300, 300)]


def test_an_unusable_answer_rests_as_a_transient_one() -> None:
    assert _rests(_verdict(Seen("token", 200, unusable=UNUSABLE)), 3) == [seconds(s) for s in (2, 30, 60)]


def test_refusals_rest_15_min_then_1_4_and_24_hours() -> None:
    verdict = _verdict(Seen("token", 401, error="invalid_client"))
    assert _rests(verdict, 6) == [15 * MIN, HOUR, 4 * HOUR, 24 * HOUR, 24 * HOUR, 24 * HOUR]


@pytest.mark.parametrize(
    ("seen", "rest"),
    [
        (Seen("token", transport="bad_certificate"), 5 * MIN),
        (Seen("token", 302), 15 * MIN),
        (Seen("token", 404), 15 * MIN),
        (Seen("token", 429), MIN),
    ],
)
def test_a_fixed_rest_does_not_grow(seen: Seen, rest: timedelta) -> None:
    assert _rests(_verdict(seen), 3) == [rest] * 3


def test_a_refusal_after_outages_is_the_first_of_its_kind() -> None:
    outage = _remembered(_verdict(Seen("token", 500)), _remembered(_verdict(Seen("token", 500))))
    refused = _remembered(_verdict(Seen("token", 401)), outage)
    assert (refused.count, refused.retry_at - refused.at) == (1, 15 * MIN)


def test_an_outage_after_refusals_is_the_first_of_its_kind() -> None:
    refused = _remembered(_verdict(Seen("token", 401)), _remembered(_verdict(Seen("token", 401))))
    outage = _remembered(_verdict(Seen("token", 500)), refused)
    assert (outage.count, outage.retry_at - outage.at) == (1, seconds(2))


def test_proven_credentials_are_doubted_once_and_then_refused() -> None:
    verdict = _verdict(Seen("login", 200, error="failed", unusable=UNUSABLE, proven=True))
    first = _remembered(verdict)
    second = _remembered(verdict, first)
    assert (first.code, first.retry_at - first.at, first.refused) == (TRANSIENT, MIN, False)
    assert (second.code, second.retry_at - second.at, second.refused) == (REFUSED, 15 * MIN, True)


def test_a_refusal_of_proven_credentials_does_not_become_a_doubt_again() -> None:
    """The credentials worked before, but have been refused twice since: a third attempt is no first one."""
    verdict = _verdict(Seen("login", 200, error="failed", unusable=UNUSABLE, proven=True))
    believed = _remembered(verdict, _remembered(verdict))
    again = _remembered(verdict, believed)
    assert again.refused
    assert again.retry_at - again.at == HOUR


def test_a_failure_remembers_what_was_refused() -> None:
    found = _remembered(_verdict(Seen("token", 401)), secret_version="v7", settings_version="s9")
    assert (found.secret_version, found.settings_version, found.at) == ("v7", "s9", NOW)
    assert found.refused
    assert not found.misconfigured


@given(kinds=st.lists(st.integers(0, len(TABLE) - 1), min_size=1, max_size=12))
def test_every_failure_rests_and_no_longer_than_a_day(kinds: list[int]) -> None:
    previous: Failure | None = None
    for index in kinds:
        previous = _remembered(_verdict(TABLE[index][1]), previous)
        assert timedelta() < previous.retry_at - previous.at <= timedelta(days=1)
        assert previous.code in {kind.code for kind in Kind}
        assert previous.count >= 1

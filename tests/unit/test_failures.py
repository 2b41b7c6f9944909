"""When the provider may be asked again after a failure: cooldowns, and how they grow."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.outcomes import INVALID, OUTCOMES, REFUSED, TRANSIENT, UNUSABLE, failure_of
from tests.unit.records import NOW, seconds
from token_broker.core.failures import (
    FIXED_COOLDOWNS,
    ExchangeFailure,
    Failure,
    FailureKind,
    broker_failure,
    cooldown,
    failure_to_store,
    misconfigured_failure,
    next_failure,
)
from token_broker.oauth.outcomes import RULES, ExchangeResult

MIN = timedelta(minutes=1)
HOUR = timedelta(hours=1)
# After the first failure of a kind.
FIRST_COOLDOWN = {
    FailureKind.TRANSIENT: seconds(2),
    FailureKind.INVALID: seconds(2),
    FailureKind.RATE_LIMITED: MIN,
    FailureKind.CONSENT_REQUIRED: 15 * MIN,
    FailureKind.REFUSED: 15 * MIN,
}
OTHER_COOLDOWNS = {
    "certificate_not_trusted": 5 * MIN,
    "address_not_public": 5 * MIN,
    "redirected_elsewhere": 15 * MIN,
    "request_unknown": 15 * MIN,
    "credentials_doubted": MIN,
    "unknown_error": MIN,
}
OUTAGE = failure_of(ExchangeResult("token", 500))
REFUSAL = failure_of(ExchangeResult("token", 401))
UNKNOWN = failure_of(ExchangeResult("token", 200, error="unrecognised", unusable=UNUSABLE))
DOUBTED = failure_of(ExchangeResult("login", 200, error="failed", unusable=UNUSABLE, worked_before=True))


@pytest.mark.parametrize(("rule", "result"), OUTCOMES, ids=lambda value: str(value)[:80])
def test_each_outcome_has_its_first_cooldown(rule: str, result: ExchangeResult) -> None:
    failure = failure_of(replace(result, retry_after=None))
    assert cooldown(failure, 1) == OTHER_COOLDOWNS.get(rule, FIRST_COOLDOWN[failure.kind])


def test_every_fixed_cooldown_belongs_to_a_rule() -> None:
    assert set(FIXED_COOLDOWNS) <= {rule.name for rule in RULES}


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (ExchangeResult("token", 429), MIN),
        (ExchangeResult("connect", 429), MIN),
        (ExchangeResult("token", 429, error="invalid_client"), MIN),
        (ExchangeResult("token", 429, html=True, worked_before=True), MIN),
        (ExchangeResult("token", 429, retry_after=seconds(7), has_retry_after=True), seconds(7)),
        (ExchangeResult("login", 429, retry_after=timedelta(days=3), has_retry_after=True), HOUR),
        (ExchangeResult("token", 503, retry_after=seconds(90), has_retry_after=True), seconds(90)),
        (ExchangeResult("token", 503, has_retry_after=True), MIN),
        (ExchangeResult("token", 429, retry_after=seconds(0), has_retry_after=True), MIN),
    ],
)
def test_a_rate_limit_holds_as_long_as_the_provider_says(result: ExchangeResult, expected: timedelta) -> None:
    """60 s where it says nothing, an hour at most."""
    assert cooldown(failure_of(result), 1) == expected


def _cooldowns(failure: ExchangeFailure, times: int, **changes: Any) -> list[timedelta]:
    """The cooldowns of the same failure several times in a row."""
    found = []
    previous: Failure | None = None
    for _ in range(times):
        now = NOW if previous is None else previous.retry_at
        previous = _remembered(failure, previous, now, **changes)
        found.append(previous.retry_at - previous.at)
    return found


def _remembered(
    failure: ExchangeFailure, previous: Failure | None = None, now: datetime = NOW, **changes: Any
) -> Failure:
    versions = {"secret_version": "v1", "settings_digest": "s1", **changes}
    if previous is not None and previous.is_against_credentials:
        versions.setdefault("refused_before", previous.secret_version == versions["secret_version"])
    versions.setdefault("refused_before", False)
    return next_failure(failure, previous, now=now, **versions)


def test_cooldowns_of_an_outage_are_2_s_then_30_s_doubling_to_5_min() -> None:
    assert _cooldowns(OUTAGE, 8) == [seconds(s) for s in (2, 30, 60, 120, 240, 300, 300, 300)]


def test_an_unusable_response_has_the_cooldowns_of_an_outage() -> None:
    unusable = failure_of(ExchangeResult("token", 200, unusable=UNUSABLE))
    assert _cooldowns(unusable, 3) == [seconds(s) for s in (2, 30, 60)]


REFUSED_LADDER = [15 * MIN, HOUR, 4 * HOUR, 24 * HOUR, 24 * HOUR]
FIXED_QUARTER_HOUR = [15 * MIN] * 5


@pytest.mark.parametrize(
    ("result", "counts_logins", "expected"),
    [
        (ExchangeResult("token", 401, error="invalid_client"), False, [MIN, *REFUSED_LADDER]),
        (ExchangeResult("token", 401, error="invalid_client"), True, REFUSED_LADDER),
        (ExchangeResult("login", 200, error="failed", unusable=UNUSABLE), True, REFUSED_LADDER),
        (ExchangeResult("connect", 200), False, [MIN, *REFUSED_LADDER]),
        (ExchangeResult("token", 404), False, [MIN, *FIXED_QUARTER_HOUR]),
        (ExchangeResult("token", 400, error="invalid_scope"), False, REFUSED_LADDER),
    ],
)
def test_a_first_refusal_of_the_connection_gets_one_more_try_and_no_login_does(
    result: ExchangeResult, counts_logins: bool, expected: list[timedelta]
) -> None:
    """A provider may accept new credentials only after a minute. A wrong scope stays wrong."""
    refused = failure_of(result)
    assert _cooldowns(refused, len(expected), counts_logins=counts_logins) == expected


def test_the_one_more_try_confirms_the_refusal_and_does_not_count() -> None:
    found, previous = [], None
    for minute in (0, 1, 16):
        previous = _remembered(REFUSAL, previous, NOW + minute * MIN)
        found.append((previous.one_more_try, previous.repeated_by_sweep, previous.count))
    assert found == [(True, True, 1), (False, False, 1), (False, False, 2)]


def test_a_refusal_before_the_one_more_try_does_not_use_it_up() -> None:
    """The trial of a new connection comes right after the first acquisition."""
    first = _remembered(REFUSAL)
    early = _remembered(REFUSAL, first, now=NOW + seconds(59))
    assert (early.one_more_try, early.retry_at) == (True, NOW + seconds(119))
    confirmed = _remembered(REFUSAL, early, now=early.retry_at)
    assert (confirmed.one_more_try, confirmed.retry_at - confirmed.at) == (False, 15 * MIN)


def test_a_version_that_was_refused_before_gets_no_other_try() -> None:
    """The health of the connection remembers it: the owner went back to it after another one."""
    other = _remembered(REFUSAL, secret_version="v2")
    again = _remembered(REFUSAL, other, refused_before=True)
    assert (again.one_more_try, again.retry_at - again.at) == (False, 15 * MIN)


def test_an_outage_during_the_one_more_try_does_not_use_it_up() -> None:
    refused = _remembered(REFUSAL)
    outage = _remembered(OUTAGE, refused, now=NOW + MIN)
    stored = failure_to_store(outage, refused)
    assert (stored.one_more_try, stored.retry_at) == (True, NOW + 6 * MIN)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (ExchangeResult("token", transport="bad_certificate"), 5 * MIN),
        (ExchangeResult("token", transport="private_address"), 5 * MIN),
        (ExchangeResult("token", 302), 15 * MIN),
        (ExchangeResult("token", 429), MIN),
    ],
)
def test_a_fixed_cooldown_does_not_grow(result: ExchangeResult, expected: timedelta) -> None:
    assert _cooldowns(failure_of(result), 3) == [expected] * 3


def test_a_refusal_after_outages_is_the_first_of_its_kind() -> None:
    refused = _remembered(REFUSAL, _remembered(OUTAGE, _remembered(OUTAGE)))
    assert (refused.count, refused.retry_at - refused.at) == (1, MIN)


def test_an_outage_after_refusals_is_the_first_of_its_kind() -> None:
    outage = _remembered(OUTAGE, _remembered(REFUSAL, _remembered(REFUSAL)))
    assert (outage.count, outage.retry_at - outage.at) == (1, seconds(2))


def test_credentials_that_worked_before_get_one_second_chance() -> None:
    first = _remembered(DOUBTED)
    second = _remembered(DOUBTED, first)
    assert (first.code, first.retry_at - first.at, first.refused) == (TRANSIENT, MIN, False)
    assert (second.code, second.retry_at - second.at, second.refused) == (REFUSED, 15 * MIN, True)


def test_after_a_refusal_there_is_no_other_second_chance() -> None:
    """The credentials worked before, but were refused twice since: a third try is not a first one."""
    refused = _remembered(DOUBTED, _remembered(DOUBTED))
    again = _remembered(DOUBTED, refused)
    assert again.refused
    assert again.retry_at - again.at == HOUR


def test_a_second_unknown_error_after_a_minute_is_a_refusal() -> None:
    first = _remembered(UNKNOWN)
    second = _remembered(UNKNOWN, first, now=NOW + MIN)
    third = _remembered(UNKNOWN, second, now=NOW + 16 * MIN)
    assert (first.code, first.retry_at - first.at) == (INVALID, MIN)
    assert (second.code, second.count, second.retry_at - second.at) == (REFUSED, 1, 15 * MIN)
    assert (third.code, third.count, third.retry_at - third.at) == (REFUSED, 2, HOUR)


def test_a_second_unknown_error_of_a_login_is_a_refusal_at_once() -> None:
    first = _remembered(UNKNOWN, counts_logins=True)
    assert not first.refused
    assert _remembered(UNKNOWN, first, now=NOW + seconds(1), counts_logins=True).refused
    assert not _remembered(UNKNOWN, first, now=NOW + seconds(59)).refused


def test_unknown_errors_with_another_secret_or_another_failure_between_are_no_refusal() -> None:
    first = _remembered(UNKNOWN)
    assert not _remembered(UNKNOWN, first, now=NOW + HOUR, secret_version="v2").refused
    between = _remembered(OUTAGE, first, now=NOW + MIN)
    assert not _remembered(UNKNOWN, between, now=NOW + HOUR).refused


def test_a_failure_remembers_the_secret_and_the_settings_that_failed() -> None:
    found = _remembered(REFUSAL, secret_version="v7", settings_digest="s9")
    assert (found.secret_version, found.settings_digest, found.at) == ("v7", "s9", NOW)
    assert found.rule == "credentials_refused"
    assert found.refused
    assert not found.misconfigured


def test_a_misconfigured_connection_is_looked_at_again_after_5_min() -> None:
    found = misconfigured_failure("connection_misconfigured", "There is no secret.", now=NOW, settings_digest="s1")
    assert (found.misconfigured, found.refused, found.retry_at) == (True, False, NOW + 5 * MIN)


def test_an_outage_does_not_clear_a_stored_refusal() -> None:
    refused = _remembered(REFUSAL)
    outage = _remembered(OUTAGE, refused, now=NOW + 15 * MIN)
    stored = failure_to_store(outage, refused)
    assert (stored.refused, stored.retry_at) == (True, NOW + 20 * MIN)


def test_a_new_failure_does_not_shorten_a_stored_cooldown() -> None:
    long = _remembered(failure_of(ExchangeResult("token", 302)))
    short = _remembered(OUTAGE, long, now=NOW + MIN)
    assert failure_to_store(short, long).retry_at == long.retry_at
    other_secret = _remembered(OUTAGE, long, now=NOW + MIN, secret_version="v2")
    assert failure_to_store(other_secret, long) == other_secret


def test_cooldowns_of_our_own_services_grow_like_those_of_an_outage() -> None:
    previous, found = None, []
    for _ in range(7):
        previous = broker_failure("KMS fails.", previous, now=NOW, settings_digest="s1")
        found.append(previous.retry_at - previous.at)
    assert found == [seconds(s) for s in (2, 30, 60, 120, 240, 300, 300)]
    assert previous is not None
    assert (previous.code, previous.refused, previous.misconfigured) == ("broker_unavailable", False, False)


def test_a_failure_of_our_own_services_does_not_clear_a_stored_refusal() -> None:
    """It does not know the secret's version. The refusal stays with the one that was refused."""
    refused = _remembered(REFUSAL)
    ours = broker_failure("KMS fails.", refused, now=NOW + 15 * MIN, settings_digest="s1")
    stored = failure_to_store(ours, refused)
    assert (stored.refused, stored.secret_version, stored.retry_at) == (True, "v1", NOW + 20 * MIN)


@given(kinds=st.lists(st.integers(0, len(OUTCOMES) - 1), min_size=1, max_size=12))
def test_every_cooldown_is_at_most_a_day(kinds: list[int]) -> None:
    previous: Failure | None = None
    for index in kinds:
        previous = _remembered(failure_of(OUTCOMES[index][1]), previous)
        assert timedelta() < previous.retry_at - previous.at <= timedelta(days=1)
        assert previous.code in {kind.code for kind in FailureKind}
        assert previous.count >= 1

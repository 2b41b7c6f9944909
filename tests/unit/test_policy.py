"""`decide` as a table of truth: each test is a row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.records import (
    CURRENT,
    KEY,
    NOW,
    OTHER,
    criteria,
    failure,
    lease,
    policy,
    rate_limited,
    record,
    refused,
    seconds,
    token,
    with_health,
)
from token_broker.core.failures import Failure
from token_broker.core.health import ConnectionHealth
from token_broker.core.policy import (
    Acquire,
    AwaitOther,
    Deny,
    RenewalPolicy,
    Serve,
    TokenCriteria,
    active_cooldown,
    decide,
)
from token_broker.core.records import REPORT_BURST, REPORT_INTERVAL, TokenRecord

REISSUING = policy(new_token_window=seconds(900))


def decided(found: TokenRecord, wanted: TokenCriteria | None = None, by: RenewalPolicy | None = None) -> object:
    return decide(found, wanted or criteria(), by or policy(), NOW)


# ------------------------------------------------------------------ a valid token, no failure
def test_a_valid_token_is_served() -> None:
    assert decided(record(token())) == Serve(token())


def test_without_a_token_the_provider_is_asked() -> None:
    assert decided(record()) == Acquire(reported=False)


@pytest.mark.parametrize("remaining", [0, -0.001, -3600])
def test_an_expired_token_is_not_served(remaining: float) -> None:
    assert decided(record(token(remaining=remaining))) == Acquire()


def test_a_token_of_another_endpoint_is_not_served() -> None:
    assert decided(record(token(token_endpoint="https://elsewhere.example.com/token"))) == Acquire()


def test_a_token_whose_seal_is_broken_is_not_served() -> None:
    assert decided(record(token()), criteria(unreadable_token_id=CURRENT)) == Acquire(reported=False)


def test_the_seal_of_an_older_token_does_not_matter() -> None:
    assert decided(record(token()), criteria(unreadable_token_id=OTHER)) == Serve(token())


def test_a_token_due_for_renewal_is_still_served_to_callers() -> None:
    late = token(remaining=100, renew_at=NOW - seconds(500))
    assert decided(record(late)) == Serve(late)


# ------------------------------------------------------------------ stale tokens
STALE = record(token(), stale_at=NOW - seconds(5))


def test_a_token_of_other_settings_is_replaced() -> None:
    assert decided(record(token(settings_digest="s0"))) == Acquire()


def test_a_token_whose_settings_are_not_known_is_served() -> None:
    found = token(settings_digest=None)
    assert decided(record(found)) == Serve(found)


def test_a_token_marked_stale_is_replaced() -> None:
    assert decided(STALE) == Acquire()


def test_a_token_of_an_older_secret_is_replaced_once_the_version_is_known() -> None:
    old = record(token(secret_version="v0"))
    assert decided(old) == Serve(token(secret_version="v0"))
    assert decided(old, criteria(secret_version="v1")) == Acquire()


@pytest.mark.parametrize("found", [STALE, record(token(settings_digest="s0"))])
def test_a_stale_token_is_served_while_somebody_else_replaces_it(found: TokenRecord) -> None:
    replaced = replace(found, lease=lease())
    assert found.token is not None
    assert decided(replaced) == Serve(token(settings_digest=found.token.settings_digest))


@pytest.mark.parametrize("failed", [failure(), rate_limited(), refused()])
def test_a_stale_token_is_served_while_its_replacement_fails(failed: Failure) -> None:
    assert decided(replace(STALE, failure=failed)) == Serve(token(), ("renewal_failing",))
    assert decided(replace(STALE, health=ConnectionHealth(failure=failed))) == Serve(token(), ("renewal_failing",))


def test_a_stale_token_of_another_endpoint_is_not_served_while_its_replacement_fails() -> None:
    found = failure()
    foreign = token(token_endpoint="https://elsewhere.example.com/token")
    assert decided(record(foreign, stale_at=NOW, failure=found)) == Deny(found, found.retry_at)


def test_a_stale_token_that_was_reported_is_not_served_to_its_reporter() -> None:
    assert decided(STALE, criteria(rejected_token_id=CURRENT)) == Acquire(reported=True)
    waiting = decided(replace(STALE, lease=lease()), criteria(rejected_token_id=CURRENT))
    assert waiting == AwaitOther(NOW + seconds(17), NOW + seconds(4), None)


def test_a_stale_token_is_replaced_although_it_was_just_issued() -> None:
    """Its lifetime satisfies every `min_ttl`, and it was issued after the request began."""
    assert decided(record(token(age=-1), stale_at=NOW)) == Acquire()


# ------------------------------------------------------------------ min_ttl
def test_a_token_that_lives_for_exactly_min_ttl_is_served() -> None:
    assert decided(record(token(remaining=60)), criteria(min_ttl=seconds(60))) == Serve(token(remaining=60))


def test_a_shorter_token_than_min_ttl_is_replaced() -> None:
    assert decided(record(token(age=3000, remaining=59)), criteria(min_ttl=seconds(60))) == Acquire(reported=False)


def test_min_ttl_over_the_last_lifetime_gets_a_warning() -> None:
    short = token(age=100, remaining=200)
    assert decided(record(short), criteria(min_ttl=seconds(301))) == Serve(short, ("min_ttl_unmet",))


def test_min_ttl_of_exactly_the_last_lifetime_asks_the_provider() -> None:
    assert decided(record(token(age=100, remaining=200)), criteria(min_ttl=seconds(300))) == Acquire()


def test_before_the_reissue_window_min_ttl_gets_a_warning() -> None:
    found = token(age=6000, remaining=1200)
    assert decided(record(found), criteria(min_ttl=seconds(3600)), REISSUING) == Serve(found, ("min_ttl_unmet",))


@pytest.mark.parametrize("remaining", [900, 899, 10])
def test_inside_the_reissue_window_min_ttl_asks_the_provider(remaining: float) -> None:
    assert (
        decided(record(token(age=6000, remaining=remaining)), criteria(min_ttl=seconds(1800)), REISSUING) == Acquire()
    )


@pytest.mark.parametrize("age", [0, -0.5])
def test_a_token_issued_after_the_request_is_served_whatever_its_lifetime(age: float) -> None:
    fresh = token(age=age, remaining=10)
    assert decided(record(fresh), criteria(min_ttl=seconds(30))) == Serve(fresh, ("min_ttl_unmet",))


def test_min_ttl_does_not_replace_a_token_just_issued() -> None:
    fresh = token(age=29, remaining=3571)
    assert decided(record(fresh), criteria(min_ttl=seconds(3600))) == Serve(fresh, ("min_ttl_unmet",))
    assert decided(record(token(age=30, remaining=3570)), criteria(min_ttl=seconds(3600))) == Acquire()


def test_a_short_token_can_be_replaced_after_half_its_lifetime() -> None:
    assert decided(record(token(age=20, remaining=20)), criteria(min_ttl=seconds(30))) == Acquire()


def test_during_a_cooldown_a_short_token_is_served_with_both_warnings() -> None:
    short = token(age=3000, remaining=20)
    warned = Serve(short, ("renewal_failing", "min_ttl_unmet"))
    assert decided(record(short, failure=failure())) == warned
    assert decided(with_health(refused(), short)) == warned


# ------------------------------------------------------------------ leases
@pytest.mark.parametrize("age", [0, 3, 4, 16])
def test_a_caller_waits_while_the_lease_is_younger_than_4_s_and_there_is_no_token(age: float) -> None:
    held = lease(17 - age, age=age)
    assert decided(record(lease=held)) == AwaitOther(NOW + seconds(17 - age), NOW + seconds(4 - age), None)


@pytest.mark.parametrize("failed", [failure(cooldown=-1), refused(cooldown=-1), failure(rule="broker_failed")])
def test_nobody_waits_if_the_last_attempt_failed(failed: Failure) -> None:
    over = replace(failed, retry_at=NOW)
    waiting = AwaitOther(NOW + seconds(17), NOW, None)
    assert decided(record(lease=lease(), failure=over)) == waiting
    assert decided(record(lease=lease(), health=ConnectionHealth(failure=over))) == waiting
    assert decided(record(lease=lease(), health=ConnectionHealth(rate_limit=over))) == waiting


def test_a_failure_with_other_settings_keeps_nobody_from_waiting() -> None:
    found = record(lease=lease(), failure=failure(settings_digest="s0"))
    assert decided(found) == AwaitOther(NOW + seconds(17), NOW + seconds(4), None)


def test_a_valid_token_is_served_during_a_lease() -> None:
    assert decided(record(token(), lease=lease())) == Serve(token())


def test_a_caller_who_waits_for_a_longer_token_can_fall_back_on_the_short_one() -> None:
    short = token(age=3000, remaining=20)
    waiting = AwaitOther(NOW + seconds(17), NOW + seconds(4), Serve(short, ("min_ttl_unmet",)))
    assert decided(record(short, lease=lease())) == waiting


def test_a_caller_who_reported_the_current_token_cannot_fall_back_on_it() -> None:
    waiting = AwaitOther(NOW + seconds(17), NOW + seconds(4), None)
    assert decided(record(token(), lease=lease()), criteria(rejected_token_id=CURRENT)) == waiting


@pytest.mark.parametrize(("until", "held"), [(0.0, True), (-0.999, True), (-1.0, False), (-60.0, False)])
def test_a_lease_can_be_taken_over_one_second_after_it_expired(until: float, held: bool) -> None:
    assert isinstance(decided(record(lease=lease(until))), AwaitOther) is held
    assert lease(until).holds(NOW) is held


# ------------------------------------------------------------------ cooldowns and refusals
@pytest.mark.parametrize("found", [failure(), refused(), rate_limited()])
def test_without_a_token_a_cooldown_denies(found: Failure) -> None:
    assert decided(record(failure=found)) == Deny(found, found.retry_at)
    assert decided(with_health(found)) == Deny(found, found.retry_at)


@pytest.mark.parametrize("found", [failure(), refused(), rate_limited()])
def test_a_valid_token_is_served_while_the_provider_fails(found: Failure) -> None:
    assert decided(record(token(), failure=found)) == Serve(token(), ("renewal_failing",))
    assert decided(with_health(found, token())) == Serve(token(), ("renewal_failing",))


@pytest.mark.parametrize("found", [failure(cooldown=0), refused(cooldown=-1)])
def test_after_the_cooldown_a_caller_asks_again(found: Failure) -> None:
    assert decided(record(failure=found)) == Acquire()
    assert decided(with_health(found)) == Acquire()


def test_the_longer_of_two_cooldowns_counts() -> None:
    short = failure(cooldown=5)
    long = refused(cooldown=900)
    assert decided(record(failure=short, health=ConnectionHealth(failure=long))) == Deny(long, long.retry_at)
    assert decided(record(failure=long, health=ConnectionHealth(failure=short))) == Deny(long, long.retry_at)


def test_a_cooldown_counts_before_a_lease() -> None:
    assert isinstance(decided(record(failure=failure(), lease=lease())), Deny)


def test_another_version_of_the_secret_clears_a_refusal() -> None:
    assert decided(with_health(refused()), criteria(secret_version="v2")) == Acquire()


def test_the_same_version_of_the_secret_clears_nothing() -> None:
    assert isinstance(decided(with_health(refused()), criteria(secret_version="v1")), Deny)


def test_an_unknown_version_of_the_secret_clears_nothing() -> None:
    assert isinstance(decided(with_health(refused()), criteria(secret_version=None)), Deny)


def test_another_version_of_the_secret_does_not_clear_an_outage() -> None:
    assert isinstance(decided(with_health(failure()), criteria(secret_version="v2")), Deny)


def test_other_settings_clear_a_refusal() -> None:
    assert decided(with_health(refused()), by=policy(settings_digest="s2")) == Acquire()
    assert decided(record(failure=refused()), by=policy(settings_digest="s2")) == Acquire()


def test_a_cleared_refusal_causes_no_warning() -> None:
    found = token(settings_digest="s2")
    assert decided(with_health(refused(), found), by=policy(settings_digest="s2")) == Serve(found)


def test_a_misconfigured_connection_holds_back_only_who_waited_when_it_was_found() -> None:
    found = failure(code="connection_misconfigured", rule="misconfigured", ago=10, cooldown=300)
    assert decided(record(failure=found)) == Acquire()
    assert decided(record(failure=found), criteria(requested_at=NOW - seconds(11))) == Deny(found, found.retry_at)
    assert isinstance(decided(record(failure=found), criteria(renewal=True)), Deny)


# ------------------------------------------------------------------ reports of rejected tokens
def with_reports(taken: int, *, ago: float = 0) -> TokenRecord:
    """A record with a token. So many token requests after reports were taken from its bucket `ago` seconds ago."""
    found = record(token())
    for _ in range(taken):
        found = found.reported(NOW - seconds(ago))
    return found


def test_a_reported_current_token_is_replaced() -> None:
    assert decided(record(token()), criteria(rejected_token_id=CURRENT)) == Acquire(reported=True)


def test_a_report_of_an_older_token_gets_the_current_one() -> None:
    assert decided(with_reports(5), criteria(rejected_token_id=OTHER)) == Serve(token())


def test_a_reported_token_is_still_served_to_others() -> None:
    assert decided(with_reports(5)) == Serve(token())


@pytest.mark.parametrize("taken", range(REPORT_BURST))
def test_reports_are_allowed_while_the_bucket_is_not_empty(taken: int) -> None:
    assert decided(with_reports(taken), criteria(rejected_token_id=CURRENT)) == Acquire(reported=True)


def test_with_an_empty_bucket_a_report_is_denied_without_a_failure() -> None:
    denied = Deny(None, NOW + REPORT_INTERVAL)
    assert decided(with_reports(REPORT_BURST), criteria(rejected_token_id=CURRENT)) == denied


def test_a_report_is_allowed_again_when_a_minute_has_passed() -> None:
    before = with_reports(REPORT_BURST, ago=59)
    assert decided(before, criteria(rejected_token_id=CURRENT)) == Deny(None, NOW + seconds(1))
    assert decided(with_reports(REPORT_BURST, ago=60), criteria(rejected_token_id=CURRENT)) == Acquire(reported=True)


def test_with_an_empty_bucket_a_reporter_still_waits_for_another_acquisition() -> None:
    found = replace(with_reports(REPORT_BURST), lease=lease())
    waiting = AwaitOther(NOW + seconds(17), NOW + seconds(4), None)
    assert decided(found, criteria(rejected_token_id=CURRENT)) == waiting


def test_a_report_during_a_cooldown_is_denied_with_that_failure() -> None:
    found = failure()
    assert decided(record(token(), failure=found), criteria(rejected_token_id=CURRENT)) == Deny(found, found.retry_at)


def test_a_reported_token_that_was_issued_again_meanwhile_is_served_with_a_warning() -> None:
    again = token(age=1)
    assert decided(record(again), criteria(rejected_token_id=CURRENT, requested_at=NOW - seconds(2))) == Serve(
        again, ("same_token_reissued",)
    )


def test_a_report_of_an_expired_token_is_a_plain_request() -> None:
    expired = replace(with_reports(REPORT_BURST), token=token(remaining=-1))
    assert decided(expired, criteria(rejected_token_id=CURRENT)) == Acquire(reported=False)


# ------------------------------------------------------------------ the sweep
def renewal(**changes: object) -> TokenCriteria:
    return criteria(renewal=True, min_ttl=seconds(0), **changes)


def test_the_sweep_renews_a_due_token() -> None:
    assert decided(record(token(renew_at=NOW - seconds(1))), renewal()) == Acquire()


def test_the_sweep_looks_half_an_interval_ahead() -> None:
    assert decided(record(token(renew_at=NOW + seconds(30))), renewal()) == Acquire()
    early = token(renew_at=NOW + seconds(31))
    assert decided(record(early), renewal()) == Serve(early)


def test_the_sweep_does_not_renew_before_the_reissue_window() -> None:
    early = token(remaining=901, renew_at=NOW)
    assert decided(record(early), renewal(), REISSUING) == Serve(early)
    assert decided(record(token(remaining=899, renew_at=NOW)), renewal(), REISSUING) == Acquire()


def test_the_sweep_renews_a_token_whose_secret_changed() -> None:
    assert decided(record(token(), stale_at=NOW - seconds(5)), renewal()) == Acquire()


def test_the_sweep_renews_a_token_of_other_settings() -> None:
    assert decided(record(token(settings_digest="s0")), renewal()) == Acquire()


def test_the_sweep_renews_a_token_that_lives_for_seconds_at_most_once_a_minute() -> None:
    short = token(age=20, remaining=-5, renew_at=NOW - seconds(10))
    assert decided(record(short), renewal()) == Deny(None, NOW + seconds(40))
    assert decided(record(short, stale_at=NOW), renewal()) == Acquire()


def test_the_sweep_waits_for_a_lease() -> None:
    due = record(token(renew_at=NOW), lease=lease())
    assert decided(due, renewal()) == AwaitOther(NOW + seconds(17), NOW + seconds(4), Serve(token(renew_at=NOW)))


def test_the_sweep_asks_again_after_an_outage() -> None:
    assert decided(record(token(renew_at=NOW), failure=failure(cooldown=-1)), renewal()) == Acquire()


@pytest.mark.parametrize("cooldown", [900, 0, -1, -100_000])
def test_the_sweep_never_repeats_a_refusal(cooldown: float) -> None:
    found = refused(ago=100_900, cooldown=cooldown)
    assert decided(with_health(found), renewal()) == Deny(found, found.retry_at)
    assert isinstance(decided(with_health(found, token(renew_at=NOW)), renewal()), Serve)


def test_the_sweep_repeats_a_refusal_with_another_version_of_the_secret() -> None:
    assert decided(with_health(refused()), renewal(secret_version="v2")) == Acquire()
    assert decided(with_health(refused()), renewal(secret_version="v1")) != Acquire()


# ------------------------------------------------------------------ warnings
def test_a_failure_before_the_token_was_issued_causes_no_warning() -> None:
    assert decided(record(token(age=5), failure=failure(ago=10))) == Serve(token(age=5))


def test_a_failure_causes_a_warning_after_its_cooldown_too() -> None:
    assert decided(record(token(), failure=failure(cooldown=-5))) == Serve(token(), ("renewal_failing",))


def test_another_scope_than_requested_causes_a_warning() -> None:
    narrower = token(scope="")
    assert decided(record(narrower)) == Serve(narrower, ("scope_differs",))


@pytest.mark.parametrize(("requested", "granted"), [("a b", "a b"), ("a b", "b,a"), ("a,b", "a b"), ("a,b", "a,b")])
def test_the_requested_scope_causes_no_warning_however_its_items_are_separated(requested: str, granted: str) -> None:
    found = token(scope=granted)
    assert decided(replace(record(found), key=replace(KEY, scope=requested))) == Serve(found)


def test_a_disputed_expiry_causes_a_warning() -> None:
    assert decided(record(token(expiry_disputed=True))) == Serve(token(expiry_disputed=True), ("expiry_disputed",))


def test_a_key_without_failures_has_no_cooldown() -> None:
    assert active_cooldown(record(), criteria(), policy(), NOW) is None

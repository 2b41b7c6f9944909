"""`decide` as a table of truth: each name is a row."""

from __future__ import annotations

import pytest

from tests.unit.records import (
    CURRENT,
    NOW,
    OTHER,
    asked,
    failure,
    guarded,
    lease,
    policy,
    record,
    refusal,
    seconds,
    token,
)
from token_broker.core.failures import Failure
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
from token_broker.core.records import ConnectionHealth, Lease, TokenRecord

REISSUING = policy(reissue_window=seconds(900))


def decided(found: TokenRecord, request: TokenCriteria | None = None, by: RenewalPolicy | None = None) -> object:
    return decide(found, request or asked(), by or policy(), NOW)


# ------------------------------------------------------------------ a token and nothing in the way
def test_a_valid_token_is_served() -> None:
    assert decided(record(token())) == Serve(token())


def test_without_a_token_the_provider_is_asked() -> None:
    assert decided(record()) == Acquire(forced=False)


@pytest.mark.parametrize("left", [0, -0.001, -3600])
def test_a_token_at_or_past_its_end_is_not_served(left: float) -> None:
    assert decided(record(token(left=left))) == Acquire()


def test_a_token_of_another_endpoint_is_not_served() -> None:
    assert decided(record(token(issuer="https://elsewhere.example.com/token"))) == Acquire()


def test_a_token_whose_seal_is_broken_is_not_served() -> None:
    assert decided(record(token()), asked(unreadable=CURRENT)) == Acquire(forced=False)


def test_the_seal_of_an_older_token_does_not_matter() -> None:
    assert decided(record(token()), asked(unreadable=OTHER)) == Serve(token())


def test_a_token_past_its_time_of_renewal_is_still_served_to_callers() -> None:
    late = token(left=100, renew_at=NOW - seconds(500))
    assert decided(record(late)) == Serve(late)


def test_a_token_of_an_older_secret_is_still_served_to_callers() -> None:
    stale = record(token(secret_version="v0"), stale_at=NOW - seconds(5))
    assert decided(stale, asked(secret_version="v1")) == Serve(stale.token)  # type: ignore[arg-type]  # it has one


# ------------------------------------------------------------------ min_ttl
def test_a_token_with_exactly_min_ttl_left_is_served() -> None:
    assert decided(record(token(left=60)), asked(min_ttl=seconds(60))) == Serve(token(left=60))


def test_min_ttl_unmet_asks_for_a_longer_token() -> None:
    assert decided(record(token(age=3000, left=59)), asked(min_ttl=seconds(60))) == Acquire(forced=False)


def test_min_ttl_beyond_the_lifetime_last_issued_is_served_with_a_warning() -> None:
    short = token(age=100, left=200)
    assert decided(record(short), asked(min_ttl=seconds(301))) == Serve(short, ("min_ttl_unmet",))


def test_min_ttl_of_just_the_lifetime_last_issued_asks() -> None:
    assert decided(record(token(age=100, left=200)), asked(min_ttl=seconds(300))) == Acquire()


def test_before_the_provider_reissues_min_ttl_is_served_with_a_warning() -> None:
    found = token(age=6000, left=1200)
    assert decided(record(found), asked(min_ttl=seconds(3600)), REISSUING) == Serve(found, ("min_ttl_unmet",))


@pytest.mark.parametrize("left", [900, 899, 10])
def test_inside_the_reissue_window_min_ttl_asks(left: float) -> None:
    assert decided(record(token(age=6000, left=left)), asked(min_ttl=seconds(1800)), REISSUING) == Acquire()


@pytest.mark.parametrize("age", [0, -0.5])
def test_a_token_issued_after_the_request_is_served_whatever_its_lifetime(age: float) -> None:
    fresh = token(age=age, left=10)
    assert decided(record(fresh), asked(min_ttl=seconds(30))) == Serve(fresh, ("min_ttl_unmet",))


def test_min_ttl_is_no_lever_on_a_token_just_issued() -> None:
    fresh = token(age=29, left=3571)
    assert decided(record(fresh), asked(min_ttl=seconds(3600))) == Serve(fresh, ("min_ttl_unmet",))
    assert decided(record(token(age=30, left=3570)), asked(min_ttl=seconds(3600))) == Acquire()


def test_a_short_token_is_replaced_from_half_its_life_on() -> None:
    assert decided(record(token(age=20, left=20)), asked(min_ttl=seconds(30))) == Acquire()


def test_while_something_rests_the_longest_token_is_served_with_both_warnings() -> None:
    short = token(age=3000, left=20)
    warned = Serve(short, ("renewal_failing", "min_ttl_unmet"))
    assert decided(record(short, failure=failure())) == warned
    assert decided(guarded(refusal(), short)) == warned


# ------------------------------------------------------------------ leases
def test_who_finds_a_lease_and_no_token_waits() -> None:
    assert decided(record(lease=lease(12))) == AwaitOther(NOW + seconds(12), None)


def test_a_lease_keeps_no_valid_token_from_anybody() -> None:
    assert decided(record(token(), lease=lease())) == Serve(token())


def test_who_waits_for_a_longer_token_has_the_short_one_to_fall_back_on() -> None:
    short = token(age=3000, left=20)
    waiting = AwaitOther(NOW + seconds(17), Serve(short, ("min_ttl_unmet",)))
    assert decided(record(short, lease=lease())) == waiting


def test_who_reported_the_current_token_waits_without_falling_back_on_it() -> None:
    assert decided(record(token(), lease=lease()), asked(rejected=CURRENT)) == AwaitOther(NOW + seconds(17), None)


@pytest.mark.parametrize(("until", "held"), [(0.0, True), (-0.999, True), (-1.0, False), (-60.0, False)])
def test_a_lease_is_taken_over_one_second_after_its_end(until: float, held: bool) -> None:
    assert isinstance(decided(record(lease=lease(until))), AwaitOther) is held
    assert Lease("x", NOW + seconds(until)).holds(NOW) is held


# ------------------------------------------------------------------ rests and refusals
@pytest.mark.parametrize("found", [failure(), refusal(), failure(code="provider_rate_limited", row=6)])
def test_while_a_key_rests_without_a_token_it_is_refused(found: Failure) -> None:
    assert decided(record(failure=found)) == Deny(found, found.retry_at)
    assert decided(guarded(found)) == Deny(found, found.retry_at)


@pytest.mark.parametrize("found", [failure(), refusal(), failure(code="provider_rate_limited", row=6)])
def test_a_failing_provider_takes_no_valid_token_away(found: Failure) -> None:
    assert decided(record(token(), failure=found)) == Serve(token(), ("renewal_failing",))
    assert decided(guarded(found, token())) == Serve(token(), ("renewal_failing",))


@pytest.mark.parametrize("found", [failure(rests=0), refusal(rests=-1)])
def test_after_its_rest_a_caller_asks_again(found: Failure) -> None:
    assert decided(record(failure=found)) == Acquire()
    assert decided(guarded(found)) == Acquire()


def test_the_longer_of_two_rests_counts() -> None:
    short, long = failure(rests=5), refusal(rests=900)
    assert decided(record(failure=short, health=ConnectionHealth(failure=long))) == Deny(long, long.retry_at)
    assert decided(record(failure=long, health=ConnectionHealth(failure=short))) == Deny(long, long.retry_at)


def test_a_rest_goes_before_a_lease() -> None:
    assert isinstance(decided(record(failure=failure(), lease=lease())), Deny)


def test_another_version_of_the_secret_lifts_a_refusal() -> None:
    assert decided(guarded(refusal()), asked(secret_version="v2")) == Acquire()


def test_the_same_version_of_the_secret_lifts_nothing() -> None:
    assert isinstance(decided(guarded(refusal()), asked(secret_version="v1")), Deny)


def test_an_unknown_version_of_the_secret_lifts_nothing() -> None:
    assert isinstance(decided(guarded(refusal()), asked(secret_version=None)), Deny)


def test_another_version_of_the_secret_lifts_no_outage() -> None:
    assert isinstance(decided(guarded(failure()), asked(secret_version="v2")), Deny)


def test_other_settings_lift_a_refusal() -> None:
    assert decided(guarded(refusal()), by=policy(settings_digest="s2")) == Acquire()
    assert decided(record(failure=refusal()), by=policy(settings_digest="s2")) == Acquire()


def test_a_lifted_refusal_warns_nobody() -> None:
    assert decided(guarded(refusal(), token()), by=policy(settings_digest="s2")) == Serve(token())


def test_a_misconfigured_connection_is_looked_at_again_for_every_caller() -> None:
    found = failure(code="connection_misconfigured", row=0, rests=300)
    assert decided(record(failure=found)) == Acquire()
    assert isinstance(decided(record(failure=found), asked(renewal=True)), Deny)


# ------------------------------------------------------------------ reports of refused tokens
def test_the_current_token_reported_is_replaced_by_force() -> None:
    assert decided(record(token()), asked(rejected=CURRENT)) == Acquire(forced=True)


def test_a_report_of_an_older_token_gets_the_current_one() -> None:
    assert decided(record(token(), rejected_until=NOW + seconds(60)), asked(rejected=OTHER)) == Serve(token())


def test_a_report_takes_no_token_from_others() -> None:
    reported = record(token(), rejections=1, rejected_until=NOW + seconds(30))
    assert decided(reported) == Serve(token())


def test_reports_over_the_rate_are_refused_with_no_failure() -> None:
    until = NOW + seconds(30)
    assert decided(record(token(), rejections=1, rejected_until=until), asked(rejected=CURRENT)) == Deny(None, until)


def test_a_report_after_its_rest_forces_again() -> None:
    found = record(token(), rejections=3, rejected_until=NOW)
    assert decided(found, asked(rejected=CURRENT)) == Acquire(forced=True)


def test_a_report_while_the_provider_rests_is_refused_with_that_failure() -> None:
    found = failure()
    assert decided(record(token(), failure=found), asked(rejected=CURRENT)) == Deny(found, found.retry_at)


def test_a_report_of_a_token_that_has_ended_is_a_plain_request() -> None:
    ended = record(token(left=-1), rejections=1, rejected_until=NOW + seconds(60))
    assert decided(ended, asked(rejected=CURRENT)) == Acquire(forced=False)


# ------------------------------------------------------------------ the sweep
def renewal(**changes: object) -> TokenCriteria:
    return asked(renewal=True, min_ttl=seconds(0), **changes)


def test_the_sweep_renews_what_is_due() -> None:
    assert decided(record(token(renew_at=NOW - seconds(1))), renewal()) == Acquire()


def test_the_sweep_looks_half_an_interval_ahead() -> None:
    assert decided(record(token(renew_at=NOW + seconds(30))), renewal()) == Acquire()
    early = token(renew_at=NOW + seconds(31))
    assert decided(record(early), renewal()) == Serve(early)


def test_the_sweep_renews_nothing_before_the_provider_reissues() -> None:
    early = token(left=901, renew_at=NOW)
    assert decided(record(early), renewal(), REISSUING) == Serve(early)
    assert decided(record(token(left=899, renew_at=NOW)), renewal(), REISSUING) == Acquire()


def test_the_sweep_renews_a_token_whose_secret_changed() -> None:
    assert decided(record(token(), stale_at=NOW - seconds(5)), renewal()) == Acquire()


def test_the_sweep_waits_for_a_lease() -> None:
    due = record(token(renew_at=NOW), lease=lease())
    assert decided(due, renewal()) == AwaitOther(NOW + seconds(17), Serve(due.token))  # type: ignore[arg-type]  # it has one


def test_the_sweep_asks_again_after_an_outage() -> None:
    assert decided(record(token(renew_at=NOW), failure=failure(rests=-1)), renewal()) == Acquire()


@pytest.mark.parametrize("rests", [900, 0, -1, -100_000])
def test_the_sweep_never_repeats_a_refusal(rests: float) -> None:
    refused = refusal(ago=100_900, rests=rests)
    assert decided(guarded(refused), renewal()) == Deny(refused, refused.retry_at)
    assert isinstance(decided(guarded(refused, token(renew_at=NOW)), renewal()), Serve)


def test_the_sweep_repeats_a_refusal_with_another_version_of_the_secret() -> None:
    assert decided(guarded(refusal()), renewal(secret_version="v2")) == Acquire()
    assert decided(guarded(refusal()), renewal(secret_version="v1")) != Acquire()


# ------------------------------------------------------------------ warnings
def test_a_failure_from_before_the_token_warns_nobody() -> None:
    assert decided(record(token(age=5), failure=failure(ago=10))) == Serve(token(age=5))


def test_a_failure_warns_after_its_rest_too() -> None:
    assert decided(record(token(), failure=failure(rests=-5))) == Serve(token(), ("renewal_failing",))


def test_another_scope_than_asked_warns() -> None:
    narrower = token(scope="")
    assert decided(record(narrower)) == Serve(narrower, ("scope_differs",))


def test_the_same_scope_in_another_order_warns_nobody() -> None:
    found = token(scope="users:read")
    assert decided(record(found)) == Serve(found)


def test_a_disputed_end_warns() -> None:
    assert decided(record(token(expiry_disputed=True))) == Serve(token(expiry_disputed=True), ("expiry_disputed",))


def test_nothing_rests_on_a_key_without_failures() -> None:
    assert active_cooldown(record(), asked(), policy(), NOW) is None

"""Properties of `decide` for any input: promises P2, P4 and P5."""

from __future__ import annotations

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.any_record import MOMENTS, RECORDS
from tests.unit.records import CURRENT, NOW, OTHER, minutes, policy, seconds
from token_broker.core.policy import (
    Acquire,
    AwaitOther,
    Decision,
    Deny,
    RenewalPolicy,
    Serve,
    TokenCriteria,
    active_cooldown,
    decide,
)
from token_broker.core.records import Token, TokenRecord

REQUESTS = st.builds(
    TokenCriteria,
    requested_at=MOMENTS,
    min_ttl=st.integers(0, 3600).map(seconds),
    rejected_token_id=st.sampled_from([None, CURRENT, OTHER]),
    renewal=st.booleans(),
    secret_version=st.sampled_from([None, "v1", "v2"]),
    unreadable_token_id=st.sampled_from([None, CURRENT]),
)
POLICIES = st.builds(
    policy,
    new_token_window=st.sampled_from([None, seconds(900)]),
    revokes_previous=st.booleans(),
)


def served(decision: Decision) -> Token | None:
    """The token that a decision serves, at once or after a wait."""
    match decision:
        case Serve(token=found) | AwaitOther(fallback=Serve(token=found)):
            return found
        case _:
            return None


def usable(found: TokenRecord, criteria: TokenCriteria, by: RenewalPolicy, now: datetime) -> Token | None:
    """The token that every caller may get, as the promises define it."""
    held = found.token
    if (
        held is None
        or held.expires_at <= now
        or held.token_endpoint != by.token_endpoint
        or held.token_id == criteria.unreadable_token_id
    ):
        return None
    return held


@given(RECORDS, REQUESTS, POLICIES)
def test_no_expired_unreadable_rejected_or_foreign_token_is_served(
    found: TokenRecord, criteria: TokenCriteria, by: RenewalPolicy
) -> None:
    token_served = served(decide(found, criteria, by, NOW))
    if token_served is not None:
        assert token_served == usable(found, criteria, by, NOW)
        # Unless the provider issued the reported token again while the report was under way.
        assert token_served.token_id != criteria.rejected_token_id or token_served.issued_at > criteria.requested_at


@given(RECORDS, REQUESTS, POLICIES)
def test_a_caller_is_denied_only_without_a_valid_token_or_after_reporting_it(
    found: TokenRecord, criteria: TokenCriteria, by: RenewalPolicy
) -> None:
    decision = decide(found, criteria, by, NOW)
    if isinstance(decision, Deny):
        held = usable(found, criteria, by, NOW)
        assert held is None or held.token_id == criteria.rejected_token_id
        assert criteria.renewal or decision.retry_at > NOW


@given(RECORDS, REQUESTS, POLICIES)
def test_a_report_causes_a_request_only_for_the_current_token_and_while_the_bucket_is_not_empty(
    found: TokenRecord, criteria: TokenCriteria, by: RenewalPolicy
) -> None:
    decision = decide(found, criteria, by, NOW)
    if isinstance(decision, Acquire) and decision.reported:
        held = usable(found, criteria, by, NOW)
        assert held is not None
        assert held.token_id == criteria.rejected_token_id
        assert found.reports_until is None or found.reports_until <= NOW + minutes(4)


@given(RECORDS, REQUESTS, POLICIES)
def test_only_the_lease_holder_asks_and_nobody_waits_for_an_expired_lease(
    found: TokenRecord, criteria: TokenCriteria, by: RenewalPolicy
) -> None:
    decision = decide(found, criteria, by, NOW)
    holds = found.lease is not None and found.lease.until + seconds(1) > NOW
    assert not (holds and isinstance(decision, Acquire))
    assert holds or not isinstance(decision, AwaitOther)


@given(RECORDS, REQUESTS, POLICIES)
def test_a_caller_waits_at_most_until_the_lease_is_4_s_old_and_never_after_a_failure(
    found: TokenRecord, criteria: TokenCriteria, by: RenewalPolicy
) -> None:
    """P14: callers of a failing key hold no execution environment."""
    decision = decide(found, criteria, by, NOW)
    if isinstance(decision, AwaitOther):
        assert found.lease is not None
        assert decision.until == found.lease.until
        current = [
            failed for failed in found.failures() if failed.rate_limited or failed.settings_digest == by.settings_digest
        ]
        assert decision.wait_until == (NOW if current else found.lease.since + seconds(4))


@given(RECORDS, REQUESTS, POLICIES)
def test_a_stale_token_is_served_to_callers_only_while_it_is_being_replaced_or_that_failed(
    found: TokenRecord, criteria: TokenCriteria, by: RenewalPolicy
) -> None:
    decision = decide(found, criteria, by, NOW)
    held = found.token
    if held is None or not isinstance(decision, Serve) or criteria.renewal:
        return
    other_secret = criteria.secret_version not in (None, held.secret_version)
    is_stale = found.stale_at is not None or held.settings_digest not in (None, by.settings_digest) or other_secret
    if is_stale and "same_token_reissued" not in decision.warnings:
        assert found.leased(NOW) or active_cooldown(found, criteria, by, NOW) is not None


@given(RECORDS, REQUESTS, POLICIES)
def test_nobody_asks_during_a_cooldown_and_the_sweep_never_repeats_a_refusal(
    found: TokenRecord, criteria: TokenCriteria, by: RenewalPolicy
) -> None:
    if isinstance(decide(found, criteria, by, NOW), Acquire):
        for failed in found.failures():
            other_secret = failed.refused and criteria.secret_version not in (None, failed.secret_version)
            is_cleared = not failed.rate_limited and (failed.settings_digest != by.settings_digest or other_secret)
            is_over = failed.retry_at <= NOW and not (criteria.renewal and failed.refused)
            assert is_cleared or is_over


@given(RECORDS, REQUESTS, POLICIES)
def test_a_token_shorter_than_min_ttl_comes_with_a_warning(
    found: TokenRecord, criteria: TokenCriteria, by: RenewalPolicy
) -> None:
    decision = decide(found, criteria, by, NOW)
    if isinstance(decision, Serve):
        is_short = decision.token.remaining(NOW) < criteria.min_ttl
        assert ("min_ttl_unmet" in decision.warnings) is is_short
        assert len(set(decision.warnings)) == len(decision.warnings)

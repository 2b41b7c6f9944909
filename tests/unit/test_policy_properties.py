"""What holds for `decide` whatever it is given: promises P2, P4 and P5."""

from __future__ import annotations

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.records import CURRENT, ISSUER, NOW, OTHER, failure, policy, record, refusal, seconds, token
from token_broker.core.failures import Failure
from token_broker.core.policy import (
    Acquire,
    AwaitOther,
    Decision,
    Deny,
    RenewalPolicy,
    Serve,
    TokenCriteria,
    decide,
)
from token_broker.core.records import ConnectionHealth, Lease, Token, TokenRecord

MOMENTS = st.integers(-7200, 7200).map(lambda count: NOW + seconds(count))
FAILURES: st.SearchStrategy[Failure | None] = st.none() | st.builds(
    lambda make, ago, rests, secret, settings: make(
        ago=ago, rests=rests, secret_version=secret, settings_digest=settings
    ),
    st.sampled_from([failure, refusal]),
    st.integers(0, 90_000),
    st.integers(-90_000, 90_000),
    st.sampled_from([None, "v1", "v2"]),
    st.sampled_from(["s1", "s2"]),
)
TOKENS: st.SearchStrategy[Token | None] = st.none() | st.builds(
    lambda age, left, renewed, token_id, issuer: token(
        age=age, left=left, renew_at=renewed, token_id=token_id, issuer=issuer
    ),
    st.integers(-5, 7200),
    st.integers(-60, 7200),
    MOMENTS,
    st.sampled_from([CURRENT, OTHER]),
    st.sampled_from([ISSUER, "https://elsewhere.example.com"]),
)
RECORDS: st.SearchStrategy[TokenRecord] = st.builds(
    lambda found, lease, own, health, rejected_until, stale_at: record(
        found,
        lease=lease,
        failure=own,
        health=ConnectionHealth(failure=health),
        rejected_until=rejected_until,
        stale_at=stale_at,
    ),
    TOKENS,
    st.none() | MOMENTS.map(lambda until: Lease("another", until)),
    FAILURES,
    FAILURES,
    st.none() | MOMENTS,
    st.none() | MOMENTS,
)
REQUESTS = st.builds(
    TokenCriteria,
    requested_at=MOMENTS,
    min_ttl=st.integers(0, 3600).map(seconds),
    rejected=st.sampled_from([None, CURRENT, OTHER]),
    renewal=st.booleans(),
    secret_version=st.sampled_from([None, "v1", "v2"]),
    unreadable=st.sampled_from([None, CURRENT]),
)
POLICIES = st.builds(
    policy,
    reissue_window=st.sampled_from([None, seconds(900)]),
    revokes_previous=st.booleans(),
)


def served(decision: Decision) -> Token | None:
    """The token that a decision would have handed out, at once or after a wait."""
    match decision:
        case Serve(token=found) | AwaitOther(fallback=Serve(token=found)):
            return found
        case _:
            return None


def usable(found: TokenRecord, request: TokenCriteria, by: RenewalPolicy, now: datetime) -> Token | None:
    """The token that may be handed out to anybody, as the promises define it."""
    held = found.token
    if held is None or held.expires_at <= now or held.issuer != by.issuer or held.token_id == request.unreadable:
        return None
    return held


@given(RECORDS, REQUESTS, POLICIES)
def test_no_token_past_its_end_of_another_issuer_unreadable_or_rejected_is_served(
    found: TokenRecord, request: TokenCriteria, by: RenewalPolicy
) -> None:
    given_out = served(decide(found, request, by, NOW))
    if given_out is not None:
        assert given_out == usable(found, request, by, NOW)
        assert given_out.token_id != request.rejected


@given(RECORDS, REQUESTS, POLICIES)
def test_nobody_is_refused_while_there_is_a_valid_token_that_he_did_not_reject(
    found: TokenRecord, request: TokenCriteria, by: RenewalPolicy
) -> None:
    decision = decide(found, request, by, NOW)
    if isinstance(decision, Deny):
        held = usable(found, request, by, NOW)
        assert held is None or held.token_id == request.rejected
        assert request.renewal or decision.retry_at > NOW


@given(RECORDS, REQUESTS, POLICIES)
def test_the_provider_is_asked_by_force_only_for_the_current_token_and_within_the_rate(
    found: TokenRecord, request: TokenCriteria, by: RenewalPolicy
) -> None:
    decision = decide(found, request, by, NOW)
    if isinstance(decision, Acquire) and decision.reported:
        held = usable(found, request, by, NOW)
        assert held is not None
        assert held.token_id == request.rejected
        assert found.rejected_until is None or found.rejected_until <= NOW


@given(RECORDS, REQUESTS, POLICIES)
def test_nobody_asks_beside_the_holder_of_a_lease_nor_waits_for_one_that_ended(
    found: TokenRecord, request: TokenCriteria, by: RenewalPolicy
) -> None:
    decision = decide(found, request, by, NOW)
    holds = found.lease is not None and found.lease.until + seconds(1) > NOW
    assert not (holds and isinstance(decision, Acquire))
    assert holds or not isinstance(decision, AwaitOther)


@given(RECORDS, REQUESTS, POLICIES)
def test_nobody_asks_while_what_failed_still_rests_and_the_sweep_takes_no_refusal_up_again(
    found: TokenRecord, request: TokenCriteria, by: RenewalPolicy
) -> None:
    if isinstance(decide(found, request, by, NOW), Acquire):
        for rest in found.failures():
            is_lifted = rest.settings_digest != by.settings_digest or (
                rest.refused and request.secret_version not in (None, rest.secret_version)
            )
            is_over = rest.retry_at <= NOW and not (request.renewal and rest.refused)
            assert is_lifted or is_over


@given(RECORDS, REQUESTS, POLICIES)
def test_who_gets_less_than_he_asked_for_is_warned(
    found: TokenRecord, request: TokenCriteria, by: RenewalPolicy
) -> None:
    decision = decide(found, request, by, NOW)
    if isinstance(decision, Serve):
        is_short = decision.token.remaining(NOW) < request.min_ttl
        assert ("min_ttl_unmet" in decision.warnings) is is_short
        assert len(set(decision.warnings)) == len(decision.warnings)

"""When a token expires: the earliest of all that is known, counted from the moment before its request."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.grant_requests import NOW, jwt
from tests.unit.records import seconds
from token_broker.oauth.lifetimes import DEFAULT_LIFETIME, Expiry, expiry_of
from token_broker.oauth.responses import IssuedToken, UnusableResponse

CENTURY = 3_153_600_000


DAYS_30 = 2_592_000


def issued(
    expires_in: float | None = None,
    *,
    token: str = "opaque",
    provider_now: datetime | None = None,
    expires_at: datetime | None = None,
) -> IssuedToken:
    return IssuedToken(token, expires_in, None, None, None, provider_now, expires_at)


def expiry(found: IssuedToken, *, cap: float | None = None, default: float | None = None) -> Expiry:
    return expiry_of(
        found,
        sent_at=NOW,
        cap=None if cap is None else seconds(cap),
        default=DEFAULT_LIFETIME if default is None else seconds(default),
    )


def expiring(after: float) -> str:
    """A JWT that expires `after` seconds after NOW."""
    return jwt(exp=NOW.timestamp() + after)


@pytest.mark.parametrize(
    ("found", "cap", "default", "lifetime", "assumed"),
    [
        (issued(3599), None, None, 3599, False),
        (issued(0.5), None, None, 0.5, False),
        (issued(3599), 1800, 1800, 1800, False),
        (issued(3599), 7200, 7200, 3599, False),
        (issued(CENTURY), None, None, DAYS_30, False),
        (issued(1e300), None, None, DAYS_30, False),
        (issued(), None, None, 3600, True),
        (issued(), None, 72_000, 72_000, True),
        (issued(), 1800, 1800, 1800, True),
        (issued(300, token=expiring(3600)), None, None, 300, False),
        (issued(3600, token=expiring(300)), None, None, 300, False),
        (issued(token=expiring(300)), None, 72_000, 300, False),
        (issued(token=expiring(CENTURY)), None, None, DAYS_30, False),
        (issued(3600, token=jwt(exp=9_999_999_999_999)), None, None, 3600, False),
        (issued(3600, token=jwt(sub="x")), None, None, 3600, False),
        (issued(token=jwt(sub="x")), None, None, 3600, True),
        (issued(7200, token=expiring(5400)), 3600, 3600, 3600, False),
        (issued(expires_at=NOW + seconds(300)), None, 72_000, 300, False),
        (issued(600, expires_at=NOW + seconds(300)), None, None, 300, False),
        (issued(200, expires_at=NOW + seconds(300)), None, None, 200, False),
        (issued(expires_at=NOW + seconds(300), token=expiring(200)), None, None, 200, False),
    ],
)
def test_the_earliest_expiry_counts(
    found: IssuedToken, cap: float | None, default: float | None, lifetime: float, assumed: bool
) -> None:
    assert expiry(found, cap=cap, default=default) == Expiry(NOW + seconds(lifetime), assumed, False)


@pytest.mark.parametrize("past", [0, -1, -3600, -CENTURY / 2])
def test_an_expired_jwt_is_ignored_beside_a_positive_expires_in(past: float) -> None:
    assert expiry(issued(300, token=expiring(past))) == Expiry(NOW + seconds(300), assumed=False, disputed=True)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (issued(0), "expires_in is 0"),
        (issued(0, token=expiring(60)), "expires_in is 0"),
        (issued(token=expiring(-1)), "it had expired when it was issued"),
        (issued(expires_at=NOW), "it had expired when it was issued"),
    ],
)
def test_a_token_without_time_left_expires_at_once(found: IssuedToken, why: str) -> None:
    assert expiry(found, cap=60) == Expiry(NOW, assumed=False, disputed=False, expired=why)


@pytest.mark.parametrize(
    "provider_now", [NOW - timedelta(hours=1), NOW + timedelta(minutes=6), datetime(1970, 1, 1, tzinfo=UTC)]
)
def test_a_date_far_from_our_clock_is_not_believed(provider_now: datetime) -> None:
    """A token without `expires_in` lives no longer than its `exp` by our own clock."""
    assert expiry(issued(token=expiring(600), provider_now=provider_now)).expires_at == NOW + seconds(600)


@pytest.mark.parametrize("apart", [-300, 300])
def test_a_jwt_is_compared_with_the_providers_clock(apart: float) -> None:
    """The provider's clock is five minutes off, and so are `exp` and the Date header. The lifetime is the same."""
    found = issued(token=expiring(apart + 600), provider_now=NOW + seconds(apart))
    assert expiry(found).expires_at == NOW + seconds(600)


def test_our_fast_clock_does_not_dispute_a_response_with_a_date() -> None:
    found = issued(280, token=expiring(-10), provider_now=NOW - seconds(290))
    assert expiry(found) == Expiry(NOW + seconds(280), assumed=False, disputed=False)


def test_the_default_lifetime_can_be_set() -> None:
    assert expiry(issued(), default=36).expires_at == NOW + seconds(36)


@given(
    expires_in=st.none() | st.floats(1e-9, 1e12),
    exp=st.none() | st.integers(-(10**10), 10**12) | st.floats(),
    provider_now=st.none() | st.datetimes(timezones=st.just(UTC)),
    cap=st.none() | st.integers(1, DAYS_30),
    default=st.none() | st.integers(1, DAYS_30),
)
def test_a_lifetime_is_positive_and_at_most_30_days(
    expires_in: float | None, exp: float | None, provider_now: datetime | None, cap: int | None, default: int | None
) -> None:
    found = issued(expires_in, token="opaque" if exp is None else jwt(exp=exp), provider_now=provider_now)
    try:
        lifetime = expiry(found, cap=cap, default=default).expires_at - NOW
    except UnusableResponse:
        return
    assert timedelta() <= lifetime <= timedelta(days=30)
    assert expires_in is None or lifetime <= timedelta(seconds=expires_in)
    assert cap is None or lifetime <= seconds(cap)

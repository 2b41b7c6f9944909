"""How long a token lives: the least of all that is known, from the moment before its request."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.grant_requests import NOW, jwt
from tests.unit.records import seconds
from token_broker.oauth.lifetimes import Expiry, expiry_of
from token_broker.oauth.responses import IssuedToken, UnusableResponse

CENTURY = 3_153_600_000


def issued(
    expires_in: float | None = None, *, token: str = "opaque", provider_now: datetime | None = None
) -> IssuedToken:
    return IssuedToken(token, expires_in, None, None, None, provider_now)


def lived(found: IssuedToken, *, cap: float | None = None, untold: float | None = None, **more: Any) -> Expiry:
    return expiry_of(
        found,
        sent_at=NOW,
        cap=None if cap is None else seconds(cap),
        untold=None if untold is None else seconds(untold),
        **more,
    )


def ends_with(left: float) -> str:
    """A JWT that ends `left` seconds after NOW."""
    return jwt(exp=NOW.timestamp() + left)


@pytest.mark.parametrize(
    ("found", "cap", "untold", "life", "assumed"),
    [
        (issued(3599), None, None, 3599, False),
        (issued(0.5), None, None, 0.5, False),
        (issued(3599), 1800, 1800, 1800, False),
        (issued(3599), 7200, 7200, 3599, False),
        (issued(CENTURY), None, None, 172_800, False),
        (issued(1e300), None, None, 172_800, False),
        (issued(), None, None, 3600, True),
        (issued(), None, 72_000, 72_000, True),
        (issued(), 1800, 1800, 1800, True),
        (issued(300, token=ends_with(3600)), None, None, 300, False),
        (issued(3600, token=ends_with(300)), None, None, 300, False),
        (issued(token=ends_with(300)), None, 72_000, 300, False),
        (issued(token=ends_with(CENTURY)), None, None, 172_800, False),
        (issued(3600, token=jwt(exp=9_999_999_999_999)), None, None, 3600, False),
        (issued(3600, token=jwt(sub="x")), None, None, 3600, False),
        (issued(token=jwt(sub="x")), None, None, 3600, True),
        (issued(7200, token=ends_with(5400)), 3600, 3600, 3600, False),
    ],
)
def test_the_least_of_all_that_is_known(
    found: IssuedToken, cap: float | None, untold: float | None, life: float, assumed: bool
) -> None:
    assert lived(found, cap=cap, untold=untold) == Expiry(NOW + seconds(life), assumed, False)


@pytest.mark.parametrize("past", [0, -1, -3600, -CENTURY / 2])
def test_a_jwt_that_claims_to_be_past_is_ignored_beside_a_positive_lifetime(past: float) -> None:
    assert lived(issued(300, token=ends_with(past))) == Expiry(NOW + seconds(300), assumed=False, disputed=True)


def test_a_jwt_that_claims_to_be_past_and_no_lifetime_make_no_token() -> None:
    with pytest.raises(UnusableResponse, match="expired"):
        lived(issued(token=ends_with(-1)))


@pytest.mark.parametrize("apart", [-300, 300])
def test_a_jwt_is_read_by_the_providers_clock(apart: float) -> None:
    """The provider is five minutes off, and so are its `exp` and its Date header: the life is the same."""
    found = issued(token=ends_with(apart + 600), provider_now=NOW + seconds(apart))
    assert lived(found).expires_at == NOW + seconds(600)


def test_a_fast_clock_of_ours_disputes_nothing_where_the_provider_tells_the_time() -> None:
    found = issued(300, token=ends_with(-10), provider_now=NOW - seconds(310))
    assert lived(found) == Expiry(NOW + seconds(300), assumed=False, disputed=False)


def test_the_default_can_be_another_on_the_local_stack() -> None:
    assert lived(issued(), default=seconds(36)).expires_at == NOW + seconds(36)


@given(
    expires_in=st.none() | st.floats(1e-9, 1e12),
    exp=st.none() | st.integers(-(10**10), 10**12) | st.floats(),
    provider_now=st.none() | st.datetimes(timezones=st.just(UTC)),
    cap=st.none() | st.integers(1, 172_800),
    untold=st.none() | st.integers(1, 172_800),
)
def test_a_life_is_never_nothing_nor_over_48_hours(
    expires_in: float | None, exp: float | None, provider_now: datetime | None, cap: int | None, untold: int | None
) -> None:
    found = issued(expires_in, token="opaque" if exp is None else jwt(exp=exp), provider_now=provider_now)
    try:
        life = lived(found, cap=cap, untold=untold).expires_at - NOW
    except UnusableResponse:
        return
    assert timedelta() < life <= timedelta(hours=48)
    assert expires_in is None or life <= timedelta(seconds=expires_in)
    assert cap is None or life <= seconds(cap)

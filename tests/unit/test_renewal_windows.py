"""When a token is renewed: windows, jitter and reissue windows."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.records import CURRENT, KEY, NOW, OTHER, policy, record, seconds, token
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.policy import RenewalPolicy, key_fraction
from token_broker.core.records import Token

REISSUE = seconds(900)
KEYS = st.integers(0, 10_000).map(lambda number: TokenKey(ConnectionName("unidy", f"c{number}"), "users:read"))
LIFETIMES = st.integers(1, 2_592_000).map(seconds)
WINDOWS = st.none() | st.integers(61, 86_400).map(seconds)


@pytest.mark.parametrize(
    ("provider", "lifetime", "reissue", "window"),
    [
        ("unified-services", 3599, None, 719.8),
        ("unicommerce", 72_000, None, 900),
        ("commerce-layer sales channel", 14_400, 900, 840),
        ("commerce-layer integration", 7200, 900, 840),
        ("ucommerce", 300, None, 107),
        ("unidy", 7200, None, 900),
        ("a token of one minute", 60, None, 30),
        ("a token of four minutes", 214, None, 107),
        ("a token of ten minutes", 535, None, 107),
        ("a token of an hour", 3600, None, 720),
        ("a token of two days", 172_800, None, 900),
    ],
)
def test_the_window_of_each_provider(provider: str, lifetime: float, reissue: float | None, window: float) -> None:
    by = policy(new_token_window=None if reissue is None else seconds(reissue))
    assert by.window(seconds(lifetime)).total_seconds() == pytest.approx(window), provider


@pytest.mark.parametrize(("lifetime", "window"), [(3600, 30), (60, 30), (40, 20)])
def test_the_window_is_30_s_if_each_token_revokes_the_one_before(lifetime: float, window: float) -> None:
    assert policy(revokes_previous=True).window(seconds(lifetime)) == seconds(window)


@given(LIFETIMES, WINDOWS, st.booleans())
def test_a_window_is_at_most_half_the_lifetime(lifetime: timedelta, reissue: timedelta | None, revokes: bool) -> None:
    window = policy(new_token_window=reissue, revokes_previous=revokes).window(lifetime)
    assert timedelta() < window <= lifetime / 2
    assert window <= timedelta(minutes=15)


@given(KEYS, LIFETIMES, WINDOWS)
def test_jitter_only_delays_a_renewal(key: TokenKey, lifetime: timedelta, reissue: timedelta | None) -> None:
    by = policy(new_token_window=reissue)
    renew_at = by.renew_at(key, NOW, NOW + lifetime, None)
    assert NOW + lifetime - by.window(lifetime) <= renew_at < NOW + lifetime
    assert renew_at >= NOW + lifetime / 2


@given(KEYS, LIFETIMES, st.integers(61, 86_400).map(seconds), st.none() | st.integers(1, 10**9).map(seconds))
def test_a_token_is_not_renewed_before_its_reissue_window_opens(
    key: TokenKey, lifetime: timedelta, reissue: timedelta, refresh_in: timedelta | None
) -> None:
    by = policy(new_token_window=reissue)
    assert NOW + lifetime - by.renew_at(key, NOW, NOW + lifetime, refresh_in) <= reissue


def test_keys_of_one_moment_are_due_at_different_times() -> None:
    keys = [TokenKey(ConnectionName("unidy", f"c{number}"), "") for number in range(200)]
    moments = [policy().renew_at(key, NOW, NOW + seconds(3600), None) for key in keys]
    assert len(set(moments)) == len(moments)
    assert max(moments) - min(moments) > seconds(100)


def test_a_key_keeps_its_jitter() -> None:
    assert key_fraction(KEY) == key_fraction(TokenKey(ConnectionName("unidy", "main"), "users:read"))


@given(KEYS)
def test_jitter_is_a_fraction(key: TokenKey) -> None:
    assert 0 <= key_fraction(key) < 1


def test_an_early_refresh_in_is_followed() -> None:
    assert policy().renew_at(KEY, NOW, NOW + seconds(3600), seconds(1800)) == NOW + seconds(1800)


def test_a_late_refresh_in_changes_nothing() -> None:
    plain = policy().renew_at(KEY, NOW, NOW + seconds(3600), None)
    assert policy().renew_at(KEY, NOW, NOW + seconds(3600), seconds(3599)) == plain
    assert policy().renew_at(KEY, NOW, NOW + seconds(3600), seconds(86_400)) == plain


def test_a_tiny_refresh_in_does_not_cause_a_loop() -> None:
    assert policy().renew_at(KEY, NOW, NOW + seconds(3600), seconds(0.001)) >= NOW + seconds(60)


def test_a_huge_refresh_in_changes_nothing() -> None:
    plain = policy().renew_at(KEY, NOW, NOW + seconds(3600), None)
    assert policy().renew_at(KEY, NOW, NOW + seconds(3600), timedelta(days=36_500)) == plain


@pytest.mark.parametrize(("remaining", "gives_new_token"), [(901, False), (900, True), (0, True)])
def test_the_provider_gives_a_new_token_within_its_window(remaining: float, gives_new_token: bool) -> None:
    found = token(remaining=remaining)
    assert policy(new_token_window=REISSUE).gives_new_token(record(found), found, NOW) is gives_new_token
    assert policy().gives_new_token(record(found), found, NOW) is True


@pytest.mark.parametrize(("remaining", "gives_new_token"), [(30, False), (3, False), (2, True), (0, True)])
def test_a_provider_that_was_seen_to_reissue_gives_a_new_token_at_the_end(
    remaining: float, gives_new_token: bool
) -> None:
    found = token(remaining=remaining)
    assert policy().gives_new_token(record(found, reissues=True), found, NOW) is gives_new_token


@pytest.mark.parametrize(
    ("known", "expires_in", "asked_again_in"),
    [
        (None, 3600, None),
        (None, 1, None),
        (None, 0, 1),
        (token(token_id=OTHER), 1, None),
        (token(remaining=29), 29, None),
        (token(remaining=29), 3600, None),
        (token(remaining=2), 2, 3),
        (token(remaining=1), 0, 1),
        (token(remaining=1), 3600, 2),
        (token(remaining=-1), 3600, 1),
        (token(remaining=-2), 3600, None),
    ],
)
def test_the_provider_is_asked_again_if_its_token_has_no_time_left(
    known: Token | None, expires_in: float, asked_again_in: float | None
) -> None:
    again_at = policy().ask_again_at(
        record(known), CURRENT, NOW + seconds(expires_in), sent_at=NOW, received_at=NOW + seconds(0.5)
    )
    assert again_at == (None if asked_again_in is None else NOW + seconds(asked_again_in + 0.5))


@given(st.floats(0.001, 1), LIFETIMES)
def test_a_shortened_policy_has_the_same_proportions(scale: float, lifetime: timedelta) -> None:
    """The local stack shortens all durations together."""
    plain = RenewalPolicy("i", "s", new_token_window=REISSUE)
    shortened = RenewalPolicy(
        "i",
        "s",
        new_token_window=REISSUE * scale,
        sweep_interval=plain.sweep_interval * scale,
        safety_margin=plain.safety_margin * scale,
        lease=plain.lease * scale,
        max_window=plain.max_window * scale,
        new_token_margin=plain.new_token_margin * scale,
    )
    assert abs(shortened.window(lifetime * scale) - plain.window(lifetime) * scale) < timedelta(milliseconds=1)

"""When a token is renewed: windows, jitter, reissue windows, and the spacing of forced requests."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.records import KEY, NOW, policy, seconds, token
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.policy import RenewalPolicy, key_fraction

REISSUE = seconds(900)
KEYS = st.integers(0, 10_000).map(lambda number: TokenKey(ConnectionName("unidy", f"c{number}"), "users:read"))
LIVES = st.integers(1, 172_800).map(seconds)
WINDOWS = st.none() | st.integers(61, 86_400).map(seconds)


@pytest.mark.parametrize(
    ("provider", "life", "reissue", "window"),
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
def test_the_window_of_each_provider(provider: str, life: float, reissue: float | None, window: float) -> None:
    by = policy(reissue_window=None if reissue is None else seconds(reissue))
    assert by.window(seconds(life)).total_seconds() == pytest.approx(window), provider


@pytest.mark.parametrize(("life", "window"), [(3600, 30), (60, 30), (40, 20)])
def test_where_an_issue_ends_the_token_before_the_window_is_30_s(life: float, window: float) -> None:
    assert policy(revokes_previous=True).window(seconds(life)) == seconds(window)


@given(LIVES, WINDOWS, st.booleans())
def test_a_window_is_at_most_half_a_life(life: timedelta, reissue: timedelta | None, revokes: bool) -> None:
    window = policy(reissue_window=reissue, revokes_previous=revokes).window(life)
    assert timedelta() < window <= life / 2
    assert window <= timedelta(minutes=15)


@given(KEYS, LIVES, WINDOWS)
def test_jitter_only_ever_makes_later(key: TokenKey, life: timedelta, reissue: timedelta | None) -> None:
    by = policy(reissue_window=reissue)
    renew_at = by.renew_at(key, NOW, NOW + life, None)
    assert NOW + life - by.window(life) <= renew_at < NOW + life
    assert renew_at >= NOW + life / 2


@given(KEYS, LIVES, st.integers(61, 86_400).map(seconds), st.none() | st.integers(1, 10**9).map(seconds))
def test_nothing_is_renewed_before_its_reissue_window_opens(
    key: TokenKey, life: timedelta, reissue: timedelta, refresh_in: timedelta | None
) -> None:
    by = policy(reissue_window=reissue)
    assert NOW + life - by.renew_at(key, NOW, NOW + life, refresh_in) <= reissue


def test_keys_of_one_moment_come_due_apart() -> None:
    keys = [TokenKey(ConnectionName("unidy", f"c{number}"), "") for number in range(200)]
    moments = [policy().renew_at(key, NOW, NOW + seconds(3600), None) for key in keys]
    assert len(set(moments)) == len(moments)
    assert max(moments) - min(moments) > seconds(100)


def test_a_key_keeps_its_jitter() -> None:
    assert key_fraction(KEY) == key_fraction(TokenKey(ConnectionName("unidy", "main"), "users:read"))


@given(KEYS)
def test_jitter_is_a_fraction(key: TokenKey) -> None:
    assert 0 <= key_fraction(key) < 1


def test_the_providers_own_wish_for_an_early_renewal_is_followed() -> None:
    assert policy().renew_at(KEY, NOW, NOW + seconds(3600), seconds(1800)) == NOW + seconds(1800)


def test_a_wish_for_a_late_renewal_changes_nothing() -> None:
    plain = policy().renew_at(KEY, NOW, NOW + seconds(3600), None)
    assert policy().renew_at(KEY, NOW, NOW + seconds(3600), seconds(3599)) == plain
    assert policy().renew_at(KEY, NOW, NOW + seconds(3600), seconds(86_400)) == plain


def test_a_wish_for_a_renewal_at_once_makes_no_loop() -> None:
    assert policy().renew_at(KEY, NOW, NOW + seconds(3600), seconds(0.001)) >= NOW + seconds(60)


def test_a_wish_for_a_renewal_in_ages_breaks_nothing() -> None:
    plain = policy().renew_at(KEY, NOW, NOW + seconds(3600), None)
    assert policy().renew_at(KEY, NOW, NOW + seconds(3600), timedelta(days=36_500)) == plain


@pytest.mark.parametrize(("left", "reissues"), [(901, False), (900, True), (0, True)])
def test_the_provider_reissues_within_its_window(left: float, gives_new_token: bool) -> None:
    assert policy(reissue_window=REISSUE).gives_new_token(token(left=left), NOW) is gives_new_token
    assert policy().gives_new_token(token(left=left), NOW) is True


def test_forced_requests_are_spaced_30_s_doubling_to_15_min() -> None:
    rests = [policy().report_cooldown(count).total_seconds() for count in range(1, 9)]
    assert rests == [30, 60, 120, 240, 480, 900, 900, 900]


@given(st.integers(-5, 10**9))
def test_forced_requests_are_spaced_whatever_their_number(count: int) -> None:
    assert seconds(30) <= policy().report_cooldown(count) <= timedelta(minutes=15)


@given(st.floats(0.001, 1), LIVES)
def test_a_shrunk_policy_decides_alike(scale: float, life: timedelta) -> None:
    """The local stack shrinks all durations together: the window of a shrunk life is the shrunk window."""
    plain = RenewalPolicy("i", "s", reissue_window=REISSUE)
    shrunk = RenewalPolicy(
        "i",
        "s",
        reissue_window=REISSUE * scale,
        sweep_interval=plain.sweep_interval * scale,
        slack=plain.safety_margin * scale,
        lease=plain.lease * scale,
        widest_window=plain.max_window * scale,
        reissue_margin=plain.reissue_margin * scale,
    )
    assert abs(shrunk.window(life * scale) - plain.window(life) * scale) < timedelta(milliseconds=1)

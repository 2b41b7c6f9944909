"""How the figures are computed, on days made by hand."""

from __future__ import annotations

import pytest

from tests.simulation.day import Course, Token
from tests.simulation.figures import expired_unrenewed, least_requests, worst_minute
from tests.simulation.population import Key, crowd, lifetime_s, window_s
from tests.simulation.vendors import Exchange
from token_broker.core.names import ConnectionName


def course(provider: str = "ucommerce", *, keep_warm: str = "used") -> Course:
    return Course(Key(ConnectionName(provider, "a"), "regular", 60, lifetime_s(provider), keep_warm=keep_warm))


@pytest.mark.parametrize(
    ("provider", "window"),
    [("ucommerce", 107), ("unified-services", 719.8), ("unidy", 900), ("unicommerce", 900), ("commerce-layer", 840)],
)
def test_the_window_of_each_provider(provider: str, window: float) -> None:
    assert window_s(provider, lifetime_s(provider)) == pytest.approx(window)


@pytest.mark.parametrize(("length_s", "least"), [(200, 1), (214, 1), (215, 2), (429, 3), (1000, 5)])
def test_a_warm_key_is_renewed_as_late_as_the_jitter_allows(length_s: float, least: int) -> None:
    warm = course()
    warm.tokens.append(Token(issued_s=0, stored_s=0.3, expires_s=300))
    # The window of a 300 s token is 107 s, at least 0.8 of it.
    assert least_requests(warm, length_s) == least


def test_a_key_that_is_not_kept_warm_needs_one_for_each_caller_without_a_valid_token() -> None:
    cold = course(keep_warm="never")
    cold.called_s += [10, 20, 270, 290, 500, 580]
    # The call at 10 gets a token until 310, too short for the call at 290. The next one lasts until 590.
    assert least_requests(cold, 1000) == 3


def test_a_key_without_callers_needs_none() -> None:
    assert least_requests(course(), 1000) == 0


def test_the_worst_minute_slides() -> None:
    exchanges = [Exchange(moment, "a", "token") for moment in (0, 30, 59, 61, 89.9, 90, 149)]
    assert worst_minute(exchanges) == 4
    assert worst_minute([]) == 0


def test_a_token_expired_unrenewed_if_the_next_one_came_later_or_never() -> None:
    warm = course()
    warm.tokens += [Token(0, 0, 300), Token(190, 190.3, 490), Token(489, 490.2, 789)]
    assert expired_unrenewed(warm, 700) == [490]
    assert expired_unrenewed(warm, 900) == [490, 789]


def test_a_crowd_comes_within_its_time() -> None:
    keys = crowd("unidy", 6, within_s=60, every_s=120)
    assert [key.starts_s for key in keys] == [0, 10, 20, 30, 40, 50]
    assert {key.keep_warm for key in keys} == {"used", "always"}

"""The deployment's settings. Local ones apply on the local stack only. Invalid ones raise at once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from token_broker import __version__
from token_broker.service.context import TimeLimits
from token_broker.settings import Settings

DIGEST = "12ab" * 16
SCALES = ("TOKEN_BROKER_TIME_SCALE", "TOKEN_BROKER_LEASE_SCALE")


@pytest.mark.parametrize(
    ("environment", "version"),
    [
        ({}, __version__),
        ({"CODE_DIGEST": "unset"}, __version__),
        ({"CODE_DIGEST": DIGEST}, f"{__version__}+{DIGEST[:12]}"),
    ],
)
def test_the_version_tells_two_builds_of_one_release_apart(environment: dict[str, str], version: str) -> None:
    assert Settings.from_environment(environment).version == version


def test_a_deployed_function_has_no_scale() -> None:
    settings = Settings.from_environment(dict.fromkeys(SCALES, "0.1"))
    assert (settings.local, settings.time_scale, settings.lease_scale) == (False, 1.0, 1.0)


def test_on_the_local_stack_each_scale_can_be_set() -> None:
    local = {"TOKEN_BROKER_LOCAL": "1"}
    assert Settings.from_environment(local).lease_scale == 1.0
    settings = Settings.from_environment({**local, "TOKEN_BROKER_TIME_SCALE": "0.5", "TOKEN_BROKER_LEASE_SCALE": "0.1"})
    assert (settings.time_scale, settings.lease_scale) == (0.5, 0.1)


@pytest.mark.parametrize("name", SCALES)
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "nan", "inf", "fast"])
def test_an_invalid_scale_is_an_error(name: str, value: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # float's own text where it is no number
        Settings.from_environment({"TOKEN_BROKER_LOCAL": "1", name: value})


def test_all_time_limits_are_shortened_together() -> None:
    assert TimeLimits().scaled(1.0) == TimeLimits()
    second = timedelta(seconds=1)
    assert TimeLimits().scaled(0.1) == TimeLimits(0.8 * second, 1.2 * second, 1.7 * second, 0.4 * second)


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_each_time_limit_is_longer_than_the_one_within_it(scale: float) -> None:
    times = TimeLimits().scaled(scale)
    assert times.wait_on_lease < times.exchange < times.acquisition < times.lease

"""The number of AWS calls on each path, counted by tests.cost while the real handlers run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pytest

from local.aws import start_aws
from local.providers import start_providers
from local.resources import create_resources
from tests.bench.figure import Amount, Finding
from tests.bench.scale import Progress, Scale
from tests.cost.counting import Use
from tests.cost.courses import SIGNED, Bench, Counted, count_all

WITH_REFRESH_TOKEN: Final = "ucommerce"


def measure(_scale: Scale, progress: Progress) -> list[Finding]:
    """One figure for each path: the most calls with any provider, by service."""
    progress("calls of AWS on each path")
    with start_aws() as aws, start_providers() as providers, pytest.MonkeyPatch.context() as monkeypatch:
        counted = count_all(Bench.over(aws, create_resources(aws.endpoint_url), providers, monkeypatch))
    return figures(counted)


def figures(counted: Counted) -> list[Finding]:
    """The figures of these counts."""
    courses, kept = counted.courses, counted.kept
    plain = [one for provider, one in kept.items() if provider not in (WITH_REFRESH_TOKEN, SIGNED)]
    refreshed = kept[WITH_REFRESH_TOKEN]
    return [
        _calls("memory hit", 0, [courses["memory"]]),
        _calls("table hit", 2, [courses["table_unopened"]]),
        _calls("table hit, token opened before", 1, [courses["table_opened"]]),
        _calls("table hit, connection not known to the instance", None, [courses["table_new_environment"]]),
        _calls("miss", 8, [one.first for one in plain]),
        _calls("miss, where the provider gives a refresh token too", 9, [refreshed.first]),
        _calls("miss, signed with a KMS key", 8, [kept[SIGNED].first]),
        _calls("renewal", 8, [one.renewal for one in plain]),
        _calls("renewal, signed with a KMS key", 8, [kept[SIGNED].renewal]),
        _calls("renewal with a refresh token", 9, [refreshed.renewal]),
    ]


def _calls(path: str, bar: int | None, uses: Iterable[Use]) -> Amount:
    most = max(uses, key=lambda use: sum(use.calls.values()))
    services = sorted({call.partition(":")[0] for call in most.calls})
    by_service = {service: most.of(service) for service in services}
    return Amount(f"AWS calls, {path}", sum(most.calls.values()), "calls", bar, 1, by_service)

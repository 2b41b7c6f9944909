"""Counts, and writes docs/cost.md: python -m tests.cost, or make cost."""

from __future__ import annotations

import pytest

from local.aws import start_aws
from local.providers import start_providers
from local.resources import create_resources
from tests.cost.courses import Bench, count_all
from tests.cost.money import Tariff, steadied
from tests.cost.page import PAGE, render

if __name__ == "__main__":
    with start_aws() as aws, start_providers() as providers, pytest.MonkeyPatch.context() as monkeypatch:
        counted = steadied(count_all(Bench.over(aws, create_resources(aws.endpoint_url), providers, monkeypatch)))
    PAGE.write_text(render(counted, Tariff.read()), encoding="utf-8")

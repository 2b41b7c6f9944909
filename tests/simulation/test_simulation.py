"""The simulated days hold their limits: small days in each run, 10,000 keys with SOAK=1 (`make soak`)."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from tests.simulation.day import Plan, Rotation, run
from tests.simulation.population import HOUR, population
from tests.simulation.scenarios import FULL_SIZE, Finding, Line, scenarios

SOAK = os.environ.get("SOAK") == "1"
SIZE = FULL_SIZE if SOAK else 200


def over(finding: Finding) -> list[Line]:
    """The limits that do not hold."""
    return [line for line in finding.lines if not line.holds]


@pytest.mark.soak
@pytest.mark.parametrize("name", list(scenarios(SIZE)))
def test_a_simulated_day_holds_its_limits(name: str) -> None:
    finding = scenarios(SIZE)[name].simulate()
    assert finding.lines
    assert over(finding) == []


def test_a_plan_has_the_same_result_each_time() -> None:
    plan = Plan("twice", population(30), length_s=HOUR, rotation=Rotation(HOUR / 2, 60))
    first = run(plan)
    second = run(plan)
    assert first.courses == second.courses
    assert first.exchanges == second.exchanges
    assert run(replace(plan, seed=2)).exchanges != first.exchanges


def test_a_day_without_renewals_breaks_its_limits() -> None:
    """Keys with few callers are never swept: tokens expire, callers wait, and the limits show it."""
    scenario = scenarios(50)["steady"]
    finding = replace(scenario, plan=replace(scenario.plan, length_s=3 * HOUR, sweeps=False)).simulate()
    names = {line.name for line in over(finding)}
    assert {"callers who waited after each key's first", "tokens that expired unrenewed"} <= names

"""The simulated days hold their limits: small days in each run, 10,000 keys with SOAK=1 (`make soak`)."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation import chart, over_dynamodb, report
from tests.simulation.day import Failed, Plan, Rotation, run
from tests.simulation.figures import outages
from tests.simulation.population import HOUR, crowd, population
from tests.simulation.scenarios import FULL_SIZE, Finding, Line, scenarios
from tests.simulation.vendors import Trouble

SOAK = os.environ.get("SOAK") == "1"
SIZE = FULL_SIZE if SOAK else 200
DYNAMODB_HOURS = 3.0 if SOAK else 0.5


def over(finding: Finding) -> list[Line]:
    """The limits that do not hold."""
    return [line for line in finding.lines if not line.holds]


@pytest.mark.soak
@pytest.mark.parametrize("name", list(scenarios(SIZE)))
def test_a_simulated_day_holds_its_limits(name: str) -> None:
    finding = scenarios(SIZE)[name].simulate()
    assert finding.lines
    assert over(finding) == []


@pytest.mark.soak
def test_a_day_has_the_same_result_over_dynamodb() -> None:
    lines = over_dynamodb.compare(DYNAMODB_HOURS)
    assert [line for line in lines if not line.holds] == []


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


def test_a_failed_call_on_a_key_with_a_valid_token_is_found() -> None:
    """A token that is valid for longer than the outage must be served all the time."""
    outage = Trouble("unidy", "503", HOUR, 600)
    keys = crowd("unidy", 5, within_s=60, every_s=60)
    scenario = scenarios(50)["faults"]
    scenario = replace(scenario, plan=Plan("outage", keys, 2 * HOUR, (outage,)))
    finding = scenario.simulate()
    assert [outage.protected for outage in finding.outages] == [5]
    assert over(finding) == []
    finding.outcome.courses[0].failures.append(Failed(HOUR + 60, "provider_unavailable", None))
    (found,) = outages(finding.outcome)
    assert [name for name, _ in found.broken_promises] == ["unidy/c-0"]


def test_the_report_shows_each_day_and_each_limit(tmp_path: Path) -> None:
    plans = scenarios(20)
    findings = [
        replace(plans[name], plan=replace(plans[name].plan, length_s=2.5 * HOUR)).simulate()
        for name in ("steady", "faults")
    ]
    planted = Line("a line that does not hold", "2 of 1", holds=False)
    report.write(tmp_path, findings, [planted])
    chart.draw(findings, tmp_path / "chart.png")
    table = (tmp_path / "table.md").read_text()
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["holds"] is False
    assert set(result["days"]) == {"steady", "faults"}
    assert all(line.name in table for finding in findings for line in finding.lines)
    assert "**OVER** | a line that does not hold | 2 of 1" in table
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")

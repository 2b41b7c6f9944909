"""The bench with few repetitions: each section runs and writes its fields."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from local.aws import REGION
from tests.bench import page, sweep_cost
from tests.bench.__main__ import main
from tests.bench.figure import (
    Amount,
    Figure,
    Sample,
    Tally,
    read,
    table,
)
from tests.bench.ground import FLOORS, GET_TOKEN
from tests.bench.hanging_provider import BAR, FIRST_ROUND_BAR_S
from tests.bench.sections import SECTIONS
from tests.e2e.built import built_functions
from tests.e2e.emulator import PYTHON

APART = ("cold", "layers", "hanging_provider")
SIDES = {
    frozenset({"calls", "median_ms", "low_ms", "high_ms", "p99_ms", "slowest_ms"}),
    frozenset({"read", "queries", "stored"}),
    frozenset({"blocks", "median_per_s", "slowest_per_s", "fastest_per_s"}),
    frozenset({"megabytes"}),
}
ALWAYS = {"name", "bar", "holds", "repetitions", "conditions", "section"}


def figure(ratio: float, bar: float | None = BAR) -> Figure:
    sample = Sample.of([0.001, 0.002])
    return Figure("figure", ratio, bar, sample, sample, 1)


def quick(name: str, output: Path) -> dict[str, Any]:
    """The output of a quick run of one section. With so few repetitions it is chance whether a bar holds."""
    assert main([name, "--quick", "--output", str(output)]) in (0, 1)
    document: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return document


def check(document: Mapping[str, Any], section: str) -> None:
    """Checks that every field exists, has its type, and agrees with the others."""
    assert set(document) == {"measured_at", "machine", "figures"}
    assert set(document["machine"]) == {"cores", "python", "system"}
    assert document["figures"]
    for found in document["figures"]:
        assert found["section"] == section
        assert found["repetitions"] >= 1
        number = found["value"] if "unit" in found else found["ratio"]
        assert found["holds"] == (found["bar"] is None or number <= found["bar"])
        if "unit" in found:
            assert set(found) == ALWAYS | {"value", "unit"}
            assert found["value"] >= 0
            continue
        assert set(found) == ALWAYS | {"ratio", "measured", "reference"}
        assert found["ratio"] > 0
        for side in (found["measured"], found["reference"]):
            assert frozenset(side) in SIDES
            assert all(value > 0 for value in side.values())
            if "median_ms" in side:
                assert side["low_ms"] <= side["median_ms"] <= side["high_ms"] <= side["slowest_ms"]
                assert side["median_ms"] <= side["p99_ms"] <= side["slowest_ms"]
    assert [read(found).document() for found in document["figures"]] == document["figures"]


@pytest.mark.parametrize("name", [name for name in SECTIONS if name not in APART])
def test_each_section_runs_and_writes_every_field(name: str, tmp_path: Path) -> None:
    document = quick(name, tmp_path / "build" / "bench.json")
    check(document, name)
    assert any(found["bar"] is not None for found in document["figures"]) == (name != "paths")


@pytest.mark.built
def test_the_layers_are_measured(tmp_path: Path) -> None:
    document = quick("layers", tmp_path / "bench.json")
    check(document, "layers")
    (found,) = document["figures"]
    assert found["value"] == pytest.approx(sum(found["conditions"].values()), abs=0.2)


@pytest.mark.e2e
def test_cold_starts_run_on_the_runtime(tmp_path: Path) -> None:
    check(quick("cold", tmp_path / "bench.json"), "cold")


@pytest.mark.e2e
def test_the_floor_of_a_cold_start_imports_what_a_hit_from_the_table_imports() -> None:
    """All modules except the broker's own and the reader of its catalogue."""
    code = built_functions()[GET_TOKEN]
    broker = _imported(code.task_root, code.layers, "get_token.app", "token_broker.adapters.kms")
    floor = _imported(FLOORS, code.layers, "powertools")
    own = {name for name in broker if name.partition(".")[0] in ("token_broker", "get_token", "tomllib")}
    assert own
    assert broker - own == floor - {"powertools"}


def _imported(task_root: Path, layers: Sequence[Path], *modules: str) -> set[str]:
    """The modules that a new process of the runtime has after importing these."""
    done = subprocess.run(
        [PYTHON, "-B", "-c", f"import sys, {', '.join(modules)}; print(*sys.modules)"],
        env={"PYTHONPATH": os.pathsep.join(map(str, [task_root, *layers])), "AWS_REGION": REGION},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_a_hanging_provider_is_measured_with_and_without_the_hang(tmp_path: Path) -> None:
    document = quick("hanging_provider", tmp_path / "bench.json")
    check(document, "hanging_provider")
    few, first_round, later_rounds = document["figures"]
    assert (few["bar"], later_rounds["bar"]) == (BAR, BAR)
    assert (first_round["bar"], first_round["unit"]) == (FIRST_ROUND_BAR_S, "seconds")
    for found in (few, later_rounds):
        assert found["ratio"] == round(found["measured"]["p99_ms"] / found["reference"]["p99_ms"], 3)
        assert min(found["measured"]["calls"], found["reference"]["calls"]) >= 4


# ------------------------------------------------------------------ figures


def test_a_figure_over_its_bar_is_marked() -> None:
    assert [figure(1.5).holds, figure(1.51).holds, figure(9, None).holds] == [True, False, True]
    assert "OVER" in table([figure(1.51)])
    assert "OVER" not in table([figure(1.5), figure(9, None)])
    over = Amount("calls", 3, "calls", 2, 1)
    assert (over.holds, Amount("calls", 2, "calls", 2, 1).holds) == (False, True)
    assert "OVER" in table([over])


def test_a_sweep_reads_only_keys_that_are_due() -> None:
    """With more keys due, it reads more items."""
    (figure,) = sweep_cost.measure(lambda _: None, sizes=(100, 400), due=10)
    assert (figure.ratio, figure.holds) == (1.0, True)
    assert isinstance(figure.measured, Tally)
    assert (figure.measured.read, figure.measured.stored) == (10, 400)
    (more,) = sweep_cost.measure(lambda _: None, sizes=(100, 400), due=20)
    assert isinstance(more.measured, Tally)
    assert more.measured.read == 20
    assert "20 items read" in table([more])


def test_the_page_has_every_section() -> None:
    assert list(page.SECTIONS) == list(SECTIONS)

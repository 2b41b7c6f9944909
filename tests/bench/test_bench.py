"""The bench on a course too short to tell anything: that it runs, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import sweep_cost
from tests.bench.__main__ import write
from tests.bench.figure import Figure, Sample, Tally, percentile, table
from tests.bench.hanging_provider import BAR, Course, measure


def figure(ratio: float, bar: float | None = BAR) -> Figure:
    sample = Sample.of([0.001, 0.002])
    return Figure("figure", ratio, bar, sample, sample, 1)


def test_a_short_course_writes_every_field(tmp_path: Path) -> None:
    course = Course(environments=2, repetitions=1, block_s=0.3, callers_per_provider=1)
    write(measure(course, lambda _: None), tmp_path / "build" / "bench.json")
    document = json.loads((tmp_path / "build" / "bench.json").read_text())
    assert set(document) == {"measured_at", "machine", "figures"}
    assert set(document["machine"]) == {"cores", "python", "system"}
    with_bar, without = document["figures"]
    assert (with_bar["bar"], without["bar"], without["holds"]) == (BAR, None, True)
    for found in document["figures"]:
        assert set(found) == {"name", "ratio", "bar", "holds", "measured", "reference", "repetitions", "conditions"}
        assert found["repetitions"] == 1
        assert found["ratio"] == round(found["measured"]["p99_ms"] / found["reference"]["p99_ms"], 3)
        for side in ("measured", "reference"):
            assert set(found[side]) == {"calls", "median_ms", "p99_ms", "slowest_ms"}
            assert found[side]["calls"] >= 4
            assert 0 < found[side]["median_ms"] <= found[side]["p99_ms"] <= found[side]["slowest_ms"]
    assert without["conditions"]["callers_of_the_fifth"] == 2


def test_a_figure_over_its_bar_is_said_to_be() -> None:
    assert [figure(1.5).holds, figure(1.51).holds, figure(9, None).holds] == [True, False, True]
    assert "OVER" in table([figure(1.51)])
    assert "OVER" not in table([figure(1.5), figure(9, None)])


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(1, 201)]
    assert (percentile(values, 99), percentile(values, 50), percentile([7.0], 99)) == (198.0, 100.0, 7.0)


def test_nothing_measured_is_no_sample() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        Sample.of([])


def test_a_sweep_reads_what_is_due_and_not_what_is_stored() -> None:
    """Made to fail by what is due: with more of it, more is read."""
    (figure,) = sweep_cost.measure(lambda _: None, sizes=(100, 400), due=10)
    assert (figure.ratio, figure.holds) == (1.0, True)
    assert isinstance(figure.measured, Tally)
    assert (figure.measured.read, figure.measured.stored) == (10, 400)
    (more,) = sweep_cost.measure(lambda _: None, sizes=(100, 400), due=20)
    assert isinstance(more.measured, Tally)
    assert more.measured.read == 20
    assert "20 items read" in table([more])

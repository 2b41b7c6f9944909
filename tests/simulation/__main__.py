"""`python -m tests.simulation`: simulates the days, writes build/simulation/{chart.png,table.md,result.json}.

The exit status is 0 if every limit holds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from local.process import ROOT
from tests.simulation import over_dynamodb, report
from tests.simulation.scenarios import FULL_SIZE, Finding, scenarios, simulate

OUTPUT = ROOT / "build" / "simulation"
CHARTED = ("steady", "faults")
DYNAMODB_HOURS = 3.0


def main() -> int:
    """Simulates, writes, prints."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--keys", type=int, default=FULL_SIZE, help="keys of the two large days")
    parser.add_argument("--processes", type=int, default=2, help="days simulated at once")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the folder that is written to")
    options = parser.parse_args()
    names = list(scenarios(options.keys))
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(simulate, name, options.keys) for name in names]
        tied = pool.submit(over_dynamodb.compare, DYNAMODB_HOURS)
        found = {name: future.result() for name, future in zip(names, running, strict=True)}
        dynamodb = tied.result()
    findings = [found[name] for name in sorted(found, key=lambda name: name not in CHARTED)]
    report.write(options.output, findings, dynamodb)
    draw_chart(findings, options.output / "chart.png")
    sys.stdout.write(report.table(findings, dynamodb))
    return 0 if report.holds(findings, dynamodb) else 1


def draw_chart(findings: list[Finding], path: Path) -> None:
    # Imported here, because it takes half a second that the processes of the days do not need.
    from tests.simulation import chart

    chart.draw([finding for finding in findings if finding.outcome.plan.name in CHARTED][::-1], path)


if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m tests.simulation`: simulates the days and prints each limit with what was measured.

The exit status is 0 if every limit holds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.scenarios import FULL_SIZE, Finding, scenarios, simulate


def main() -> int:
    """Simulates and prints."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--keys", type=int, default=FULL_SIZE, help="keys of the two large days")
    parser.add_argument("--processes", type=int, default=2, help="days simulated at once")
    options = parser.parse_args()
    names = list(scenarios(options.keys))
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
        findings = list(pool.map(simulate, names, [options.keys] * len(names)))
    sys.stdout.write("\n\n".join(map(text, findings)) + "\n")
    return 0 if all(line.holds for finding in findings for line in finding.lines) else 1


def text(finding: Finding) -> str:
    """A day's title and its limits, one on a line."""
    lines = [f"{'ok' if line.holds else 'OVER':4}  {line.name}: {line.measured}" for line in finding.lines]
    return "\n".join([finding.title, *lines])


if __name__ == "__main__":
    raise SystemExit(main())

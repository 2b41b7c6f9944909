"""`python -m tests.bench`: measures each figure, prints a table, and writes build/bench.json."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import hanging_provider, sweep_cost
from tests.bench.figure import Figure, machine, table
from tests.local.process import ROOT

OUTPUT = ROOT / "build" / "bench.json"


def main() -> int:
    """The exit status: 0 where every bar holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON goes")
    options = parser.parse_args()
    figures = [*sweep_cost.measure(_tell), *hanging_provider.measure(hanging_provider.Course(), _tell)]
    write(figures, options.output)
    sys.stdout.write(f"{table(figures)}\n")
    return 0 if all(figure.holds for figure in figures) else 1


def write(figures: Sequence[Figure], output: Path) -> None:
    """The figures with the machine and the time, as JSON."""
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "figures": [figure.document() for figure in figures],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _tell(step: str) -> None:
    sys.stderr.write(f"  {step}\n")


if __name__ == "__main__":
    raise SystemExit(main())

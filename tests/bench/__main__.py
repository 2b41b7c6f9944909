"""`python -m tests.bench [NAME ...]`: measures all figures, or some, prints a table, and writes build/bench.json."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from local.process import ROOT
from tests.bench.figure import Finding, machine, table
from tests.bench.scale import QUICK, Scale
from tests.bench.sections import SECTIONS, measure
from tests.e2e.built import NotBuilt

OUTPUT = ROOT / "build" / "bench.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 if every bar holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure, of {', '.join(SECTIONS)} (all)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON goes")
    parser.add_argument("--quick", action="store_true", help="with as few repetitions as show that it runs")
    parser.add_argument("--write-page", action="store_true", help="write docs/performance.md and its chart anew")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in SECTIONS]:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    if options.write_page and (options.names or options.quick):
        parser.error("--write-page takes a whole run, without names and --quick")
    try:
        findings = run(options.names or list(SECTIONS), QUICK if options.quick else Scale())
    except NotBuilt as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    write(findings, options.output)
    if options.write_page:
        from tests.bench.page import write_page

        write_page(json.loads(options.output.read_text(encoding="utf-8")))
    sys.stdout.write(f"{table(findings)}\n")
    return 0 if all(finding.holds for finding in findings) else 1


def run(names: Sequence[str], scale: Scale) -> list[Finding]:
    """The figures of these sections, each with its section's name. Raises tests.e2e.built.NotBuilt."""
    findings: list[Finding] = []
    for name in names:
        started = time.monotonic()
        findings += [replace(finding, section=name) for finding in measure(name, scale, _tell)]
        _tell(f"{name}: {time.monotonic() - started:.0f} s")
    return findings


def write(findings: Sequence[Finding], output: Path) -> None:
    """The figures with the machine and the time, as JSON."""
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "figures": [finding.document() for finding in findings],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _tell(step: str) -> None:
    sys.stderr.write(f"  {step}\n")


if __name__ == "__main__":
    raise SystemExit(main())

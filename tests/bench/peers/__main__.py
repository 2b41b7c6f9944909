"""`python -m tests.bench.peers`: measures each peer and the broker, prints the table, writes build/peers.json."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from local.process import ROOT
from local.stack import Options, Stack
from tests.bench.figure import machine
from tests.bench.peers.measuring import Course, measure
from tests.bench.peers.peers import PEERS
from tests.bench.peers.proxies import VENV
from tests.bench.peers.result import Row, details, table

OUTPUT = ROOT / "build" / "peers.json"
PAGE = ROOT / "docs" / "peers.md"
ENVIRONMENTS = 8
HEAD = """\
# Beside what people use

Written by `make peers ARGS=--write-page` from one run, on {measured_at}: {cores} cores, {system}, Python {python}. Each
peer was used as its own documentation says, against the same simulated OAuth 2.0 endpoint on loopback, one after the
other; the broker ran as the local stack with {environments} environments. **Read the columns by what they are**: a
library keeps its token in its process and hands it out in microseconds, so there is one token request per process at
best, and every process holds the client secret. The broker's client keeps the token too; the broker alone is one HTTP
call away.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers", description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the JSON goes")
    parser.add_argument("--write-page", action="store_true", help="write docs/peers.md anew")
    parser.add_argument("--only", metavar="WORD", help="the peers whose name has it")
    options = parser.parse_args()
    if options.write_page and options.only:
        parser.error("--write-page takes a whole run")
    if not VENV.joinpath(".ready").exists():
        parser.error(f"{VENV.relative_to(ROOT)} is not there: make peers sets it up")
    peers = [peer for peer in PEERS if not options.only or options.only.lower() in peer.name.lower()]
    course = Course()
    with Stack(Options(api_environments=ENVIRONMENTS, ticks=False), tell) as stack:
        rows = measure(stack, peers, course, tell)
    write(rows, course, options.output)
    if options.write_page:
        PAGE.write_text(page(rows, course), encoding="utf-8")
    sys.stdout.write(f"{markdown(rows, course)}\n")


def write(rows: Sequence[Row], course: Course, output: Path) -> None:
    """Writes rows, course, machine and time as JSON."""
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "course": {**asdict(course), "environments": ENVIRONMENTS},
        "peers": [row.document() for row in rows],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def page(rows: Sequence[Row], course: Course) -> str:
    """The text of docs/peers.md."""
    measured_at = datetime.now(UTC).isoformat(timespec="minutes")
    return f"{HEAD.format(measured_at=measured_at, environments=ENVIRONMENTS, **machine())}\n{markdown(rows, course)}\n"


def markdown(rows: Sequence[Row], course: Course) -> str:
    """The table and the remarks, as Markdown."""
    conditions = (
        f"The provider answers cold callers after {course.latency_s} s. Between the asks of a failing one is no pause, "
        "where its remarks name none. The seconds after a count are the slowest ask."
    )
    figures = table(rows, callers=course.callers, processes=course.processes, asks=course.asks)
    return f"{figures}\n\n{conditions}\n\n{details(rows)}"


def tell(step: str) -> None:
    sys.stderr.write(f"  {step}\n")


if __name__ == "__main__":
    main()

"""`python -m tests.rehearsal [--full]`, which `make rehearse` calls. Exits with 0 only if every step succeeded."""

import argparse
import signal
import sys

from tests.rehearsal.adaptations import ADAPTATIONS, SURROUNDINGS
from tests.rehearsal.rehearsal import rehearse
from tests.rehearsal.report import Report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.rehearsal", description=__doc__)
    parser.add_argument("--full", action="store_true", help="also release, restore, tear down, and broken stacks")
    options = parser.parse_args()
    # SIGTERM ends the emulator too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    report = Report()
    try:
        rehearse(report, full=options.full)
    finally:
        print("\nWhat differs from AWS:")
        for adaptation in (*ADAPTATIONS, *SURROUNDINGS):
            print(f"  - {adaptation.what}: {adaptation.why}")
        print()
        print(report.table())
    return 0 if report.succeeded else 1


if __name__ == "__main__":
    sys.exit(main())

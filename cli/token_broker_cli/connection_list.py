"""`connections`, also `connections list` and `ls`: the state of each, the worst first."""

import argparse
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Group
from rich.live import Live
from rich.table import Table

from token_broker_cli import screen
from token_broker_cli.problems import Exit, Problem
from token_broker_cli.severity import severity
from token_broker_cli.target import Target
from token_broker_cli.wording import failure_text, relative
from token_broker_client.errors import TokenBrokerError

Json = dict[str, Any]
REFRESH_S: Final = 2.0
# Of the time between two readings, at most a fifth is spent reading.
SHARE_OF_READING: Final = 5
# The table's head, the line below it, and the terminal's last line.
LINES_BESIDE_ROWS: Final = 3
COLUMNS: Final = ("connection", "state", "tokens", "expires", "renewal", "last failure")


def listing(target: Target, options: argparse.Namespace) -> Exit:
    """The state of each connection; with --watch until Ctrl-C."""
    with target.screen.progress("Reading the connections"):
        found, took_s = _read(target, options)
    if not options.watch:
        if not found and not options.state and not options.provider_filter:
            target.screen.say(f"There are no connections yet: {target.command('connections add PROVIDER NAME')}")
        target.screen.show(found, _table(found))
        return Exit.DONE
    if not target.screen.interactive:
        raise Problem("--watch needs a terminal.", "Leave it out, or use --json.", exit_code=Exit.USAGE)
    with Live(_fitting(target, found), console=target.screen.out, screen=False) as live:
        while True:
            threading.Event().wait(max(REFRESH_S, took_s * SHARE_OF_READING))
            try:
                found, took_s = _read(target, options)
                live.update(_fitting(target, found))
            except TokenBrokerError as error:
                live.console.print(f"{datetime.now(UTC):%H:%M:%S} no response: {screen.safe(str(error))}")


def _read(target: Target, options: argparse.Namespace) -> tuple[list[Json], float]:
    """The connections, the worst first, and how long it took in seconds."""
    began = time.monotonic()
    found = list(target.api.connections(provider=options.provider_filter, state=options.state))
    now = datetime.now(UTC)
    return sorted(found, key=lambda item: severity(item, now)), time.monotonic() - began


def _fitting(target: Target, found: Sequence[Json]) -> Group | Table:
    """The table as far as it fits on the screen, and a line about the others."""
    room = max(target.screen.out.height - LINES_BESIDE_ROWS, 1)
    if len(found) <= room:
        return _table(found)
    others = Counter(item["state"] for item in found[room:])
    text = ", ".join(f"{count} {state}" for state, count in others.most_common())
    return Group(_table(found[:room], one_line=True), f"and {len(found) - room} more: {text}")


def _table(found: Sequence[Json], *, one_line: bool = False) -> Table:
    now = datetime.now(UTC)
    rows = [
        (
            f"{item['provider']}/{item['connection']}",
            screen.state(item["state"]),
            str(item["tokens"]),
            relative(item["next_expiry"], now),
            relative(item["next_renewal"], now),
            failure_text(item["last_failure"], now),
        )
        for item in found
    ]
    return screen.table(COLUMNS, rows, one_line=one_line)

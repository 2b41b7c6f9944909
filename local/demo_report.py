"""Prints the demo's table. It fits into 100 columns."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from local.client import BrokerResponse
from local.demo_run import DemoRun

COLUMNS: Final[Mapping[str, JustifyMethod]] = {
    "provider": "left",
    "first token": "right",
    "second token": "right",
    "resource": "right",
    "requests": "right",
    "renewed token": "left",
    "waited": "right",
    "": "left",
}
NOTHING: Final = "–"


def print_report(console: Console, runs: Sequence[DemoRun], logs: Path) -> bool:
    """Print the table and a last line that says whether all of it worked; return whether it did."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for title, justify in COLUMNS.items():
        table.add_column(title, justify=justify, no_wrap=title == "provider")
    for run in runs:
        table.add_row(
            run.provider,
            _source_and_time(run.first),
            _source_and_time(run.second),
            str(run.resource_status or NOTHING),
            str(run.requests_made),
            run.renewed.body["token_id"] if run.renewed else NOTHING,
            f"{run.waited} of {run.asked}",
            Text("✗", style="bold red") if run.faults else Text("✓", style="bold green"),
        )
    console.print(table)
    failed = [run for run in runs if run.faults]
    for run in failed:
        for fault in run.faults:
            console.print(Text(f"{run.provider}: {fault}", style="red"))
    if failed:
        console.print(Text(f"{len(failed)} of {len(runs)} providers failed; logs are in {logs}", style="bold red"))
    else:
        renewed_after_s = [run.renewed_after_s for run in runs]
        console.print(
            f"[bold green]All of it worked:[/] the sweep renewed each token after {min(renewed_after_s):.0f} to "
            f"{max(renewed_after_s):.0f} s with one request, and no caller waited."
        )
    return not failed


def _source_and_time(response: BrokerResponse | None) -> str:
    if response is None or response.status != 200:
        return NOTHING
    return f"{response.body['source']} {response.elapsed_s * 1000:.0f} ms"

"""The demo's table, for a terminal of 100 columns."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from local.client import BrokerResponse
from local.demo_course import Course

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


def print_report(console: Console, courses: Sequence[Course], logs: Path) -> bool:
    """Print the table and a last line that says whether all of it held; return that."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for title, justify in COLUMNS.items():
        table.add_column(title, justify=justify, no_wrap=title == "provider")
    for course in courses:
        table.add_row(
            course.provider,
            _told(course.first),
            _told(course.second),
            str(course.resource_status or NOTHING),
            str(course.requests_made),
            course.renewed.body["token_id"] if course.renewed else NOTHING,
            f"{course.waited} of {course.asked}",
            Text("✗", style="bold red") if course.faults else Text("✓", style="bold green"),
        )
    console.print(table)
    failed = [course for course in courses if course.faults]
    for course in failed:
        for fault in course.faults:
            console.print(Text(f"{course.provider}: {fault}", style="red"))
    if failed:
        console.print(Text(f"{len(failed)} of {len(courses)} providers failed; logs are in {logs}", style="bold red"))
    else:
        first, last = (pick(course.renewed_after_s for course in courses) for pick in (min, max))
        console.print(
            f"[bold green]All of it held:[/] the sweep renewed each token after {first:.0f} to {last:.0f} s "
            "with one request; nobody waited."
        )
    return not failed


def _told(answer: BrokerResponse | None) -> str:
    if answer is None or answer.status != 200:
        return NOTHING
    return f"{answer.body['source']} {answer.elapsed_s * 1000:.0f} ms"

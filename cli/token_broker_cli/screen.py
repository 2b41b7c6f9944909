"""What a command shows: tables for people, JSON for programs, progress for those who wait. Never a secret."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

# In a pipe there is no width to keep to: lines stay whole, for grep.
PIPE_WIDTH: Final = 300
STATES: Final = {"ok": "green", "failing": "red", "misconfigured": "red", "suspended": "yellow", "idle": "dim"}
LEVELS: Final = {"ok": "green", "note": "cyan", "warning": "yellow", "fault": "red"}


class Screen:
    """Standard output for results, standard error for all else. Colours only where a terminal is."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.out, self.err = _console(stderr=False), _console(stderr=True)

    @property
    def interactive(self) -> bool:
        """Whether there is a person to ask."""
        return sys.stdin.isatty() and sys.stdout.isatty() and not self.as_json

    def show(self, data: Any, *human: RenderableType) -> None:
        """A result: `data` under --json, else `human`."""
        if self.as_json:
            print(json.dumps(data, indent=2, ensure_ascii=False))  # noqa: T201  # as it is, without a console's wrapping
        for part in () if self.as_json else human:
            self.out.print(part, soft_wrap=isinstance(part, str))

    def say(self, text: str, style: str = "") -> None:
        """Something beside the result, for people."""
        if not self.as_json:
            self.err.print(text, style=style, soft_wrap=True)

    def fail(self, what: str, todo: str, code: str) -> None:
        """Why the command stops."""
        if self.as_json:
            print(json.dumps({"error": {"code": code, "what": what, "todo": todo}}), file=sys.stderr)  # noqa: T201
            return
        self.err.print(Text.assemble(("error: ", "bold red"), what), soft_wrap=True)
        if todo:
            self.err.print(todo, soft_wrap=True)

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Progress beside something that can take longer than a second."""
        if not self.err.is_terminal or self.as_json:
            yield
            return
        with self.err.status(what):
            yield


def table(columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> Table:
    """Columns under plain headings; the last one takes what width is left."""
    made = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        made.add_column(column, no_wrap=number == 0, overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def state(word: str) -> Text:
    """A connection's state in its colour."""
    return Text(word, STATES.get(word, ""))


def level(word: str) -> Text:
    """A finding's level in its colour."""
    return Text(word, LEVELS[word])


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)

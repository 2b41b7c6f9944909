"""What a command prints: tables for people, JSON for programs, progress. Never a secret."""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from token_broker_cli.problems import Exit, Problem

# A pipe has no width. Lines are not wrapped, so that grep finds them.
PIPE_WIDTH: Final = 300
STATE_COLOURS: Final = {
    "ok": "green",
    "failing": "red",
    "misconfigured": "red",
    "consent_required": "red",
    "reported": "yellow",
    "suspended": "yellow",
    "idle": "dim",
}
LEVEL_COLOURS: Final = {"ok": "green", "note": "cyan", "warning": "yellow", "fault": "red"}


# What a terminal would obey instead of showing it: control characters, marks of writing direction, line separators.
UNSAFE: Final = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\ufffb]"
)
LONGEST_CELL: Final = 300


def safe(text: str) -> str:
    """The text with everything escaped that a terminal would not show. Line breaks stay."""
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def cell(text: str) -> str:
    """A value in one line, cut to a length that leaves room for others."""
    shown = safe(text).replace("\n", "\\n")
    if len(shown) <= LONGEST_CELL:
        return shown
    return f"{shown[:LONGEST_CELL]}… ({len(text):,} characters)"


class Screen:
    """Results go to standard output, everything else to standard error. Colours only on a terminal."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.out = _console(stderr=False)
        self.err = _console(stderr=True)

    @property
    def interactive(self) -> bool:
        """Whether the command can ask a person."""
        return sys.stdin.isatty() and sys.stdout.isatty() and not self.as_json

    def confirm(self, what: str, *, yes: bool) -> None:
        """Raises Problem unless a person agrees to `what`, a question. `yes`: they did already, with --yes."""
        if yes:
            return
        if not self.interactive:
            raise Problem(f"{what} Nobody can be asked.", "--yes does it without a question.", exit_code=Exit.USAGE)
        self.say(what)
        if input("Type yes to do it: ").strip().lower() not in ("y", "yes"):
            raise Problem("Nothing was done.", exit_code=Exit.NO)

    def show(self, data: Any, *human: RenderableType) -> None:
        """Prints a result: `data` under --json, else `human`."""
        if self.as_json:
            # Only strings hold such characters, and JSON reads their escapes.
            print(safe(json.dumps(data, indent=2, ensure_ascii=False)))  # noqa: T201  # a console would wrap it
            return
        for part in human:
            if isinstance(part, str):
                self.out.print(safe(part), soft_wrap=True)
            else:
                self.out.print(part)

    def say(self, text: str, style: str = "") -> None:
        """Prints a message for people. Nothing under --json."""
        if not self.as_json:
            self.err.print(safe(text), style=style, soft_wrap=True)

    def fail(self, what: str, todo: str, code: str) -> None:
        """Prints why the command stops."""
        if self.as_json:
            print(json.dumps({"error": {"code": code, "what": what, "todo": todo}}), file=sys.stderr)  # noqa: T201  # the output
            return
        self.err.print(Text.assemble(("error: ", "bold red"), safe(what)), soft_wrap=True)
        if todo:
            self.err.print(safe(todo), soft_wrap=True)

    @contextmanager
    def progress(self, what: str) -> Iterator[None]:
        """Shows `what` while something runs that can take longer than a second."""
        if not self.err.is_terminal or self.as_json:
            yield
            return
        with self.err.status(Text(safe(what))):
            yield


def table(columns: Sequence[str], rows: Sequence[Sequence[str | Text]], *, one_line: bool = False) -> Table:
    """A table without lines. The last column takes the remaining width. `one_line`: a row is never wrapped."""
    made = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        made.add_column(column, no_wrap=one_line or number == 0, overflow="ellipsis" if one_line else "fold")
    for row in rows:
        made.add_row(
            *(Text(cell(value.plain), value.style) if isinstance(value, Text) else cell(value) for value in row)
        )
    return made


def state(word: str) -> Text:
    """A connection's state in its colour."""
    return Text(word, STATE_COLOURS.get(word, ""))


def level(word: str) -> Text:
    """A finding's level in its colour."""
    return Text(word, LEVEL_COLOURS[word])


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)

"""Markdown tables of the generated pages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with this head. A `|` in a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(_line(cells) for cells in lines)


def _line(cells: Sequence[str]) -> str:
    line = "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    return line.replace("| --- ", "|---").replace("--- |", "---|") if set(cells) == {"---"} else line


def default_of(value: Any) -> str:
    """A setting's default as it is written in JSON; empty if there is none."""
    return "" if value is None else code(json.dumps(value))


def code(text: str) -> str:
    return f"`{text}`"


def codes(words: Iterable[str]) -> str:
    """`a`, `b`."""
    return ", ".join(code(word) for word in words)


def duration(seconds: float) -> str:
    """15 min, 20 h, 90 s."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size:g} {unit}"
    return f"{seconds:g} s"

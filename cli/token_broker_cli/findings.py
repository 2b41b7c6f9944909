"""The findings of `doctor`."""

from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["ok", "note", "warning", "fault"]


@dataclass(frozen=True)
class Finding:
    """`text`: what was found. `todo`: what to do. A fault keeps callers from getting tokens, now or soon."""

    area: str
    level: Level
    text: str
    todo: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def ok(area: str, text: str) -> Finding:
    return Finding(area, "ok", text)


def fault(area: str, text: str, todo: str = "") -> Finding:
    return Finding(area, "fault", text, todo)


def warning(area: str, text: str, todo: str = "") -> Finding:
    return Finding(area, "warning", text, todo)


def note(area: str, text: str, todo: str = "") -> Finding:
    return Finding(area, "note", text, todo)

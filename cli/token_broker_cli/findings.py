"""What `doctor` finds."""

from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["ok", "note", "warning", "fault"]


@dataclass(frozen=True)
class Finding:
    """`text` says what is, `todo` what to do about it. A fault keeps tokens from somebody, now or soon."""

    area: str
    level: Level
    text: str
    todo: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def fault(area: str, text: str, todo: str = "") -> Finding:
    return Finding(area, "fault", text, todo)


def warning(area: str, text: str, todo: str = "") -> Finding:
    return Finding(area, "warning", text, todo)


def note(area: str, text: str, todo: str = "") -> Finding:
    return Finding(area, "note", text, todo)

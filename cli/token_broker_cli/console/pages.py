"""Templates to HTML. Every text that a template prints is made visible and escaped, whoever wrote it."""

import unicodedata
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from token_broker_cli.console.messages import Response
from token_broker_cli.wording import failure_text, relative

HERE: Final = Path(__file__).parent
# Control characters, characters without a picture such as those that turn the direction of writing, and surrogates.
INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"})
KEPT: Final = frozenset("\n\t")


def visible(text: str) -> str:
    """The text with each invisible character as an escape such as \\u202e."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if _is_visible(character) else _escape(character) for character in text)


def _is_visible(character: str) -> bool:
    return character in KEPT or unicodedata.category(character) not in INVISIBLE


def _escape(character: str) -> str:
    return f"\\u{ord(character):04x}" if ord(character) <= 0xFFFF else f"\\U{ord(character):08x}"


def _printed(value: Any) -> Any:
    """What a template prints for a value. Only the templates' own HTML stays as it is."""
    return value if isinstance(value, Markup) else visible(str(value))


class Renderer:
    """Renders the templates of this package."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            finalize=_printed,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(relative=relative, failure_text=failure_text, clock_time=clock_time)
        # Every template uses the macros as `ui`.
        self._environment.globals["ui"] = self._environment.get_template("macros.html").module

    def page(self, template: str, values: Mapping[str, Any], *, status: int = 200) -> Response:
        """A page as a response."""
        html = self._environment.get_template(template).render(values)
        return Response(status, html.encode())


def clock_time(moment: str | datetime) -> str:
    """A moment as `2026-11-28 16:04:05 UTC`."""
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"

"""Templates to HTML. Every text that a template prints is made visible and escaped, whoever wrote it."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from token_broker_cli.console.messages import Response
from token_broker_cli.screen import safe
from token_broker_cli.wording import failure_text, is_past, relative

HERE: Final = Path(__file__).parent


def _printed(value: Any) -> Any:
    """What a template prints for a value. Only the templates' own HTML stays as it is."""
    return value if isinstance(value, Markup) else safe(str(value))


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
        self._environment.filters.update(
            relative=relative, is_past=is_past, failure_text=failure_text, clock_time=clock_time
        )
        # Every template uses the macros as `ui`.
        self._environment.globals["ui"] = self._environment.get_template("macros.html").module

    def page(self, template: str, values: Mapping[str, Any], *, status: int = 200) -> Response:
        """A page as a response."""
        html = self._environment.get_template(template).render(values)
        return Response(status, html.encode())


def clock_time(moment: str | datetime) -> str:
    """A moment as `2026-11-28 16:04:05 UTC`. Any other text is returned unchanged, because a log can hold anything."""
    try:
        at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except ValueError:
        return str(moment)
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"

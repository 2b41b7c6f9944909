"""The style sheet, the script and the icon."""

from pathlib import Path
from typing import Final

from token_broker_cli.console.context import View
from token_broker_cli.console.messages import Denied, Request, Response

HERE: Final = Path(__file__).parent / "static"
TYPES: Final = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def show(_view: View, _request: Request, name: str) -> Response:
    """`GET /static/{name}`."""
    if name not in TYPES:
        raise Denied(404, "There is no such file.")
    return Response(200, (HERE / name).read_bytes(), TYPES[name])


def icon(view: View, request: Request) -> Response:
    """`GET /favicon.ico`, which browsers ask for by themselves."""
    return show(view, request, "icon.svg")

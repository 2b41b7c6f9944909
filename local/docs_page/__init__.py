"""The documentation page of `make run`: /docs, with /openapi.json under it. Swagger UI comes with Powertools."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aws_lambda_powertools.event_handler.openapi import swagger_ui

from local.aws import REGION
from local.sigv4 import Caller

HERE: Final = Path(__file__).parent
SWAGGER_UI: Final = Path(swagger_ui.__file__).parent
DOCUMENT: Final = HERE.parents[2] / "docs" / "openapi.json"


@dataclass(frozen=True)
class Page:
    """A file that a browser may ask for."""

    content_type: str
    body: bytes


def pages(caller: Caller | None) -> Mapping[str, Page]:
    """The page and all that it loads, by path; it signs as `caller`, or not at all.

    The document's servers are replaced by the one that serves it.
    """
    document = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    document["servers"] = [{"url": "/", "description": "This local stack."}]
    sign_as = caller and {"accessKey": caller.access_key, "secretKey": caller.secret_key, "region": REGION}
    return {
        "/docs": Page("text/html; charset=utf-8", (HERE / "page.html").read_bytes()),
        "/docs/page.js": _script(HERE / "page.js"),
        "/docs/settings.json": _json({"signAs": sign_as}),
        "/docs/swagger-ui.js": _script(SWAGGER_UI / "swagger-ui-bundle.min.js"),
        "/docs/swagger-ui.css": Page("text/css; charset=utf-8", (SWAGGER_UI / "swagger-ui.min.css").read_bytes()),
        "/openapi.json": _json(document),
    }


def _script(path: Path) -> Page:
    return Page("text/javascript; charset=utf-8", path.read_bytes())


def _json(value: object) -> Page:
    return Page("application/json", json.dumps(value).encode())

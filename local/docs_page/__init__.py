"""The documentation page of `make run` at /docs: docs/openapi.json in Swagger UI, which comes with Powertools."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aws_lambda_powertools.event_handler.openapi import swagger_ui

from local.aws import REGION
from local.process import ROOT
from local.providers import default_settings
from local.sigv4 import Caller

HERE: Final = Path(__file__).parent
SWAGGER_UI: Final = Path(swagger_ui.__file__).parent
DOCUMENT: Final = ROOT / "docs" / "openapi.json"
# The connection that the PUT of the page creates. It is at the simulated OAuth 2.0 server.
EXAMPLE: Final = {"provider": "oauth2", "connection": "example"}


@dataclass(frozen=True)
class Page:
    """A file that a browser may request."""

    content_type: str
    body: bytes


def pages(caller: Caller, providers_url: str, *, sign: bool = True) -> Mapping[str, Page]:
    """The page and all that it loads, by path. Its requests are `caller`'s; without `sign` they have no signature.

    /openapi.json is the checked-in document with this server in it. The page shows a variant: see `shown_document`.
    """
    document = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    document["servers"] = [{"url": "/", "description": "This local stack."}]
    key = {"accessKey": caller.access_key, "secretKey": caller.secret_key, "region": REGION}
    return {
        "/docs": Page("text/html; charset=utf-8", (HERE / "page.html").read_bytes()),
        "/docs/page.js": _script(HERE / "page.js"),
        "/docs/settings.json": _json({"signAs": key if sign else None}),
        "/docs/document.json": _json(shown_document(document, caller, providers_url)),
        "/docs/swagger-ui.js": _script(SWAGGER_UI / "swagger-ui-bundle.min.js"),
        "/docs/swagger-ui.css": Page("text/css; charset=utf-8", (SWAGGER_UI / "swagger-ui.min.css").read_bytes()),
        "/openapi.json": _json(document),
    }


def shown_document(document: Mapping[str, Any], caller: Caller, providers_url: str) -> dict[str, Any]:
    """The document as the page shows it.

    It has no security scheme, because the page signs by itself and must not prompt for a header. The PUT is prefilled
    with settings that this stack accepts.
    """
    shown = copy.deepcopy(dict(document))
    del shown["security"]
    del shown["components"]["securitySchemes"]
    put = shown["paths"]["/v1/connections/{provider}/{connection}"]["put"]
    put["parameters"] = [_prefilled(shown, parameter) for parameter in put["parameters"]]
    body = put["requestBody"]["content"]["application/json"]
    settings = {"allowed_callers": [caller.arn], **default_settings(EXAMPLE["provider"], providers_url)}
    # Swagger UI prefills the first example.
    body["examples"] = {EXAMPLE["provider"]: {"value": settings}} | {
        name: example for name, example in body["examples"].items() if name != EXAMPLE["provider"]
    }
    return shown


def _prefilled(document: Mapping[str, Any], reference: Mapping[str, str]) -> dict[str, Any]:
    """The parameter that `reference` names, with the example connection's name if it is in the path."""
    parameter: dict[str, Any] = document["components"]["parameters"][reference["$ref"].rpartition("/")[2]]
    return {**parameter, "example": EXAMPLE[parameter["name"]]} if parameter["in"] == "path" else dict(reference)


def _script(path: Path) -> Page:
    return Page("text/javascript; charset=utf-8", path.read_bytes())


def _json(value: object) -> Page:
    return Page("application/json", json.dumps(value).encode())

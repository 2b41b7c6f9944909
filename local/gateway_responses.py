"""API Gateway's own responses: the template's GatewayResponses, else API Gateway's defaults."""

import json
import re
from collections.abc import Mapping
from typing import Final

from local.resources import GatewayResponse

# API Gateway's status where the template does not set one.
STATUS: Final = {
    "MISSING_AUTHENTICATION_TOKEN": 403,
    "INVALID_SIGNATURE": 403,
    "EXPIRED_TOKEN": 403,
    "ACCESS_DENIED": 403,
    "REQUEST_TOO_LARGE": 413,
    "BAD_REQUEST_BODY": 400,
    "INTEGRATION_FAILURE": 502,
    "INTEGRATION_TIMEOUT": 504,
}


PLAIN: Final = GatewayResponse(0, {"Content-Type": "application/json"}, '{"message":$context.error.messageString}')


class GatewayResponses:
    """The template's responses by response type. Their bodies hold $context variables."""

    def __init__(self, templates: Mapping[str, GatewayResponse]) -> None:
        self._templates = templates

    def render(self, response_type: str, message: str, request_id: str) -> GatewayResponse:
        """The response of one type, else the default of its class, else API Gateway's plain JSON."""
        status = STATUS[response_type]
        default = "DEFAULT_4XX" if status < 500 else "DEFAULT_5XX"
        template = self._templates.get(response_type) or self._templates.get(default) or PLAIN
        context = {
            "error.message": message,
            "error.messageString": json.dumps(message),
            "error.responseType": response_type,
            "requestId": request_id,
        }
        body = re.sub(r"\$context\.([A-Za-z.]*[A-Za-z])", lambda found: context.get(found[1], ""), template.body)
        return GatewayResponse(template.status or status, template.headers, body)

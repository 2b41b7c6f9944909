"""Takes the browser's redirect after a consent: GET /v1/consent/callback/{provider}, the one route without a signature.

Whatever comes, the page is the same. It repeats nothing of the request and says nothing of what was done.
"""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from token_broker.bootstrap import broker
from token_broker.core.names import is_name
from token_broker.errors import BrokerUnavailable
from token_broker.observability import audit, count, count_internal_error, logger, observed, unexpected

PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Token broker</title>'
    "<p>You can close this page. Whether the consent arrived is shown where you began. If it did not, reload this page."
    "</html>\n"
)
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Pragma": "no-cache",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # the address holds the code
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@observed
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """API Gateway's proxy event in; out the page, with 503 where a reload helps."""
    provider = str((event.get("pathParameters") or {}).get("provider"))
    values = event.get("multiValueQueryStringParameters") or {}
    # API Gateway reads a raw + as a space. Codes have no spaces, and some servers write a plus as it is.
    pairs = [(name, value.replace(" ", "+")) for name, given in values.items() for value in given]
    try:
        consent_id = broker().receive_code(provider, pairs) if is_name(provider) else None
    except BrokerUnavailable as error:
        logger.error("callback_broken_off", code=error.code, service_code=getattr(error, "service_code", None))
        count("RequestErrors", code=error.code)
        return _page(503)
    except Exception as error:  # noqa: BLE001  # the caller learns nothing of it
        logger.error("callback_broken_off", extra={"code": "internal_error", **unexpected(error)})
        count_internal_error()
        return _page(503)
    if consent_id is not None:
        request_id = event["requestContext"].get("requestId")
        audit(
            "consent_redirected",
            decision="received",
            provider=provider,
            consent_id=consent_id,
            request_id=request_id,
        )
    count("Callbacks", outcome="ignored" if consent_id is None else "received")
    return _page(200)


def _page(status: int) -> dict[str, Any]:
    return {
        "statusCode": status,
        "multiValueHeaders": {name: [value] for name, value in HEADERS.items()},
        "body": PAGE,
        "isBase64Encoded": False,
    }

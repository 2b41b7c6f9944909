"""The audit line of a request."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayRestResolver

from token_broker.core.names import is_name
from token_broker.observability import audit


def write_audit(app: APIGatewayRestResolver, event: str, *, decision: str, **facts: Any) -> None:
    """One audit line: who asked, for which connection, under which request id, and the decision.

    `request_id` is API Gateway's, which the caller has as x-amzn-RequestId.
    """
    request = app.current_event.raw_event
    context, names = request["requestContext"], request.get("pathParameters") or {}
    audit(
        event,
        decision=decision,
        caller=context["identity"].get("userArn"),
        request_id=context.get("requestId"),
        function_request_id=app.lambda_context.aws_request_id,
        provider=_name_or_none(names.get("provider")),
        connection=_name_or_none(names.get("connection")),
        **facts,
    )


def _name_or_none(text: Any) -> Any:
    """Only a valid name is logged."""
    return text if is_name(text) else None

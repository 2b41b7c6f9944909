"""The audit lines of a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayRestResolver

from token_broker.core.names import is_name
from token_broker.observability import audit


def write_audit(app: APIGatewayRestResolver, event: str, *, decision: str, **facts: Any) -> None:
    """One audit line: who asked, for which connection, under which request id, and the decision.

    `request_id` is API Gateway's, which the caller has as x-amzn-RequestId.
    """
    request = app.current_event.raw_event
    context = request["requestContext"]
    names = request.get("pathParameters") or {}
    audit(
        event,
        decision=decision,
        caller=caller_of(app),
        request_id=context.get("requestId"),
        function_request_id=app.lambda_context.aws_request_id,
        provider=_name_or_none(names.get("provider")),
        connection=_name_or_none(names.get("connection")),
        **facts,
    )


def write_settings_audit(
    app: APIGatewayRestResolver,
    *,
    decision: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
    changes: Sequence[Mapping[str, Any]],
    **facts: Any,
) -> None:
    """The audit lines of changed settings: one that names each changed setting, and one of a suspension or its end.

    A change that only suspends or resumes has no line but that.
    """
    was_suspended = before is not None and before.get("suspended") is True
    is_suspended = after.get("suspended") is True
    if was_suspended != is_suspended:
        event = "connection_suspended" if is_suspended else "connection_resumed"
        write_audit(app, event, decision="done", **facts)
        changes = [change for change in changes if change["field"] != "suspended"]
        if before is not None and not changes:
            return
    write_audit(app, "settings_changed", decision=decision, changes=list(changes), **facts)


def caller_of(app: APIGatewayRestResolver) -> str | None:
    """The ARN of the caller that API Gateway verified, as the audit names it."""
    arn: str | None = app.current_event.raw_event["requestContext"]["identity"].get("userArn")
    return arn


def _name_or_none(text: Any) -> Any:
    """Only a valid name is logged."""
    return text if is_name(text) else None

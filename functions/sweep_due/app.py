"""Runs each minute: queues the token keys that are due."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from token_broker.bootstrap import broker
from token_broker.observability import count, logger, observed

# Kept of the invocation's time for the last batch and the report.
REPORT_TIME = timedelta(seconds=5)


@observed
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """EventBridge Scheduler's input `{"time": "<scheduled time>"}` in, counts out."""
    now = broker().now()
    try:
        scheduled_at = datetime.fromisoformat(str(event.get("time")))
    except ValueError:
        scheduled_at = now
    if scheduled_at.tzinfo is None:
        scheduled_at = now
    deadline = now + timedelta(milliseconds=context.get_remaining_time_in_millis()) - REPORT_TIME
    report = broker().sweep(scheduled_at=scheduled_at, deadline=deadline)
    counts = {
        "due": report.due,
        "queued": report.queued,
        "claimed_elsewhere": report.claimed_elsewhere,
        "deferred": report.deferred,
    }
    logger.info("swept", extra=counts)
    count("KeysDue", report.due)
    count("KeysQueued", report.queued)
    count("KeysDeferred", report.deferred)
    return counts

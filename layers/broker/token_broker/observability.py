"""Logs and metrics. A log line names its fields; nothing dumps an object, a request or an exception's text."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

# At DEBUG these print requests, responses and plaintexts by design: pinned, whatever the log level says.
CHATTY = ("botocore", "boto3", "urllib3", "requests", "aws_encryption_sdk", "s3transfer")

logger = Logger()
metrics = Metrics()

for _name in CHATTY:
    logging.getLogger(_name).setLevel(logging.WARNING)


Handler = Callable[[dict[str, Any], LambdaContext], Any]


def observed(handler: Handler) -> Handler:
    """A Lambda handler with the invocation's ids on its log lines, and its metrics written at the end."""

    @wraps(handler)
    def handle(event: dict[str, Any], context: LambdaContext) -> Any:
        try:
            return handler(event, context)
        finally:
            # Powertools warns of an invocation without metrics; here most reads have none.
            if metrics.metric_set:
                metrics.flush_metrics()

    wrapped: Handler = logger.inject_lambda_context(handle, clear_state=True)
    return wrapped


def count(metric: str, value: float = 1, **dimensions: str) -> None:
    """One count in CloudWatch's embedded format. Dimensions are few and never name a connection."""
    for name, dimension in dimensions.items():
        metrics.add_dimension(name, dimension)
    metrics.add_metric(metric, MetricUnit.Count, value)


def unexpected(error: BaseException) -> dict[str, Any]:
    """What may be told of an error that nobody expected: its kind and where it was raised, never its text."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_qualname}")
        trace = trace.tb_next
    return {"error": type(error).__name__, "raised_at": places[-5:]}

"""Logs and metrics. A log line names its fields. No object, request or exception text is ever logged."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache, wraps
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from token_broker.catalogue import FaultyFile
from token_broker.core.expiries import CONSENT, CREDENTIALS, REFRESH_TOKEN, ExpiryDate
from token_broker.core.names import ConnectionName, Place

# At DEBUG these log requests, responses and plaintexts. Their level is fixed, whatever LOG_LEVEL says.
CHATTY = ("botocore", "boto3", "urllib3", "requests", "aws_encryption_sdk", "s3transfer")

# A person must replace credentials and consents in time. A lost refresh token of a token key is replaced by the grant.
METRICS_OF_DEADLINES = {
    CREDENTIALS: "CredentialsDaysLeft",
    CONSENT: "CredentialsDaysLeft",
    REFRESH_TOKEN: "RefreshTokenDaysLeft",
}
EXPIRY_WARNING_DAYS = 14

# One encoder for all lines: json.dumps with arguments makes one for each call.
_serialize = json.JSONEncoder(default=str, separators=(",", ":"), ensure_ascii=False).encode


class _AuditFormatter(LambdaPowertoolsFormatter):
    """Audit: pass all fields to the logger as one dict."""

    def format(self, record: logging.LogRecord) -> str:
        head = {"level": record.levelname, "message": record.msg, "timestamp": self.formatTime(record)}
        return str(self.serialize({**head, "service": "audit", **record.facts}))  # type: ignore[attr-defined]  # extra's


logger = Logger(use_rfc3339=True, json_serializer=_serialize)
audit_log = Logger(
    service="audit",
    level="INFO",
    logger_formatter=_AuditFormatter(use_rfc3339=True, json_serializer=_serialize),
)

for _name in CHATTY:
    logging.getLogger(_name).setLevel(logging.WARNING)


Handler = Callable[[dict[str, Any], LambdaContext], Any]


def observed(handler: Handler) -> Handler:
    """A Lambda handler with the invocation's ids in its log lines. Counts an environment's first invocation."""
    is_cold = True

    @wraps(handler)
    def handle(event: dict[str, Any], context: LambdaContext) -> Any:
        nonlocal is_cold
        if is_cold:
            is_cold = False
            count("ColdStarts", function=handler.__module__.removesuffix(".app"))
        return handler(event, context)

    wrapped: Handler = logger.inject_lambda_context(handle)
    return wrapped


def count(metric: str, value: float = 1, **dimensions: str) -> None:
    """One value in CloudWatch's embedded metric format, on a line of its own. Dimensions never name a connection."""
    _measure(metric, MetricUnit.Count, value, dimensions)


def count_internal_error() -> None:
    """Counts an error that nobody expected; once more with the version, for the alarm that stops its deployment."""
    count("InternalErrors")
    function = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
    version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION")
    if function and version:
        count("InternalErrors", function=function, version=version)


def gauge(metric: str, value: float, **dimensions: str) -> None:
    """One value of which the minimum or maximum matters, such as days left."""
    _measure(metric, MetricUnit.NoUnit, value, dimensions)


def measure_expiry_dates(name: ConnectionName, deadlines: Iterable[ExpiryDate], now: datetime) -> None:
    """Days left as metrics by provider. What a person must replace within 14 days is logged with its connection."""
    for deadline in deadlines:
        days = deadline.days_left(now)
        gauge(METRICS_OF_DEADLINES[deadline.what], days, provider=name.provider)
        if deadline.what != REFRESH_TOKEN and days <= EXPIRY_WARNING_DAYS:
            logger.warning(
                "credentials_expire",
                provider=name.provider,
                connection=name.connection,
                what=deadline.what,
                days_left=round(days, 1),
            )


def report_broken_seal(place: Place, purpose: str) -> None:
    """A sealed value could not be opened: it was changed, moved, or sealed with another key."""
    logger.error("report_broken_seal", provider=place.name.provider, connection=place.name.connection, purpose=purpose)
    count("BrokenSeals", provider=place.name.provider)


def report_faulty_provider_file(file: FaultyFile) -> None:
    """A provider file of the platform team has faults and is not used."""
    logger.error("faulty_provider_file", file=file.name, faults=[str(fault) for fault in file.faults])


def report_resend(name: ConnectionName, refresh_id: str, first_sent_at: datetime) -> None:
    """A refresh token whose outcome is unknown is sent again, as the provider's file allows."""
    audit(
        "refresh_token_resent",
        decision="done",
        provider=name.provider,
        connection=name.connection,
        refresh_id=refresh_id,
        first_sent_at=first_sent_at.isoformat(timespec="milliseconds"),
    )
    count("RefreshTokensResent", provider=name.provider)


def _measure(metric: str, unit: MetricUnit, value: float, dimensions: Mapping[str, str]) -> None:
    metrics = _metrics(os.environ.get("POWERTOOLS_METRICS_NAMESPACE"))
    for name, dimension in dimensions.items():
        metrics.add_dimension(name, dimension)
    metrics.add_metric(metric, unit, value)
    metrics.flush_metrics()


@lru_cache(maxsize=1)
def _metrics(namespace: str | None) -> Metrics:
    """Made once: making it takes longer than writing a line."""
    return Metrics(namespace=namespace)


def audit(event: str, **facts: Any) -> None:
    """Who got or changed what, and who was denied. Written at any log level, never sampled."""
    audit_log.info(event, extra={"facts": {name: fact for name, fact in facts.items() if fact is not None}})


def unexpected(error: BaseException) -> dict[str, Any]:
    """What may be logged of an unexpected error: its class and where it was raised, never its text."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_qualname}")
        trace = trace.tb_next
    return {"error": type(error).__name__, "raised_at": places[-5:]}

"""Renews one token key per message, and revokes the tokens that a purge left."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from token_broker.adapters.sqs import read_message
from token_broker.bootstrap import broker
from token_broker.errors import BrokerUnavailable
from token_broker.observability import (
    count,
    count_internal_error,
    gauge,
    logger,
    measure_expiry_dates,
    observed,
    unexpected,
)


@observed
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, list[dict[str, str]]]:
    """An SQS event in; out the messages to deliver again, which are those where our own services failed."""
    failed = [record["messageId"] for record in event["Records"] if not _renew(record["body"])]
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def _renew(body: str) -> bool:
    try:
        message = read_message(body)
    except ValueError as error:
        logger.error("message_unreadable", extra=unexpected(error))
        count_internal_error()
        return False
    name = message.name
    try:
        renewal = broker().renew(name, message.scope_id, message.token_id)
    except BrokerUnavailable as error:
        logger.error("renewal_broken_off", code=error.code, service_code=getattr(error, "service_code", None))
        count("Renewals", provider=name.provider, outcome="broken_off")
        count("RenewalFailures", code=error.code)
        return False
    except Exception as error:  # noqa: BLE001  # delivered again, and in the end a dead letter
        logger.error("renewal_broken_off", extra={"code": "internal_error", **unexpected(error)})
        count_internal_error()
        return False
    logger.info(
        "renewal",
        provider=name.provider,
        connection=name.connection,
        outcome=renewal.outcome.value,
        code=renewal.code,
    )
    count("Renewals", provider=name.provider, outcome=renewal.outcome.value)
    if renewal.code is not None:
        count("RenewalFailures", code=renewal.code)
    if renewal.consecutive_failures:
        gauge("ConsecutiveFailures", renewal.consecutive_failures, provider=name.provider)
    measure_expiry_dates(name, renewal.deadlines, broker().now())
    return True

"""Renews one token key per message, and revokes what a purge left over."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from token_broker.adapters.renewal_queue import read_message
from token_broker.bootstrap import broker
from token_broker.errors import BrokerUnavailable
from token_broker.observability import count, deadlines_ahead, gauge, logger, observed, unexpected


@observed
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, list[dict[str, str]]]:
    """An SQS event in; out the messages that are to come back. Only our own faults do."""
    failed = [record["messageId"] for record in event["Records"] if not _renew(record["body"])]
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def _renew(body: str) -> bool:
    try:
        name, sk = read_message(body)
    except ValueError as error:
        logger.error("message_unreadable", extra=unexpected(error))
        count("InternalErrors")
        return False
    try:
        renewal = broker().renew(name, sk)
    except BrokerUnavailable as error:
        logger.error("renewal_broken_off", code=error.code, service_code=getattr(error, "service_code", None))
        count("Renewals", provider=name.provider, outcome="broken_off")
        count("RenewalFailures", code=error.code)
        return False
    except Exception as error:  # noqa: BLE001  # back to the queue, and to the dead letters in the end
        logger.error("renewal_broken_off", extra={"code": "internal_error", **unexpected(error)})
        count("InternalErrors")
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
    if renewal.in_a_row:
        gauge("FailuresInARow", renewal.in_a_row, provider=name.provider)
    deadlines_ahead(name, renewal.deadlines, broker().parts.clock())
    return True

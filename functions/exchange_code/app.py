"""Exchanges the code of one consent session per message. Nobody uses what comes before a person confirms it."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from token_broker.adapters.sqs import read_consent_message
from token_broker.bootstrap import broker
from token_broker.errors import BrokerUnavailable
from token_broker.observability import audit, count, count_internal_error, logger, observed, unexpected


@observed
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, list[dict[str, str]]]:
    """An SQS event in; out the messages to deliver again, which are those where our own services failed."""
    failed = [record["messageId"] for record in event["Records"] if not _exchange(record["body"])]
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def _exchange(body: str) -> bool:
    try:
        consent_id = read_consent_message(body)
    except ValueError as error:
        logger.error("message_unreadable", extra=unexpected(error))
        count_internal_error()
        return False
    try:
        exchange = broker().exchange_code(consent_id)
    except BrokerUnavailable as error:
        _log_broken_off(error, consent_id)
        return False
    except Exception as error:  # noqa: BLE001  # delivered again, and in the end a dead letter
        logger.error("exchange_broken_off", extra={"code": "internal_error", **unexpected(error)})
        count_internal_error()
        return False
    session = exchange.session
    failure = exchange.failure
    if exchange.error is not None:
        _log_broken_off(exchange.error, consent_id)
    if session is None:
        logger.info("consent_unknown", consent_id=consent_id)
        return True
    audit(
        "consent_exchanged",
        decision=exchange.outcome.value,
        initiator=session.initiator,
        provider=session.name.provider,
        connection=session.name.connection,
        consent_id=consent_id,
        account=session.account,
        scope=session.scope,
        code=failure.code if failure is not None else None,
        provider_error=failure.provider_error if failure is not None else None,
    )
    count("Consents", provider=session.name.provider, outcome=exchange.outcome.value)
    return True


def _log_broken_off(error: BrokerUnavailable, consent_id: str) -> None:
    logger.error(
        "exchange_broken_off",
        code=error.code,
        consent_id=consent_id,
        service_code=getattr(error, "service_code", None),
    )

"""Hears of changed secrets and makes the tokens of their connections due."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from token_broker.adapters.secret_vault import connection_of
from token_broker.bootstrap import broker, settings
from token_broker.observability import count, logger, observed

# Where CloudTrail writes the secret, by kind of event and by who made the call: a name or an ARN.
PLACES = (
    ("requestParameters", "secretId"),
    ("requestParameters", "sourceArn"),
    ("responseElements", "arn"),
    ("responseElements", "aRN"),
    ("additionalEventData", "SecretId"),
    ("serviceEventDetails", "secretId"),
)


@observed
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, int]:
    """An EventBridge event from CloudTrail in; out how many token keys are due now."""
    detail = event.get("detail")
    ids = _secret_ids(detail) if isinstance(detail, dict) and _changes_current(detail) else ()
    names = {name for secret_id in ids if (name := connection_of(secret_id, settings().secret_prefix)) is not None}
    marked = 0
    for name in names:
        keys = broker().secret_changed(name)
        logger.info("secret_changed", provider=name.provider, connection=name.connection, keys=keys)
        marked += keys
        count("SecretChanges", provider=name.provider)
    return {"connections": len(names), "keys": marked}


def _changes_current(detail: dict[str, Any]) -> bool:
    """Whether the call took effect, and on the version that is used. One without a stage is about the current one."""
    asked = detail.get("requestParameters")
    asked = asked if isinstance(asked, dict) else {}
    stages = asked.get("versionStages") or [asked.get("versionStage") or "AWSCURRENT"]
    return "errorCode" not in detail and isinstance(stages, list) and "AWSCURRENT" in stages


def _secret_ids(detail: dict[str, Any]) -> Iterator[str]:
    for section, name in PLACES:
        found = detail.get(section)
        if isinstance(found, dict) and isinstance(found.get(name), str):
            yield found[name]

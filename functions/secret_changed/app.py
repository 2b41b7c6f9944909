"""Makes the tokens of a connection due when its secret changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from token_broker.adapters.secrets_manager import connection_of
from token_broker.bootstrap import broker, settings
from token_broker.observability import count, logger, observed

# Where CloudTrail names the secret, by kind of event and caller. The value is a name or an ARN.
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
    """An EventBridge event from CloudTrail in; out how many connections and token keys it concerns."""
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
    """Whether the call succeeded and concerns the current version. A call without a stage does."""
    parameters = detail.get("requestParameters")
    parameters = parameters if isinstance(parameters, dict) else {}
    stages = parameters.get("versionStages") or [parameters.get("versionStage") or "AWSCURRENT"]
    return "errorCode" not in detail and isinstance(stages, list) and "AWSCURRENT" in stages


def _secret_ids(detail: dict[str, Any]) -> Iterator[str]:
    for section, name in PLACES:
        found = detail.get(section)
        if isinstance(found, dict) and isinstance(found.get(name), str):
            yield found[name]

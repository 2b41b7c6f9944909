"""Makes the tokens of a connection due when its secret changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from token_broker.adapters.secrets_manager import connections_of
from token_broker.bootstrap import broker, settings
from token_broker.core.names import ConnectionName
from token_broker.observability import count, logger, observed

# Where an event has the secret's name or its full ARN, by source, kind of event and caller.
FULL = (("name",), ("responseElements", "arn"), ("responseElements", "aRN"))
# Where it has what the caller wrote: a name, or an ARN with or without the six characters that AWS adds.
AS_WRITTEN = (
    ("requestParameters", "secretId"),
    ("requestParameters", "sourceArn"),
    ("additionalEventData", "SecretId"),
    ("serviceEventDetails", "secretId"),
)
# Where it has the version that is current now.
VERSIONS = (("versionId",), ("requestParameters", "moveToVersionId"), ("responseElements", "versionId"))


@observed
def lambda_handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, int]:
    """An EventBridge event from Secrets Manager itself or from CloudTrail. Returns how many connections and token keys
    it concerns.

    The same change can come from both sources. A token that was issued with the new version stays.
    """
    detail = event.get("detail")
    if not isinstance(detail, dict) or not _changes_current(detail):
        return {"connections": 0, "keys": 0}
    names = _connections(detail)
    version = next(_texts(detail, VERSIONS), None)
    marked = 0
    for name in names:
        keys = broker().secret_changed(name, version)
        if keys or len(names) == 1:
            logger.info("secret_changed", provider=name.provider, connection=name.connection, keys=keys)
            count("SecretChanges", provider=name.provider)
        marked += keys
    return {"connections": len(names), "keys": marked}


def _changes_current(detail: Mapping[str, Any]) -> bool:
    """Whether the call succeeded and concerns the current version. A call without a stage does."""
    parameters = detail.get("requestParameters")
    parameters = parameters if isinstance(parameters, dict) else {}
    stages = parameters.get("versionStages") or [
        parameters.get("versionStage") or detail.get("labelUpdated") or "AWSCURRENT"
    ]
    return "errorCode" not in detail and isinstance(stages, list) and "AWSCURRENT" in stages


def _connections(detail: Mapping[str, Any]) -> frozenset[ConnectionName]:
    """The connections that the event may mean. More than one only where the caller wrote a partial ARN."""
    prefix = settings().secret_prefix
    for secret_id in _texts(detail, FULL):
        return connections_of(secret_id, prefix, is_full_arn=secret_id.startswith("arn:"))
    return frozenset(name for secret_id in _texts(detail, AS_WRITTEN) for name in connections_of(secret_id, prefix))


def _texts(detail: Mapping[str, Any], places: tuple[tuple[str, ...], ...]) -> Iterator[str]:
    for place in places:
        found: Any = detail
        for key in place:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, str):
            yield found

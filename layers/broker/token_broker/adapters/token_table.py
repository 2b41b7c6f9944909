"""The token table: one way to write to it, and the due index."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from token_broker.adapters.aws import answering, error_code, refused_item
from token_broker.adapters.items import Item, moment, number, string
from token_broker.core.names import TokenKey
from token_broker.sweep import shard_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DYNAMODB = "DynamoDB"
KEEP = timedelta(days=2)
MAX_TRIES = 5


class TokenTable:
    """Conditional writes that tell the item they met."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self.client = client
        self.name = table

    def update(
        self,
        pk: str,
        sk: str,
        expression: str,
        values: Mapping[str, Any],
        *,
        condition: str | None = None,
        names: Mapping[str, str] | None = None,
    ) -> tuple[bool, Item | None]:
        """One conditional write. Returns whether it held, and the item as it was before (or as it stands, if not)."""
        arguments: dict[str, Any] = {}
        if condition is not None:
            arguments["ConditionExpression"] = condition
            arguments["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        if values:
            arguments["ExpressionAttributeValues"] = dict(values)
        if names:
            arguments["ExpressionAttributeNames"] = dict(names)
        with answering(DYNAMODB):
            try:
                answer = self.client.update_item(
                    TableName=self.name,
                    Key={"pk": string(pk), "sk": string(sk)},
                    UpdateExpression=expression.strip(),
                    ReturnValues="ALL_OLD",
                    **arguments,
                )
            except ClientError as error:
                if error_code(error) != "ConditionalCheckFailedException":
                    raise
                return False, refused_item(error)
        return True, answer.get("Attributes")


def due_attributes(key: TokenKey, due_at: datetime) -> dict[str, Any]:
    """Where a key stands on the due index."""
    return {"due_shard": number(shard_of(key)), "due_at": moment(due_at)}

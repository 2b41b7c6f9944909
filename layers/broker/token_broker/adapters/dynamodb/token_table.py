"""The token table: the one way to write to it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from token_broker.adapters.aws import aws_errors, conflicting_item, error_code
from token_broker.adapters.dynamodb.items import Item, moment, number, string
from token_broker.adapters.dynamodb.keys import Key
from token_broker.core.names import TokenKey
from token_broker.core.schedule import shard_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DYNAMODB = "DynamoDB"
KEEP = timedelta(days=2)
MAX_TRIES = 5


class TokenTable:
    """Conditional writes that return the item they found."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self.client = client
        self.name = table

    def update(
        self,
        key: Key,
        expression: str,
        values: Mapping[str, Any],
        *,
        condition: str | None = None,
        names: Mapping[str, str] | None = None,
    ) -> tuple[bool, Item | None]:
        """One conditional write. Returns whether it took effect, and the item before it (if not: as it is)."""
        arguments: dict[str, Any] = {}
        if condition is not None:
            arguments["ConditionExpression"] = condition
            arguments["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        if values:
            arguments["ExpressionAttributeValues"] = dict(values)
        if names:
            arguments["ExpressionAttributeNames"] = dict(names)
        with aws_errors(DYNAMODB):
            try:
                response = self.client.update_item(
                    TableName=self.name,
                    Key={"pk": string(key[0]), "sk": string(key[1])},
                    UpdateExpression=expression.strip(),
                    ReturnValues="ALL_OLD",
                    **arguments,
                )
            except ClientError as error:
                if error_code(error) != "ConditionalCheckFailedException":
                    raise
                return False, conflicting_item(error)
        return True, response.get("Attributes")


def due_attributes(key: TokenKey, due_at: datetime) -> dict[str, Any]:
    """The attributes that put a key into the due index."""
    return {"due_shard": number(shard_of(key)), "due_at": moment(due_at)}

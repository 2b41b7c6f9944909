"""How the items of TokenTable and GrantTable are written, and found when they are due."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from token_broker.adapters.aws import aws_errors, conflicting_item, error_code
from token_broker.adapters.dynamodb.items import Item, moment, number, read_string, string
from token_broker.adapters.dynamodb.keys import Key

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DYNAMODB = "DynamoDB"


class ItemTable:
    """Conditional writes that return the item they found."""

    def __init__(self, client: DynamoDBClient, name: str) -> None:
        self.client = client
        self.name = name

    def update(
        self, key: Key, expression: str, values: Mapping[str, Any], *, condition: str, names: Mapping[str, str]
    ) -> tuple[bool, Item | None]:
        """One conditional write. Returns whether it took effect; if not, the item as it is (None: there is none)."""
        arguments: dict[str, Any] = {}
        if values:
            arguments["ExpressionAttributeValues"] = dict(values)
        with aws_errors(DYNAMODB):
            try:
                self.client.update_item(
                    TableName=self.name,
                    Key=item_key(key),
                    UpdateExpression=expression,
                    ConditionExpression=condition,
                    ExpressionAttributeNames=dict(names),
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **arguments,
                )
            except ClientError as error:
                if error_code(error) != "ConditionalCheckFailedException":
                    raise
                return False, conflicting_item(error)
        return True, None

    def save(
        self, key: Key, before: Item, after: Item, *, revision: str | None, new_revision: str
    ) -> tuple[bool, Item | None]:
        """Writes the attributes that differ, if the item is still at `revision` (None: if there is no such item).

        Returns whether it took effect, else the item as it is. A repeat of a write that took effect, whose response was
        lost, finds its own revision and counts as done.
        """
        changed = {name: value for name, value in after.items() if before.get(name) != value}
        removed = [name for name in before if name not in after]
        changed["revision"] = string(new_revision)
        expression = "SET " + ", ".join(f"#{name} = :{name}" for name in changed)
        if removed:
            expression += " REMOVE " + ", ".join(f"#{name}" for name in removed)
        values = {f":{name}": value for name, value in changed.items()}
        condition = "attribute_not_exists(#revision)"
        if revision is not None:
            condition = "#revision = :before"
            values[":before"] = string(revision)
        names = {f"#{name}": name for name in (*changed, *removed)}
        saved, stored = self.update(key, expression, values, condition=condition, names=names)
        if not saved and stored is not None and read_string(stored, "revision") == new_revision:
            return True, None
        return saved, stored

    def due(self, shard: int, until: datetime) -> Iterator[Item]:
        """The items of a shard of the sparse index `due` that are due by `until`, the most urgent first."""
        start: dict[str, Any] = {}
        while True:
            with aws_errors(DYNAMODB):
                page = self.client.query(
                    TableName=self.name,
                    IndexName="due",
                    KeyConditionExpression="due_shard = :shard AND due_at <= :until",
                    ExpressionAttributeValues={":shard": number(shard), ":until": moment(until)},
                    **start,
                )
            yield from page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


def item_key(key: Key) -> dict[str, Any]:
    return {"pk": string(key[0]), "sk": string(key[1])}

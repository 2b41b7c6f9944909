"""BatchGetItem. What DynamoDB leaves unprocessed is asked for again after a growing pause."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from token_broker.adapters.aws import aws_errors
from token_broker.adapters.dynamodb.item_table import DYNAMODB
from token_broker.adapters.dynamodb.items import Item
from token_broker.errors import BrokerUnavailable
from token_broker.ports import Sleep

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MAX_READS = 5
FIRST_PAUSE_S = 0.05


def batch_get(client: DynamoDBClient, keys_by_table: dict[str, list[dict[str, Any]]], sleep: Sleep) -> Iterator[Item]:
    """The items that exist, in no particular order. Reads are strongly consistent. Raises BrokerUnavailable."""
    wanted: dict[str, Any] = {table: {"Keys": keys, "ConsistentRead": True} for table, keys in keys_by_table.items()}
    for attempt in range(MAX_READS):
        if attempt:
            sleep(FIRST_PAUSE_S * 2 ** (attempt - 1))
        with aws_errors(DYNAMODB):
            response = client.batch_get_item(RequestItems=wanted)
        for items in response["Responses"].values():
            yield from items
        wanted = dict(response.get("UnprocessedKeys") or {})
        if not wanted:
            return
    raise BrokerUnavailable("DynamoDB left keys unprocessed.")

"""Connection health over DynamoDB: one item per connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from token_broker.adapters.dynamodb.item_table import ItemTable
from token_broker.adapters.dynamodb.items import health_attributes, read_health
from token_broker.adapters.dynamodb.keys import health_key
from token_broker.core.health import ConnectionHealth
from token_broker.core.names import ConnectionName

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class DynamoHealthStore:
    """HealthStore (see ports)."""

    def __init__(self, client: DynamoDBClient, *, token_table: str) -> None:
        self._table = ItemTable(client, token_table)

    def save(self, name: ConnectionName, before: ConnectionHealth, after: ConnectionHealth) -> ConnectionHealth | None:
        if after.revision is None:
            raise ValueError("a saved health has a revision")
        stored_before = health_attributes(before) if before.revision is not None else {}
        saved, stored = self._table.save(
            health_key(name),
            stored_before,
            health_attributes(after),
            revision=before.revision,
            new_revision=after.revision,
        )
        return None if saved else read_health(stored)

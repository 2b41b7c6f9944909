"""The due index over DynamoDB: sparse, in shards, keys and `ttl` only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from token_broker.adapters.dynamodb.item_table import ItemTable
from token_broker.adapters.dynamodb.items import moment, read_moment, read_seconds, seconds
from token_broker.adapters.dynamodb.keys import Key, connection_of, parse_due_sk, retired_key, token_item_key
from token_broker.core.schedule import KEEP
from token_broker.ports import DueKey

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class DynamoDueIndex:
    """DueIndex (see ports)."""

    def __init__(self, client: DynamoDBClient, *, token_table: str) -> None:
        self._table = ItemTable(client, token_table)

    def due(self, shard: int, *, until: datetime) -> Sequence[DueKey]:
        return [due for item in self._table.due(shard, until) if (due := _read(item)) is not None]

    def claim(self, due: DueKey, *, until: datetime) -> bool:
        """Keeps the item two days beyond the new due time, should claims go on without a worker."""
        changes = {"due_at": moment(until)}
        if due.delete_at is not None and due.delete_at < until + KEEP:
            changes["ttl"] = seconds(until + KEEP)
        claimed, _ = self._table.update(
            _key(due),
            "SET " + ", ".join(f"#{name} = :{name}" for name in changes),
            {f":{name}": value for name, value in changes.items()} | {":before": moment(due.due_at)},
            condition="#due_at = :before",
            names={f"#{name}": name for name in changes},
        )
        return claimed


def _key(due: DueKey) -> Key:
    if due.token_id is not None:
        return retired_key(due.name, due.scope_id, due.token_id)
    return token_item_key(due.name, due.scope_id)


def _read(item: Mapping[str, Any]) -> DueKey | None:
    name = connection_of(item["pk"]["S"])
    sk = parse_due_sk(item["sk"]["S"])
    due_at = read_moment(item, "due_at")
    if name is None or sk is None or due_at is None:
        return None
    scope_id, token_id = sk
    return DueKey(name, scope_id, due_at, token_id, read_seconds(item, "ttl"))

"""The due index: sparse, in shards, keys only. A key stands on it from its renewal's time on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from token_broker.adapters.aws import answering
from token_broker.adapters.items import FORMAT, moment, number, read_moment, seconds, string
from token_broker.adapters.token_table import DYNAMODB, KEEP, TokenTable, due_attributes
from token_broker.core.names import TokenKey
from token_broker.core.tokens import TokenRecord
from token_broker.ports import DueKey


class DueIndex:
    """The due index's part of TokenStore (see ports)."""

    _table: TokenTable

    def due(self, shard: int, *, until: datetime) -> Sequence[DueKey]:
        found: list[DueKey] = []
        start: dict[str, Any] = {}
        while True:
            with answering(DYNAMODB):
                page = self._table.client.query(
                    TableName=self._table.name,
                    IndexName="due",
                    KeyConditionExpression="due_shard = :shard AND due_at <= :until",
                    ExpressionAttributeValues={":shard": number(shard), ":until": moment(until)},
                    **start,
                )
            for item in page["Items"]:
                due_at = read_moment(item, "due_at")
                if due_at is not None:
                    found.append(DueKey(item["pk"]["S"], item["sk"]["S"], due_at))
            if "LastEvaluatedKey" not in page:
                return found
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def claim_due(self, due: DueKey, *, until: datetime) -> bool:
        claimed, _ = self._table.update(
            due.pk,
            due.sk,
            "SET due_at = :until",
            {":until": moment(until), ":seen": moment(due.due_at)},
            condition="due_at = :seen",
        )
        return claimed

    def make_due(self, key: TokenKey, due_at: datetime) -> None:
        # if_not_exists: an item that is there already keeps its own end.
        self._table.update(
            key.pk,
            key.sk,
            "SET due_shard = :due_shard, due_at = :due_at, #scope = :scope, #format = :format, "
            "#ttl = if_not_exists(#ttl, :ttl)",
            {
                **{f":{name}": value for name, value in due_attributes(key, due_at).items()},
                ":scope": string(key.scope),
                ":format": number(FORMAT),
                ":ttl": seconds(due_at + KEEP),
            },
            names={"#scope": "scope", "#format": "format", "#ttl": "ttl"},
        )

    def put_off(self, seen: TokenRecord, due_at: datetime | None) -> None:
        key, expression, values = seen.key, "REMOVE due_at, due_shard", {}
        if due_at is not None:
            expression = "SET due_shard = :due_shard, due_at = :due_at"
            values = {f":{name}": value for name, value in due_attributes(key, due_at).items()}
        unmoved = "attribute_not_exists(due_at)"
        if seen.due_at is not None:
            unmoved, values[":seen"] = "due_at = :seen", moment(seen.due_at)
        self._table.update(key.pk, key.sk, expression, values, condition=f"attribute_exists(pk) AND {unmoved}")

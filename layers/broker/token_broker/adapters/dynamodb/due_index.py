"""The due index: sparse, in shards, keys only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from token_broker.adapters.aws import aws_errors
from token_broker.adapters.dynamodb.items import FORMAT, moment, number, read_moment, seconds, string
from token_broker.adapters.dynamodb.keys import connection_of, connection_pk, scope_id_of, token_key, token_sk
from token_broker.adapters.dynamodb.token_table import DYNAMODB, KEEP, TokenTable, due_attributes
from token_broker.core.names import TokenKey
from token_broker.core.records import TokenRecord
from token_broker.ports import DueKey


class DueIndex:
    """The part of TokenStore about the due index (see ports)."""

    _table: TokenTable

    def due(self, shard: int, *, until: datetime) -> Sequence[DueKey]:
        found: list[DueKey] = []
        start: dict[str, Any] = {}
        while True:
            with aws_errors(DYNAMODB):
                page = self._table.client.query(
                    TableName=self._table.name,
                    IndexName="due",
                    KeyConditionExpression="due_shard = :shard AND due_at <= :until",
                    ExpressionAttributeValues={":shard": number(shard), ":until": moment(until)},
                    **start,
                )
            for item in page["Items"]:
                due_at = read_moment(item, "due_at")
                name, scope_id = connection_of(item["pk"]["S"]), scope_id_of(item["sk"]["S"])
                if due_at is not None and name is not None and scope_id is not None:
                    found.append(DueKey(name, scope_id, due_at))
            if "LastEvaluatedKey" not in page:
                return found
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def claim_due(self, due: DueKey, *, until: datetime) -> bool:
        claimed, _ = self._table.update(
            (connection_pk(due.name), token_sk(due.scope_id)),
            "SET due_at = :until",
            {":until": moment(until), ":before": moment(due.due_at)},
            condition="due_at = :before",
        )
        return claimed

    def make_due(self, key: TokenKey, due_at: datetime) -> None:
        # if_not_exists: an item that exists keeps its own ttl.
        self._table.update(
            token_key(key),
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

    def put_off(self, read_as: TokenRecord, due_at: datetime | None) -> None:
        key, values = read_as.key, {}
        expression = "REMOVE due_at, due_shard"
        if due_at is not None:
            expression = "SET due_shard = :due_shard, due_at = :due_at"
            values = {f":{name}": value for name, value in due_attributes(key, due_at).items()}
        unmoved = "attribute_not_exists(due_at)"
        if read_as.due_at is not None:
            unmoved = "due_at = :before"
            values[":before"] = moment(read_as.due_at)
        self._table.update(token_key(key), expression, values, condition=f"attribute_exists(pk) AND {unmoved}")

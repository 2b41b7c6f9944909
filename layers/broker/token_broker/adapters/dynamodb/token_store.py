"""The token store over DynamoDB.

Each item has a revision. Every write names the revision that it changes, and sets a new one:

time ──────────────────────────────────────────────────────────────────────────────▶
holder A   save r1→r2: lease A ──── asks the provider ──── stalls ────── save r2→r4: refused, the item is at r3
lease      |──────────── 17 s ────────────|+1 s|
holder B        reads r2, waits ...             save r2→r3: lease B ── asks ── save r3→r5: token stored
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from token_broker.adapters.aws import aws_errors, error_code
from token_broker.adapters.dynamodb.batch_get import batch_get
from token_broker.adapters.dynamodb.item_table import DYNAMODB, ItemTable, item_key
from token_broker.adapters.dynamodb.items import (
    Item,
    read_health,
    read_record,
    read_retired,
    read_settings,
    record_attributes,
    retired_attributes,
    string,
)
from token_broker.adapters.dynamodb.keys import (
    Key,
    connection_pk,
    health_key,
    is_retired_sk,
    is_token_sk,
    retired_key,
    token_item_key,
)
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import RetiredToken, TokenRecord
from token_broker.ports import ConnectionItems, Sleep, StoredSettings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# As many as the client keeps connections open.
PARALLEL_QUERIES = 10


class DynamoTokenStore:
    """TokenStore (see ports) over two tables: the token table, and the settings read along with a token."""

    def __init__(self, client: DynamoDBClient, *, token_table: str, connection_table: str, sleep: Sleep) -> None:
        self._table = ItemTable(client, token_table)
        self._connections = connection_table
        self._sleep = sleep

    def read(self, key: TokenKey) -> tuple[StoredSettings | None, TokenRecord]:
        settings, items = self._read(key.name, token_item_key(key.name, key.scope_id))
        return settings, read_record(key, items[0], read_health(items[1]))

    def read_due(self, name: ConnectionName, scope_id: str) -> tuple[StoredSettings | None, TokenRecord | None]:
        settings, items = self._read(name, token_item_key(name, scope_id))
        if items[0] is None:
            return settings, None
        return settings, read_record(TokenKey(name, items[0]["scope"]["S"]), items[0], read_health(items[1]))

    def read_retired(
        self, name: ConnectionName, scope_id: str, token_id: str
    ) -> tuple[StoredSettings | None, TokenRecord | None, RetiredToken | None]:
        settings, items = self._read(name, token_item_key(name, scope_id), retired_key(name, scope_id, token_id))
        if items[2] is None:
            return settings, None, None
        retired = read_retired(name, items[2])
        return settings, read_record(retired.key, items[0], read_health(items[1])), retired

    def _read(
        self, name: ConnectionName, token: Key, retired: Key | None = None
    ) -> tuple[StoredSettings | None, list[Item | None]]:
        """Settings, and the items of a token key, of connection health and of a retired token, in one call."""
        keys = [token, health_key(name), *([retired] if retired is not None else [])]
        wanted = {
            self._connections: [{"pk": string(connection_pk(name))}],
            self._table.name: [item_key(key) for key in keys],
        }
        items = batch_get(self._table.client, wanted, self._sleep)
        found = {item["sk"]["S"] if "sk" in item else "": item for item in items}
        return read_settings(name, found.get("")), [found.get(sk) for _, sk in keys]

    def items_of(self, names: Sequence[ConnectionName]) -> Sequence[ConnectionItems]:
        # Only the list of connections needs threads.
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(PARALLEL_QUERIES) as threads:
            return list(threads.map(self.items, names))

    def items(self, name: ConnectionName) -> ConnectionItems:
        items: dict[str, Item] = {}
        start: dict[str, Any] = {}
        while True:
            with aws_errors(DYNAMODB):
                page = self._table.client.query(
                    TableName=self._table.name,
                    KeyConditionExpression="pk = :pk",
                    ExpressionAttributeValues={":pk": string(connection_pk(name))},
                    ConsistentRead=True,
                    **start,
                )
            items |= {item["sk"]["S"]: item for item in page["Items"]}
            if "LastEvaluatedKey" not in page:
                break
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
        health = read_health(items.get(health_key(name)[1]))
        return ConnectionItems(
            [
                read_record(TokenKey(name, item["scope"]["S"]), item, health)
                for sk, item in items.items()
                if is_token_sk(sk)
            ],
            [read_retired(name, item) for sk, item in items.items() if is_retired_sk(sk)],
        )

    def save(self, before: TokenRecord, after: TokenRecord) -> TokenRecord | None:
        if after.revision is None:
            raise ValueError("a saved record has a revision")
        key = token_item_key(after.key.name, after.key.scope_id)
        stored_before = record_attributes(before) if before.exists else {}
        saved, stored = self._table.save(
            key, stored_before, record_attributes(after), revision=before.revision, new_revision=after.revision
        )
        return None if saved else read_record(after.key, stored, before.health)

    def put_retired(self, token: RetiredToken) -> None:
        key = retired_key(token.key.name, token.key.scope_id, token.token_id)
        condition: dict[str, Any] = {} if token.revoke else {"ConditionExpression": "attribute_not_exists(pk)"}
        item = {**item_key(key), **retired_attributes(token)}
        with aws_errors(DYNAMODB):
            try:
                self._table.client.put_item(TableName=self._table.name, Item=item, **condition)
            except ClientError as error:
                if error_code(error) != "ConditionalCheckFailedException":
                    raise

    def delete_retired(self, token: RetiredToken) -> None:
        key = retired_key(token.key.name, token.key.scope_id, token.token_id)
        with aws_errors(DYNAMODB):
            self._table.client.delete_item(TableName=self._table.name, Key=item_key(key))

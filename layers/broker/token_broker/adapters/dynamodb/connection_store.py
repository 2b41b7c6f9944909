"""The connection store over DynamoDB: settings as they were PUT, with a version, and their earlier versions.

A connection has one item, which callers read with each token, so it holds the current version only. Before a version is
replaced, it is copied to one of a ring of slots. The copy is the truth already, so a write that fails after it leaves
nothing wrong. A slot whose number is not among the last ones is left over from a deleted connection of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from token_broker.adapters.aws import aws_errors, conflicting_item, error_code
from token_broker.adapters.dynamodb.batch_get import batch_get
from token_broker.adapters.dynamodb.item_table import DYNAMODB
from token_broker.adapters.dynamodb.items import Item, read_settings, read_string, settings_attributes, string
from token_broker.adapters.dynamodb.keys import connection_of, connection_pk, version_pk
from token_broker.core.names import ConnectionName
from token_broker.errors import BrokerUnavailable
from token_broker.ports import ANY_VERSION, KEPT_VERSIONS, ConditionFailed, Sleep, StoredSettings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# The sparse index of the connections by name: only their items have `kind`.
INDEX = "names"
KIND = "connection"
# The slots of earlier versions. The current version is in the connection's own item.
SLOTS = KEPT_VERSIONS - 1
MAX_TRIES = 5


class DynamoConnectionStore:
    """ConnectionStore (see ports)."""

    def __init__(self, client: DynamoDBClient, *, table: str, sleep: Sleep) -> None:
        self._client = client
        self._table = table
        self._sleep = sleep

    def get(self, name: ConnectionName) -> StoredSettings | None:
        with aws_errors(DYNAMODB):
            response = self._client.get_item(TableName=self._table, Key=_key(connection_pk(name)), ConsistentRead=True)
        return read_settings(name, response.get("Item"))

    def put(
        self,
        name: ConnectionName,
        settings: Mapping[str, Any],
        *,
        version: str,
        expected: str | None,
        absent: bool,
        at: datetime | None = None,
        caller: str | None = None,
    ) -> StoredSettings | None:
        for _ in range(MAX_TRIES):
            before = self.get(name)
            _check(before, expected, absent=absent)
            after = StoredSettings(
                name, settings, version, changed_at=at, changed_by=caller, number=_next(before, settings)
            )
            if before is not None and before.number != after.number:
                self._write(version_pk(name, before.number % SLOTS), settings_attributes(before))
            item = {"kind": string(KIND), **settings_attributes(after)}
            if self._write(connection_pk(name), item, version=version, **_still(before)):
                return before
        raise BrokerUnavailable("The settings change faster than they can be written.")

    def _write(self, pk: str, attributes: Item, *, version: str = "", **condition: Any) -> bool:
        """Whether the condition held. A repeat of a write that took effect finds its own version."""
        with aws_errors(DYNAMODB):
            try:
                self._client.put_item(TableName=self._table, Item={**_key(pk), **attributes}, **condition)
            except ClientError as error:
                if error_code(error) != "ConditionalCheckFailedException":
                    raise
                return read_string(conflicting_item(error) or {}, "version") == version
        return True

    def delete(self, name: ConnectionName, *, expected: str | None) -> bool:
        before = self.get(name)
        if before is None:
            return False
        _check(before, expected, absent=False)
        with aws_errors(DYNAMODB):
            try:
                self._client.delete_item(TableName=self._table, Key=_key(connection_pk(name)), **_still(before))
            except ClientError as error:
                # Without an item, this is a repeat of a delete whose response was lost.
                if error_code(error) != "ConditionalCheckFailedException":
                    raise
                if conflicting_item(error) is not None:
                    raise ConditionFailed from None
            for number in _earlier_numbers(before):
                self._client.delete_item(TableName=self._table, Key=_key(version_pk(name, number % SLOTS)))
        return True

    def history(self, name: ConnectionName) -> list[StoredSettings]:
        current = self.get(name)
        if current is None:
            return []
        numbers = _earlier_numbers(current)
        keys = [_key(version_pk(name, number % SLOTS)) for number in numbers]
        items = batch_get(self._client, {self._table: keys}, self._sleep) if keys else ()
        earlier = [
            found for item in items if (found := read_settings(name, item)) is not None and found.number in numbers
        ]
        return [current, *sorted(earlier, key=lambda found: -found.number)]

    def page(
        self, limit: int, after: ConnectionName | None, provider: str | None = None
    ) -> tuple[list[StoredSettings], bool]:
        values = {":kind": string(KIND), ":prefix": string("C#" if provider is None else f"C#{provider}/")}
        start: dict[str, Any] = {}
        if after is not None:
            start["ExclusiveStartKey"] = {"kind": string(KIND), **_key(connection_pk(after))}
        with aws_errors(DYNAMODB):
            page = self._client.query(
                TableName=self._table,
                IndexName=INDEX,
                KeyConditionExpression="kind = :kind AND begins_with(pk, :prefix)",
                ExpressionAttributeValues=values,
                Limit=limit,
                **start,
            )
        names = [name for item in page["Items"] if (name := connection_of(item["pk"]["S"])) is not None]
        keys = [_key(connection_pk(name)) for name in names]
        # The index can lag behind. The settings are read from the table itself.
        found = (
            {item["pk"]["S"]: item for item in batch_get(self._client, {self._table: keys}, self._sleep)}
            if keys
            else {}
        )
        stored = [read_settings(name, found.get(connection_pk(name))) for name in names]
        return [settings for settings in stored if settings is not None], "LastEvaluatedKey" in page


def _key(pk: str) -> dict[str, Any]:
    return {"pk": string(pk)}


def _check(stored: StoredSettings | None, expected: str | None, *, absent: bool) -> None:
    """Raises ConditionFailed unless the stored version is the expected one."""
    if stored is None and expected is not None:
        raise ConditionFailed
    if stored is not None and (absent or expected not in (None, ANY_VERSION, stored.version)):
        raise ConditionFailed


def _still(stored: StoredSettings | None) -> dict[str, Any]:
    """The condition that the connection's item is still as it was read."""
    if stored is None:
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
    elif stored.version:
        condition = {
            "ConditionExpression": "version = :read",
            "ExpressionAttributeValues": {":read": string(stored.version)},
        }
    else:
        # Somebody wrote the item by hand.
        condition = {"ConditionExpression": "attribute_exists(pk) AND attribute_not_exists(version)"}
    return {**condition, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}


def _next(before: StoredSettings | None, settings: Mapping[str, Any]) -> int:
    """The number of the new version. Equal settings keep theirs, so that a repeated PUT takes no slot."""
    if before is None:
        return 1
    return before.number + (before.settings != settings)


def _earlier_numbers(current: StoredSettings) -> range:
    return range(max(current.number - SLOTS, 1), current.number)

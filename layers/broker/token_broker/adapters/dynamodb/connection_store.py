"""The connection store over DynamoDB: settings as they were PUT, with a version."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from token_broker.adapters.aws import aws_errors, conflicting_item, error_code
from token_broker.adapters.dynamodb.items import FORMAT, number, read_settings, string
from token_broker.adapters.dynamodb.keys import connection_of, connection_pk
from token_broker.core.names import ConnectionName
from token_broker.ports import ANY_VERSION, ConditionFailed, StoredSettings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DYNAMODB = "DynamoDB"


class DynamoConnectionStore:
    """ConnectionStore (see ports)."""

    def __init__(self, client: DynamoDBClient, *, table: str) -> None:
        self._client = client
        self._table = table

    def get(self, name: ConnectionName) -> StoredSettings | None:
        with aws_errors(DYNAMODB):
            response = self._client.get_item(
                TableName=self._table, Key={"pk": string(connection_pk(name))}, ConsistentRead=True
            )
        return read_settings(name, response.get("Item"))

    def put(
        self, name: ConnectionName, settings: Mapping[str, Any], *, version: str, expected: str | None, absent: bool
    ) -> StoredSettings | None:
        item = {
            "pk": string(connection_pk(name)),
            "format": number(FORMAT),
            "version": string(version),
            "settings": string(json.dumps(dict(settings), ensure_ascii=False)),
        }
        arguments = _condition(expected, absent=absent)
        with aws_errors(DYNAMODB):
            try:
                response = self._client.put_item(TableName=self._table, Item=item, ReturnValues="ALL_OLD", **arguments)
            except ClientError as error:
                # A repeat of a write that took effect finds its own version.
                if _is_condition_failed(error) and _stored_version(error) == version:
                    return None if absent else StoredSettings(name, {}, expected or "")
                raise _condition_failed(error) from None
        return read_settings(name, response.get("Attributes"))

    def delete(self, name: ConnectionName, *, expected: str | None) -> bool:
        with aws_errors(DYNAMODB):
            try:
                response = self._client.delete_item(
                    TableName=self._table,
                    Key={"pk": string(connection_pk(name))},
                    ReturnValues="ALL_OLD",
                    **_condition(expected, absent=False),
                )
            except ClientError as error:
                if _is_condition_failed(error) and conflicting_item(error) is None:
                    # It is gone: this is a repeat of a delete whose response was lost.
                    return False
                raise _condition_failed(error) from None
        return bool(response.get("Attributes"))

    def page(self, limit: int, cursor: str | None) -> tuple[list[StoredSettings], str | None]:
        arguments: dict[str, Any] = {}
        if cursor is not None:
            arguments["ExclusiveStartKey"] = {"pk": string(_read_cursor(cursor))}
        with aws_errors(DYNAMODB):
            page = self._client.scan(TableName=self._table, Limit=limit, ConsistentRead=True, **arguments)
        found = [stored for item in page["Items"] if (stored := _read(item)) is not None]
        following = page.get("LastEvaluatedKey")
        return found, _write_cursor(following["pk"]["S"]) if following else None


def _condition(expected: str | None, *, absent: bool) -> dict[str, Any]:
    if absent or expected == ANY_VERSION:
        return {
            "ConditionExpression": "attribute_not_exists(pk)" if absent else "attribute_exists(pk)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
    if expected is not None:
        return {
            "ConditionExpression": "version = :expected",
            "ExpressionAttributeValues": {":expected": string(expected)},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
    return {}


def _is_condition_failed(error: ClientError) -> bool:
    return error_code(error) == "ConditionalCheckFailedException"


def _condition_failed(error: ClientError) -> Exception:
    return ConditionFailed() if _is_condition_failed(error) else error


def _stored_version(error: ClientError) -> str | None:
    item = conflicting_item(error) or {}
    return item["version"]["S"] if "version" in item else None


def _read(item: Mapping[str, Any]) -> StoredSettings | None:
    name = connection_of(item["pk"]["S"])
    return None if name is None else read_settings(name, item)


def _write_cursor(pk: str) -> str:
    return base64.urlsafe_b64encode(pk.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> str:
    """Raises ValueError for a cursor that does not name a connection."""
    pk = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    if connection_of(pk) is None:
        raise ValueError("not a cursor")
    return pk

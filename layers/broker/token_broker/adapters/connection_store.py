"""The connection store over DynamoDB: settings as they were PUT, with a version."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from token_broker.adapters.aws import answering, error_code, refused_item
from token_broker.adapters.items import FORMAT, number, read_settings, string
from token_broker.core.names import ConnectionName, is_name
from token_broker.ports import ANY_VERSION, StoredSettings, Unclaimed

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DYNAMODB = "DynamoDB"


class DynamoConnectionStore:
    """ConnectionStore (see ports)."""

    def __init__(self, client: DynamoDBClient, *, table: str) -> None:
        self._client = client
        self._table = table

    def get(self, name: ConnectionName) -> StoredSettings | None:
        with answering(DYNAMODB):
            answer = self._client.get_item(TableName=self._table, Key={"pk": string(name.pk)}, ConsistentRead=True)
        return read_settings(name, answer.get("Item"))

    def put(
        self, name: ConnectionName, settings: Mapping[str, Any], *, version: str, expected: str | None, absent: bool
    ) -> StoredSettings | None:
        item = {
            "pk": string(name.pk),
            "format": number(FORMAT),
            "version": string(version),
            "settings": string(json.dumps(dict(settings), ensure_ascii=False)),
        }
        arguments = _condition(expected, absent=absent)
        with answering(DYNAMODB):
            try:
                answer = self._client.put_item(TableName=self._table, Item=item, ReturnValues="ALL_OLD", **arguments)
            except ClientError as error:
                # A write that took effect and was repeated finds its own version.
                if _is_refused(error) and _version_there(error) == version:
                    return None if absent else StoredSettings(name, {}, expected or "")
                raise _unclaimed(error) from None
        return read_settings(name, answer.get("Attributes"))

    def delete(self, name: ConnectionName, *, expected: str | None) -> bool:
        with answering(DYNAMODB):
            try:
                answer = self._client.delete_item(
                    TableName=self._table,
                    Key={"pk": string(name.pk)},
                    ReturnValues="ALL_OLD",
                    **_condition(expected, absent=False),
                )
            except ClientError as error:
                raise _unclaimed(error) from None
        return bool(answer.get("Attributes"))

    def page(self, limit: int, cursor: str | None) -> tuple[list[StoredSettings], str | None]:
        arguments: dict[str, Any] = {}
        if cursor is not None:
            arguments["ExclusiveStartKey"] = {"pk": string(_read_cursor(cursor))}
        with answering(DYNAMODB):
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


def _is_refused(error: ClientError) -> bool:
    return error_code(error) == "ConditionalCheckFailedException"


def _unclaimed(error: ClientError) -> Exception:
    return Unclaimed() if _is_refused(error) else error


def _version_there(error: ClientError) -> str | None:
    item = refused_item(error) or {}
    return item["version"]["S"] if "version" in item else None


def _name(pk: str) -> ConnectionName | None:
    provider, _, connection = pk.removeprefix("C#").partition("/")
    return ConnectionName(provider, connection) if is_name(provider) and is_name(connection) else None


def _read(item: Mapping[str, Any]) -> StoredSettings | None:
    name = _name(item["pk"]["S"])
    return None if name is None else read_settings(name, item)


def _write_cursor(pk: str) -> str:
    return base64.urlsafe_b64encode(pk.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> str:
    """Raises ValueError for a cursor that names no connection."""
    pk = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    if not pk.startswith("C#") or _name(pk) is None:
        raise ValueError("not a cursor")
    return pk

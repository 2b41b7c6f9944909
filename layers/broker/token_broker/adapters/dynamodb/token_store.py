"""The token store over DynamoDB. A write of a lease holder takes effect only while it owns the lease.

time ─────────────────────────────────────────────────────────────────────▶
holder A   take_lease(A) ──── asks the provider ──── stalls ───────── commit(A): refused, owner is B
lease      |──────────── 17 s ────────────|+1 s|
holder B        refused, waits ...              take_lease(B) ── asks ── commit(B): stored
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from token_broker.adapters.aws import aws_errors
from token_broker.adapters.dynamodb.budgets import Budgets
from token_broker.adapters.dynamodb.connection_health import ConnectionHealthItems
from token_broker.adapters.dynamodb.due_index import DueIndex
from token_broker.adapters.dynamodb.items import (
    FORMAT,
    REFRESH_ATTRIBUTES,
    TOKEN_ATTRIBUTES,
    Item,
    failure_map,
    moment,
    number,
    read_health,
    read_record,
    read_settings,
    refresh_attributes,
    retired_list,
    seconds,
    string,
    token_attributes,
)
from token_broker.adapters.dynamodb.keys import HEALTH, connection_pk, health_key, token_key, token_sk
from token_broker.adapters.dynamodb.token_table import DYNAMODB, KEEP, MAX_TRIES, TokenTable, due_attributes
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import CLOCK_TOLERANCE, ConnectionHealth, RetiredToken, TokenRecord
from token_broker.errors import BrokerUnavailable
from token_broker.ports import Commit, StoredSettings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LONGEST_KEEP = timedelta(days=90)

LEASE_IS_FREE = "(attribute_not_exists(lease_until) OR lease_until <= :taken_over)"
NEVER_LEASED = "attribute_not_exists(lease_owner)"
SAME_LAST_OWNER = "lease_owner = :last_owner"
IS_MINE = "lease_owner = :owner"


class DynamoTokenStore(ConnectionHealthItems, Budgets, DueIndex):
    """TokenStore (see ports) over two tables: the token table, and the settings read along with a token."""

    def __init__(self, client: DynamoDBClient, *, token_table: str, connection_table: str) -> None:
        self._table = TokenTable(client, token_table)
        self._connections = connection_table

    def read(self, key: TokenKey) -> tuple[StoredSettings | None, TokenRecord]:
        settings, item, health = self._read(key.name, key.scope_id)
        return settings, read_record(key, item, health)

    def read_due(self, name: ConnectionName, scope_id: str) -> tuple[StoredSettings | None, TokenRecord | None]:
        settings, item, health = self._read(name, scope_id)
        if item is None or "scope" not in item:
            return settings, None
        return settings, read_record(TokenKey(name, item["scope"]["S"]), item, health)

    def _read(self, name: ConnectionName, scope_id: str) -> tuple[StoredSettings | None, Item | None, ConnectionHealth]:
        pk, sk = connection_pk(name), token_sk(scope_id)
        wanted: dict[str, Any] = {
            self._connections: {"Keys": [{"pk": string(pk)}], "ConsistentRead": True},
            self._table.name: {
                "Keys": [
                    {"pk": string(pk), "sk": string(sk)},
                    {"pk": string(pk), "sk": string(HEALTH)},
                ],
                "ConsistentRead": True,
            },
        }
        found: dict[str, Item] = {}
        for _ in range(MAX_TRIES):
            with aws_errors(DYNAMODB):
                response = self._table.client.batch_get_item(RequestItems=wanted)
            for items in response["Responses"].values():
                found.update({item["sk"]["S"] if "sk" in item else "": item for item in items})
            wanted = dict(response.get("UnprocessedKeys") or {})
            if not wanted:
                return read_settings(name, found.get("")), found.get(sk), read_health(found.get(HEALTH))
        raise BrokerUnavailable("DynamoDB left keys unprocessed.")

    def records(self, name: ConnectionName) -> list[TokenRecord]:
        items: list[Item] = []
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
            items += page["Items"]
            if "LastEvaluatedKey" not in page:
                break
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
        health = read_health(next((item for item in items if item["sk"]["S"] == HEALTH), None))
        return [read_record(TokenKey(name, item["scope"]["S"]), item, health) for item in items if "scope" in item]

    def take_lease(
        self, read_as: TokenRecord, owner: str, *, now: datetime, until: datetime, mark_refresh: bool
    ) -> tuple[bool, TokenRecord]:
        key, unchanged = read_as.key, NEVER_LEASED
        # if_not_exists: without a stored refresh token there is nothing to mark, but the expression needs a value.
        mark = ", refresh_sent = if_not_exists(refresh_id, :none)" if mark_refresh else ""
        values: dict[str, Any] = {
            ":format": number(FORMAT),
            ":scope": string(key.scope),
            ":owner": string(owner),
            ":until": moment(until),
            ":taken_over": moment(now - CLOCK_TOLERANCE),
            ":kept": seconds(now + KEEP),
        }
        if mark_refresh:
            values[":none"] = string("")
        if read_as.last_owner is not None:
            unchanged, values[":last_owner"] = SAME_LAST_OWNER, string(read_as.last_owner)
        taken, item = self._table.update(
            token_key(key),
            f"SET #format = :format, #scope = :scope, lease_owner = :owner, lease_until = :until{mark}, "
            "#ttl = if_not_exists(#ttl, :kept)",
            values,
            condition=f"{IS_MINE} OR ({LEASE_IS_FREE} AND {unchanged})",
            names={"#format": "format", "#scope": "scope", "#ttl": "ttl"},
        )
        return taken, read_record(key, item, ConnectionHealth())

    def note_report(self, key: TokenKey, owner: str, *, count: int, until: datetime) -> None:
        self._table.update(
            token_key(key),
            "SET rejections = :count, rejected_until = :until",
            {":count": number(count), ":until": moment(until), ":owner": string(owner)},
            condition=IS_MINE,
        )

    def commit(self, key: TokenKey, owner: str, commit: Commit) -> TokenRecord | None:
        record, write = commit.read_as, commit
        for _ in range(MAX_TRIES):
            stored, item = self._commit(key, owner, write, record)
            if stored:
                return None
            record = read_record(key, item, ConnectionHealth())
            if record.last_owner != owner:
                return record
            write = commit.over(record)
        raise BrokerUnavailable("The token's item changes faster than it can be written.")

    def _commit(self, key: TokenKey, owner: str, commit: Commit, record: TokenRecord) -> tuple[bool, Item | None]:
        """One write over `record`. It takes effect only if `owner` owns the lease and `record` is still as stored."""
        values = token_attributes(commit.token)
        values["retired"] = retired_list(commit.retired)
        values["ttl"] = seconds(_keep_until(commit))
        removed = ["lease_until", "failure", "refresh_sent"]
        if commit.refresh_token is not None:
            values |= refresh_attributes(commit.refresh_token)
        removed += [name for name in REFRESH_ATTRIBUTES if name not in values and name not in removed]
        if commit.used:
            values["last_used_at"] = moment(commit.now)
        if not commit.keep_rejections:
            removed += ["rejections", "rejected_until"]
        if commit.due_at is not None:
            values |= due_attributes(key, commit.due_at)
        else:
            removed += ["due_at", "due_shard"]
        if record.stale_at == commit.read_as.stale_at:
            removed.append("stale_at")
        expression_values = {f":{name}": value for name, value in values.items()}
        expression_values |= {":owner": string(owner), ":before": retired_list(record.retired)}
        same_version, stale_at = _same_version(record)
        expression_values |= stale_at
        sets = ", ".join(f"#{name} = :{name}" for name in values)
        return self._table.update(
            token_key(key),
            f"SET {sets} REMOVE {', '.join(removed)}",
            expression_values,
            condition=f"{IS_MINE} AND {same_version} AND {_same_retired(record)}",
            names={f"#{name}": name for name in values},
        )

    def end_lease(self, key: TokenKey, owner: str, *, unmark_refresh: bool = False) -> None:
        removed = "lease_until, refresh_sent" if unmark_refresh else "lease_until"
        self._table.update(token_key(key), f"REMOVE {removed}", {":owner": string(owner)}, condition=IS_MINE)

    def release(
        self,
        read_as: TokenRecord,
        owner: str,
        *,
        now: datetime,
        failure: Failure | None = None,
        unmark_refresh: bool = False,
        due_at: datetime | None = None,
    ) -> None:
        key, record = read_as.key, read_as
        for _ in range(MAX_TRIES):
            values: dict[str, Any] = {} if due_at is None else due_attributes(key, due_at)
            removed = ["lease_until"] + (["due_at", "due_shard"] if due_at is None else [])
            if failure is not None:
                values["failure"] = failure_map(failure)
            if unmark_refresh:
                removed.append("refresh_sent")
            sets = ", ".join(f"{name} = :{name}" for name in values)
            expression_values = {f":{name}": value for name, value in values.items()} | {":owner": string(owner)}
            same_version, stale_at = _same_version(record)
            released, item = self._table.update(
                token_key(key),
                f"{'SET ' + sets if sets else ''} REMOVE {', '.join(removed)}",
                expression_values | stale_at,
                condition=f"{IS_MINE} AND {same_version}",
            )
            record = read_record(key, item, ConnectionHealth())
            if released or record.last_owner != owner:
                return
            due_at = now

    def end_cooldowns(self, name: ConnectionName) -> None:
        for key in [health_key(name), *(token_key(record.key) for record in self.records(name) if record.failure)]:
            self._table.update(
                key,
                "REMOVE failure, rate_limit, unresolved_logins, new_versions",
                {},
                condition="attribute_exists(pk)",
            )

    def note_use(self, key: TokenKey, *, now: datetime, due_at: datetime | None) -> None:
        values = {"last_used_at": moment(now)} | (due_attributes(key, due_at) if due_at is not None else {})
        sets = ", ".join(f"{name} = :{name}" for name in values)
        # An item that was purged or has expired must not come back without a token.
        self._table.update(
            token_key(key),
            f"SET {sets}",
            {f":{name}": value for name, value in values.items()},
            condition="attribute_exists(#token)",
            names={"#token": "token"},
        )

    def mark_stale(self, name: ConnectionName, now: datetime) -> int:
        marked = 0
        for record in self.records(name):
            values = {"stale_at": moment(now)} | due_attributes(record.key, now)
            done, _ = self._table.update(
                token_key(record.key),
                "SET " + ", ".join(f"{attribute} = :{attribute}" for attribute in values),
                {f":{attribute}": value for attribute, value in values.items()},
                condition="attribute_exists(pk)",
            )
            marked += done
        return marked

    def purge(self, record: TokenRecord, revocation_settings: Mapping[str, Any], now: datetime) -> TokenRecord:
        key = record.key
        for _ in range(MAX_TRIES):
            values: dict[str, Any] = {
                ":retired": retired_list(record.tokens_to_revoke(now)),
                ":with": string(json.dumps(dict(revocation_settings))),
                ":before": retired_list(record.retired),
            }
            # A token that was committed since it was read must be among those to revoke.
            unchanged = "attribute_not_exists(#token_id)"
            if record.token is not None:
                unchanged, values[":seen"] = "#token_id = :seen", string(record.token.token_id)
            values |= {f":{name}": value for name, value in due_attributes(key, now + timedelta(minutes=1)).items()}
            # A lease owner that matches no process: no lease can follow on a read before the purge.
            values[":fence"] = string(f"purge-{uuid.uuid4().hex}")
            gone = [*TOKEN_ATTRIBUTES, *REFRESH_ATTRIBUTES, "lease_until", "failure", "stale_at", "last_used_at"]
            done, item = self._table.update(
                token_key(key),
                "SET retired = :retired, revocation_settings = :with, due_shard = :due_shard, due_at = :due_at, "
                f"lease_owner = :fence REMOVE {', '.join('#' + name for name in gone)}, rejections, rejected_until",
                values,
                condition=f"attribute_exists(pk) AND {unchanged} AND {_same_retired(record)}",
                names={f"#{name}": name for name in gone},
            )
            if done:
                return record
            record = read_record(key, item, record.health)
            if not record.exists:
                return record
        raise BrokerUnavailable("The token's item changes faster than it can be written.")

    def retire(
        self, key: TokenKey, token: RetiredToken, revocation_settings: Mapping[str, Any], due_at: datetime
    ) -> None:
        self._table.update(
            token_key(key),
            "SET retired = list_append(if_not_exists(retired, :empty), :retired), "
            "revocation_settings = if_not_exists(revocation_settings, :with), due_shard = :due_shard, due_at = :due_at",
            {
                ":empty": {"L": []},
                ":retired": retired_list([token]),
                ":with": string(json.dumps(dict(revocation_settings))),
                **{f":{name}": value for name, value in due_attributes(key, due_at).items()},
            },
            condition="attribute_exists(pk)",
        )

    def forget_retired(self, key: TokenKey, token_ids: Sequence[str]) -> None:
        for _ in range(MAX_TRIES):
            record = next((found for found in self.records(key.name) if found.key == key), None)
            if record is None:
                return
            kept = [item for item in record.retired if item.token_id not in token_ids]
            done, _item = self._table.update(
                token_key(key),
                "SET retired = :kept" + ("" if kept else " REMOVE revocation_settings"),
                {":kept": retired_list(kept), ":seen": retired_list(record.retired)},
                condition="retired = :seen",
            )
            if done:
                return


def _same_version(record: TokenRecord) -> tuple[str, dict[str, Any]]:
    """The condition that no changed secret was marked since `record` was read, and its value."""
    if record.stale_at is None:
        return "attribute_not_exists(stale_at)", {}
    return "stale_at = :stale_at", {":stale_at": moment(record.stale_at)}


def _same_retired(record: TokenRecord) -> str:
    return "retired = :before" if record.retired else "(retired = :before OR attribute_not_exists(retired))"


def _keep_until(commit: Commit) -> datetime:
    """When DynamoDB may delete the item: two days after all in it has expired."""
    ends = [commit.token.expires_at]
    if commit.refresh_token is not None:
        ends.append(min(commit.refresh_token.expires_at or commit.now + LONGEST_KEEP, commit.now + LONGEST_KEEP))
    return max(ends) + KEEP

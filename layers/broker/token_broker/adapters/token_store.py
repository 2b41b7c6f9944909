"""The token store over DynamoDB. Every write of a lease holder is conditional on its ownership.

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

from token_broker.adapters.aws import answering
from token_broker.adapters.budgets import Budgets
from token_broker.adapters.due_index import DueIndex
from token_broker.adapters.guards import Guards
from token_broker.adapters.items import (
    FORMAT,
    GUARD,
    REFRESH_ATTRIBUTES,
    TOKEN_ATTRIBUTES,
    Item,
    failure_map,
    moment,
    number,
    read_guard,
    read_record,
    read_settings,
    refresh_attributes,
    retired_list,
    seconds,
    string,
    token_attributes,
)
from token_broker.adapters.token_table import DYNAMODB, KEEP, MAX_TRIES, TokenTable, due_attributes
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.tokens import CLOCK_TOLERANCE, Guard, Refresh, Retired, TokenRecord
from token_broker.errors import BrokerUnavailable
from token_broker.ports import Commit, StoredSettings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LONGEST_KEEP = timedelta(days=90)

LEASE_IS_FREE = "(attribute_not_exists(lease_until) OR lease_until <= :taken_over)"
NOBODY_LED = "attribute_not_exists(lease_owner)"
SAME_LED = "lease_owner = :seen"
IS_MINE = "lease_owner = :owner"


class DynamoTokenStore(Guards, Budgets, DueIndex):
    """TokenStore (see ports) over two tables: the token table, and the settings read along with a token."""

    def __init__(self, client: DynamoDBClient, *, token_table: str, connection_table: str) -> None:
        self._table = TokenTable(client, token_table)
        self._connections = connection_table

    def read(self, key: TokenKey) -> tuple[StoredSettings | None, TokenRecord]:
        settings, item, guard = self._read(key.name, key.sk)
        return settings, read_record(key, item, guard)

    def read_due(self, name: ConnectionName, sk: str) -> tuple[StoredSettings | None, TokenRecord | None]:
        settings, item, guard = self._read(name, sk)
        if item is None or "scope" not in item:
            return settings, None
        return settings, read_record(TokenKey(name, item["scope"]["S"]), item, guard)

    def _read(self, name: ConnectionName, sk: str) -> tuple[StoredSettings | None, Item | None, Guard]:
        wanted: dict[str, Any] = {
            self._connections: {"Keys": [{"pk": string(name.pk)}], "ConsistentRead": True},
            self._table.name: {
                "Keys": [
                    {"pk": string(name.pk), "sk": string(sk)},
                    {"pk": string(name.pk), "sk": string(GUARD)},
                ],
                "ConsistentRead": True,
            },
        }
        found: dict[str, Item] = {}
        for _ in range(MAX_TRIES):
            with answering(DYNAMODB):
                answer = self._table.client.batch_get_item(RequestItems=wanted)
            for items in answer["Responses"].values():
                found.update({item["sk"]["S"] if "sk" in item else "": item for item in items})
            wanted = dict(answer.get("UnprocessedKeys") or {})
            if not wanted:
                return read_settings(name, found.get("")), found.get(sk), read_guard(found.get(GUARD))
        raise BrokerUnavailable("DynamoDB does not answer as it should.")

    def records(self, name: ConnectionName) -> list[TokenRecord]:
        items: list[Item] = []
        start: dict[str, Any] = {}
        while True:
            with answering(DYNAMODB):
                page = self._table.client.query(
                    TableName=self._table.name,
                    KeyConditionExpression="pk = :pk",
                    ExpressionAttributeValues={":pk": string(name.pk)},
                    ConsistentRead=True,
                    **start,
                )
            items += page["Items"]
            if "LastEvaluatedKey" not in page:
                break
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
        guard = read_guard(next((item for item in items if item["sk"]["S"] == GUARD), None))
        return [read_record(TokenKey(name, item["scope"]["S"]), item, guard) for item in items if "scope" in item]

    def take_lease(
        self, seen: TokenRecord, owner: str, *, now: datetime, until: datetime, mark_refresh: bool
    ) -> tuple[bool, TokenRecord]:
        key, unchanged = seen.key, NOBODY_LED
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
        if seen.last_owner is not None:
            unchanged, values[":seen"] = SAME_LED, string(seen.last_owner)
        taken, item = self._table.update(
            key.pk,
            key.sk,
            f"SET #format = :format, #scope = :scope, lease_owner = :owner, lease_until = :until{mark}, "
            "#ttl = if_not_exists(#ttl, :kept)",
            values,
            condition=f"{IS_MINE} OR ({LEASE_IS_FREE} AND {unchanged})",
            names={"#format": "format", "#scope": "scope", "#ttl": "ttl"},
        )
        return taken, read_record(key, item, Guard())

    def note_rejection(self, key: TokenKey, owner: str, *, count: int, until: datetime) -> None:
        self._table.update(
            key.pk,
            key.sk,
            "SET rejections = :count, rejected_until = :until",
            {":count": number(count), ":until": moment(until), ":owner": string(owner)},
            condition=IS_MINE,
        )

    def commit(self, key: TokenKey, owner: str, commit: Commit) -> TokenRecord | None:
        record, write = commit.seen, commit
        for _ in range(MAX_TRIES):
            stored, item = self._commit(key, owner, write, record)
            if stored:
                return None
            record = read_record(key, item, Guard())
            if record.last_owner != owner:
                return record
            write = commit.after(record)
        raise BrokerUnavailable("The token's item changes faster than it can be written.")

    def _commit(self, key: TokenKey, owner: str, commit: Commit, record: TokenRecord) -> tuple[bool, Item | None]:
        """One write over `record`: it holds only while nobody else leads and nothing was added to the item."""
        values = token_attributes(commit.token)
        values["retired"] = retired_list(commit.retired)
        values["ttl"] = seconds(_keep_until(commit))
        removed = ["lease_until", "failure", "refresh_sent"]
        if commit.refresh is not None:
            values |= refresh_attributes(commit.refresh)
        removed += [name for name in REFRESH_ATTRIBUTES if name not in values and name not in removed]
        if commit.used:
            values["last_used_at"] = moment(commit.now)
        if not commit.keep_rejections:
            removed += ["rejections", "rejected_until"]
        if commit.due_at is not None:
            values |= due_attributes(key, commit.due_at)
        else:
            removed += ["due_at", "due_shard"]
        if record.stale_at == commit.seen.stale_at:
            removed.append("stale_at")
        expression_values = {f":{name}": value for name, value in values.items()}
        expression_values |= {":owner": string(owner), ":before": retired_list(record.retired)}
        same_version, stale_at = _same_version(record)
        expression_values |= stale_at
        sets = ", ".join(f"#{name} = :{name}" for name in values)
        return self._table.update(
            key.pk,
            key.sk,
            f"SET {sets} REMOVE {', '.join(removed)}",
            expression_values,
            condition=f"{IS_MINE} AND {same_version} AND {_same_retired(record)}",
            names={f"#{name}": name for name in values},
        )

    def end_lease(self, key: TokenKey, owner: str, *, unmark_refresh: bool = False) -> None:
        removed = "lease_until, refresh_sent" if unmark_refresh else "lease_until"
        self._table.update(key.pk, key.sk, f"REMOVE {removed}", {":owner": string(owner)}, condition=IS_MINE)

    def release(
        self,
        seen: TokenRecord,
        owner: str,
        *,
        now: datetime,
        failure: Failure | None = None,
        unmark_refresh: bool = False,
        due_at: datetime | None = None,
    ) -> None:
        key, record = seen.key, seen
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
                key.pk,
                key.sk,
                f"{'SET ' + sets if sets else ''} REMOVE {', '.join(removed)}",
                expression_values | stale_at,
                condition=f"{IS_MINE} AND {same_version}",
            )
            record = read_record(key, item, Guard())
            if released or record.last_owner != owner:
                return
            due_at = now

    def end_rests(self, name: ConnectionName) -> None:
        for sk in [GUARD, *(record.key.sk for record in self.records(name) if record.failure is not None)]:
            self._table.update(
                name.pk, sk, "REMOVE failure, rate_limit, unresolved, tried", {}, condition="attribute_exists(pk)"
            )

    def note_use(self, key: TokenKey, *, now: datetime, due_at: datetime | None) -> None:
        values = {"last_used_at": moment(now)} | (due_attributes(key, due_at) if due_at is not None else {})
        sets = ", ".join(f"{name} = :{name}" for name in values)
        # An item that was purged or expired meanwhile must not come back as a stump.
        self._table.update(
            key.pk,
            key.sk,
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
                record.key.pk,
                record.key.sk,
                "SET " + ", ".join(f"{attribute} = :{attribute}" for attribute in values),
                {f":{attribute}": value for attribute, value in values.items()},
                condition="attribute_exists(pk)",
            )
            marked += done
        return marked

    def purge(self, record: TokenRecord, revoke_with: Mapping[str, Any], now: datetime) -> TokenRecord:
        key = record.key
        for _ in range(MAX_TRIES):
            values: dict[str, Any] = {
                ":retired": retired_list(record.outstanding(now)),
                ":with": string(json.dumps(dict(revoke_with))),
                ":before": retired_list(record.retired),
            }
            # A token that was committed since it was read must be among those to revoke.
            unchanged = "attribute_not_exists(#token_id)"
            if record.token is not None:
                unchanged, values[":seen"] = "#token_id = :seen", string(record.token.token_id)
            values |= {f":{name}": value for name, value in due_attributes(key, now + timedelta(minutes=1)).items()}
            # An owner whom nobody is: whoever looked before the purge and takes the lease after it has to look again.
            values[":fence"] = string(f"purge-{uuid.uuid4().hex}")
            gone = [*TOKEN_ATTRIBUTES, *REFRESH_ATTRIBUTES, "lease_until", "failure", "stale_at", "last_used_at"]
            done, item = self._table.update(
                key.pk,
                key.sk,
                "SET retired = :retired, revoke_with = :with, due_shard = :due_shard, due_at = :due_at, "
                f"lease_owner = :fence REMOVE {', '.join('#' + name for name in gone)}, rejections, rejected_until",
                values,
                condition=f"attribute_exists(pk) AND {unchanged} AND {_same_retired(record)}",
                names={f"#{name}": name for name in gone},
            )
            if done:
                return record
            record = read_record(key, item, record.guard)
            if not record.exists:
                return record
        raise BrokerUnavailable("The token changes faster than it can be dropped.")

    def retire(self, key: TokenKey, token: Retired, revoke_with: Mapping[str, Any], due_at: datetime) -> None:
        self._table.update(
            key.pk,
            key.sk,
            "SET retired = list_append(if_not_exists(retired, :empty), :retired), "
            "revoke_with = if_not_exists(revoke_with, :with), due_shard = :due_shard, due_at = :due_at",
            {
                ":empty": {"L": []},
                ":retired": retired_list([token]),
                ":with": string(json.dumps(dict(revoke_with))),
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
                key.pk,
                key.sk,
                "SET retired = :kept" + ("" if kept else " REMOVE revoke_with"),
                {":kept": retired_list(kept), ":seen": retired_list(record.retired)},
                condition="retired = :seen",
            )
            if done:
                return


def _same_version(record: TokenRecord) -> tuple[str, dict[str, Any]]:
    """The condition that no change of the secret was marked since `record` was read, and its value."""
    if record.stale_at is None:
        return "attribute_not_exists(stale_at)", {}
    return "stale_at = :stale_at", {":stale_at": moment(record.stale_at)}


def _same_retired(record: TokenRecord) -> str:
    return "retired = :before" if record.retired else "(retired = :before OR attribute_not_exists(retired))"


def _keep_until(commit: Commit) -> datetime:
    """When DynamoDB may drop the item: long after all in it has ended."""
    ends = [commit.token.expires_at]
    if isinstance(commit.refresh, Refresh):
        ends.append(min(commit.refresh.expires_at or commit.now + LONGEST_KEEP, commit.now + LONGEST_KEEP))
    return max(ends) + KEEP

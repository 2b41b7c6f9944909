"""The token store over DynamoDB. Every write of a lease holder is conditional on its ownership.

time ─────────────────────────────────────────────────────────────────────▶
holder A   take_lease(A) ──── asks the provider ──── stalls ───────── commit(A): refused, owner is B
lease      |──────────── 17 s ────────────|+1 s|
holder B        refused, waits ...              take_lease(B) ── asks ── commit(B): stored
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from token_broker.adapters.aws import answering, error_code, refused_item
from token_broker.adapters.items import (
    BUDGET,
    FORMAT,
    GUARD,
    REFRESH_ATTRIBUTES,
    TOKEN_ATTRIBUTES,
    Item,
    failure_map,
    moment,
    number,
    read_guard,
    read_moment,
    read_record,
    read_settings,
    refresh_attributes,
    retired_list,
    seconds,
    string,
    token_attributes,
)
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.tokens import CLOCK_TOLERANCE, Guard, Refresh, Retired, TokenRecord
from token_broker.errors import BrokerUnavailable
from token_broker.ports import Commit, DueKey, StoredSettings
from token_broker.sweep import SHARDS

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

KEEP = timedelta(days=2)
LONGEST_KEEP = timedelta(days=90)
DYNAMODB = "DynamoDB"
MAX_TRIES = 5

LEASE_IS_FREE = "(attribute_not_exists(lease_until) OR lease_until < :taken_over OR lease_owner = :owner)"
IS_MINE = "lease_owner = :owner"
NOT_STALE = "(attribute_not_exists(stale_at) OR stale_at < :read_at)"


class DynamoTokenStore:
    """TokenStore (see ports) over two tables: the token table, and the settings read along with a token."""

    def __init__(self, client: DynamoDBClient, *, token_table: str, connection_table: str) -> None:
        self._client = client
        self._table = token_table
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
            self._table: {
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
                answer = self._client.batch_get_item(RequestItems=wanted)
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
                page = self._client.query(
                    TableName=self._table,
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
        self, key: TokenKey, owner: str, *, now: datetime, until: datetime, mark_refresh: bool
    ) -> tuple[bool, TokenRecord]:
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
        taken, item = self._update(
            key.pk,
            key.sk,
            f"SET #format = :format, #scope = :scope, lease_owner = :owner, lease_until = :until{mark}, "
            "#ttl = if_not_exists(#ttl, :kept)",
            values,
            condition=LEASE_IS_FREE,
            names={"#format": "format", "#scope": "scope", "#ttl": "ttl"},
        )
        return taken, read_record(key, item, Guard())

    def note_rejection(self, key: TokenKey, owner: str, *, count: int, until: datetime) -> None:
        self._update(
            key.pk,
            key.sk,
            "SET rejections = :count, rejected_until = :until",
            {":count": number(count), ":until": moment(until), ":owner": string(owner)},
            condition=IS_MINE,
        )

    def commit(self, key: TokenKey, owner: str, commit: Commit) -> TokenRecord | None:
        """A change of the secret since it was read keeps the key due: a second write says so."""
        stored, item = self._commit(key, owner, commit, fresh=True)
        if not stored and item is not None and item.get("lease_owner") == string(owner) and "stale_at" in item:
            stored, item = self._commit(key, owner, commit, fresh=False)
        return None if stored else read_record(key, item, Guard())

    def _commit(self, key: TokenKey, owner: str, commit: Commit, *, fresh: bool) -> tuple[bool, Item | None]:
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
        due_at = commit.due_at if fresh else commit.now
        if due_at is not None:
            values |= _due(key, due_at)
        else:
            removed += ["due_at", "due_shard"]
        if fresh:
            removed.append("stale_at")
        sets = ", ".join(f"#{name} = :{name}" for name in values)
        expression_values = {f":{name}": value for name, value in values.items()} | {":owner": string(owner)}
        if fresh:
            expression_values[":read_at"] = moment(commit.read_at)
        return self._update(
            key.pk,
            key.sk,
            f"SET {sets} REMOVE {', '.join(removed)}",
            expression_values,
            condition=f"{IS_MINE} AND {NOT_STALE}" if fresh else IS_MINE,
            names={f"#{name}": name for name in values},
        )

    def release(
        self,
        key: TokenKey,
        owner: str,
        *,
        failure: Failure | None = None,
        unmark_refresh: bool = False,
        due_at: datetime | None = None,
    ) -> None:
        values: dict[str, Any] = {} if due_at is None else _due(key, due_at)
        removed = ["lease_until"] + (["due_at", "due_shard"] if due_at is None else [])
        if failure is not None:
            values["failure"] = failure_map(failure)
        if unmark_refresh:
            removed.append("refresh_sent")
        sets = ", ".join(f"{name} = :{name}" for name in values)
        self._update(
            key.pk,
            key.sk,
            f"{'SET ' + sets if sets else ''} REMOVE {', '.join(removed)}",
            {f":{name}": value for name, value in values.items()} | {":owner": string(owner)},
            condition=IS_MINE,
        )

    def put_guard(self, name: ConnectionName, failure: Failure, *, settled: bool) -> None:
        self._update(
            name.pk,
            GUARD,
            f"SET failure = :failure, #format = :format, #ttl = :ttl{' REMOVE unresolved' if settled else ''}",
            {
                ":failure": failure_map(failure),
                ":format": number(FORMAT),
                ":ttl": seconds(failure.retry_at + KEEP),
            },
            names={"#format": "format", "#ttl": "ttl"},
        )

    def clear_guard(self, name: ConnectionName, seen: Failure | None) -> None:
        """A newer failure than the one seen is somebody else's news and stays."""
        if seen is None:
            self._update(name.pk, GUARD, "REMOVE unresolved", {}, condition="attribute_exists(pk)")
            return
        self._update(
            name.pk,
            GUARD,
            "REMOVE failure, unresolved, tried",
            {":at": moment(seen.at)},
            condition="failure.#at = :at",
            names={"#at": "at"},
        )

    def end_rests(self, name: ConnectionName) -> None:
        for sk in [GUARD, *(record.key.sk for record in self.records(name) if record.failure is not None)]:
            self._update(name.pk, sk, "REMOVE failure, unresolved, tried", {}, condition="attribute_exists(pk)")

    def begin_attempt(self, name: ConnectionName) -> int:
        with answering(DYNAMODB):
            answer = self._client.update_item(
                TableName=self._table,
                Key={"pk": string(name.pk), "sk": string(GUARD)},
                UpdateExpression="SET #format = :format ADD unresolved :one",
                ExpressionAttributeNames={"#format": "format"},
                ExpressionAttributeValues={":format": number(FORMAT), ":one": number(1)},
                ReturnValues="UPDATED_NEW",
            )
        return int(answer["Attributes"]["unresolved"]["N"])

    def note_version(self, name: ConnectionName, tried: Sequence[tuple[str, datetime]]) -> None:
        entries = [{"M": {"version": string(version), "at": moment(at)}} for version, at in tried]
        self._update(name.pk, GUARD, "SET tried = :tried", {":tried": {"L": entries}})

    def begin_trial(self, name: ConnectionName, *, now: datetime, not_after: datetime) -> bool:
        begun, _ = self._update(
            name.pk,
            GUARD,
            "SET trial_at = :now, #format = :format, #ttl = if_not_exists(#ttl, :kept)",
            {
                ":now": moment(now),
                ":not_after": moment(not_after),
                ":format": number(FORMAT),
                ":kept": seconds(now + KEEP),
            },
            condition="attribute_not_exists(trial_at) OR trial_at <= :not_after",
            names={"#format": "format", "#ttl": "ttl"},
        )
        return begun

    def note_use(self, key: TokenKey, *, now: datetime, due_at: datetime | None) -> None:
        values = {"last_used_at": moment(now)} | (_due(key, due_at) if due_at is not None else {})
        sets = ", ".join(f"{name} = :{name}" for name in values)
        # An item that was purged or expired meanwhile must not come back as a stump.
        self._update(
            key.pk,
            key.sk,
            f"SET {sets}",
            {f":{name}": value for name, value in values.items()},
            condition="attribute_exists(#token)",
            names={"#token": "token"},
        )

    def set_due(self, key: TokenKey, due_at: datetime, *, scope: bool = False) -> None:
        values = _due(key, due_at)
        if scope:
            values |= {"scope": string(key.scope), "format": number(FORMAT), "ttl": seconds(due_at + KEEP)}
        self._update(
            key.pk,
            key.sk,
            "SET " + ", ".join(f"#{name} = :{name}" for name in values),
            {f":{name}": value for name, value in values.items()},
            condition=None if scope else "attribute_exists(pk)",
            names={f"#{name}": name for name in values},
        )

    def drop_due(self, key: TokenKey) -> None:
        self._update(key.pk, key.sk, "REMOVE due_at, due_shard", {}, condition="attribute_exists(pk)")

    def mark_stale(self, name: ConnectionName, now: datetime) -> int:
        marked = 0
        for record in self.records(name):
            values = {"stale_at": moment(now)} | _due(record.key, now)
            done, _ = self._update(
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
            }
            # A token that was committed since it was read must be among those to revoke.
            unchanged = "attribute_not_exists(#token_id)"
            if record.token is not None:
                unchanged, values[":seen"] = "#token_id = :seen", string(record.token.token_id)
            values |= {f":{name}": value for name, value in _due(key, now + timedelta(minutes=1)).items()}
            gone = [*TOKEN_ATTRIBUTES, *REFRESH_ATTRIBUTES, "lease_owner", "lease_until", "failure", "stale_at"]
            done, item = self._update(
                key.pk,
                key.sk,
                "SET retired = :retired, revoke_with = :with, due_shard = :due_shard, due_at = :due_at "
                f"REMOVE {', '.join('#' + name for name in gone)}, rejections, rejected_until",
                values,
                condition=f"attribute_exists(pk) AND {unchanged}",
                names={f"#{name}": name for name in gone},
            )
            if done:
                return record
            record = read_record(key, item, record.guard)
            if not record.exists:
                return record
        raise BrokerUnavailable("The token changes faster than it can be dropped.")

    def retire(self, key: TokenKey, token: Retired, revoke_with: Mapping[str, Any], due_at: datetime) -> None:
        self._update(
            key.pk,
            key.sk,
            "SET retired = list_append(if_not_exists(retired, :empty), :retired), "
            "revoke_with = if_not_exists(revoke_with, :with), due_shard = :due_shard, due_at = :due_at",
            {
                ":empty": {"L": []},
                ":retired": retired_list([token]),
                ":with": string(json.dumps(dict(revoke_with))),
                **{f":{name}": value for name, value in _due(key, due_at).items()},
            },
            condition="attribute_exists(pk)",
        )

    def forget_retired(self, key: TokenKey, token_ids: Sequence[str]) -> None:
        for _ in range(MAX_TRIES):
            record = next((found for found in self.records(key.name) if found.key == key), None)
            if record is None:
                return
            kept = [item for item in record.retired if item.token_id not in token_ids]
            done, _item = self._update(
                key.pk,
                key.sk,
                "SET retired = :kept" + ("" if kept else " REMOVE revoke_with"),
                {":kept": retired_list(kept), ":seen": retired_list(record.retired)},
                condition="retired = :seen",
            )
            if done:
                return

    def due(self, shard: int, *, until: datetime) -> Sequence[DueKey]:
        found: list[DueKey] = []
        start: dict[str, Any] = {}
        while True:
            with answering(DYNAMODB):
                page = self._client.query(
                    TableName=self._table,
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
        claimed, _ = self._update(
            due.pk,
            due.sk,
            "SET due_at = :until",
            {":until": moment(until), ":seen": moment(due.due_at)},
            condition="due_at = :seen",
        )
        return claimed

    def take_budget(self, host: str, *, now: datetime, limit: int) -> datetime | None:
        minute = now.replace(second=0, microsecond=0)
        values: dict[str, Any] = {":minute": moment(minute), ":one": number(1), ":now": moment(now)}
        awake = "(attribute_not_exists(rest_until) OR rest_until <= :now)"
        for _ in range(MAX_TRIES):
            taken, item = self._update(
                f"H#{host}",
                BUDGET,
                "ADD taken :one",
                values | {":limit": number(limit)},
                condition=f"minute_at = :minute AND taken < :limit AND {awake}",
            )
            if taken:
                return None
            rest_until = read_moment(item or {}, "rest_until")
            if rest_until is not None and rest_until > now:
                return rest_until
            if item is not None and read_moment(item, "minute_at") == minute:
                return minute + timedelta(minutes=1)
            begun, _item = self._update(
                f"H#{host}",
                BUDGET,
                "SET minute_at = :minute, taken = :one, #format = :format, #ttl = :ttl",
                {
                    ":minute": moment(minute),
                    ":one": number(1),
                    ":now": moment(now),
                    ":format": number(FORMAT),
                    ":ttl": seconds(now + KEEP),
                },
                condition=f"(attribute_not_exists(minute_at) OR minute_at < :minute) AND {awake}",
                names={"#format": "format", "#ttl": "ttl"},
            )
            if begun:
                return None
        return minute + timedelta(minutes=1)

    def rest_host(self, host: str, until: datetime) -> None:
        self._update(
            f"H#{host}",
            BUDGET,
            "SET rest_until = :until, #format = :format, #ttl = :ttl",
            {":until": moment(until), ":format": number(FORMAT), ":ttl": seconds(until + KEEP)},
            condition="attribute_not_exists(rest_until) OR rest_until < :until",
            names={"#format": "format", "#ttl": "ttl"},
        )

    def _update(
        self,
        pk: str,
        sk: str,
        expression: str,
        values: Mapping[str, Any],
        *,
        condition: str | None = None,
        names: Mapping[str, str] | None = None,
    ) -> tuple[bool, Item | None]:
        """One conditional write. Returns whether it held, and the item as it was before (or as it stands, if not)."""
        arguments: dict[str, Any] = {}
        if condition is not None:
            arguments["ConditionExpression"] = condition
            arguments["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        if values:
            arguments["ExpressionAttributeValues"] = dict(values)
        if names:
            arguments["ExpressionAttributeNames"] = dict(names)
        with answering(DYNAMODB):
            try:
                answer = self._client.update_item(
                    TableName=self._table,
                    Key={"pk": string(pk), "sk": string(sk)},
                    UpdateExpression=expression.strip(),
                    ReturnValues="ALL_OLD",
                    **arguments,
                )
            except ClientError as error:
                if error_code(error) != "ConditionalCheckFailedException":
                    raise
                return False, refused_item(error)
        return True, answer.get("Attributes")


def _due(key: TokenKey, due_at: datetime) -> dict[str, Any]:
    """Where a key stands on the due index. The shard is the key's own: half a byte of its hash."""
    return {"due_shard": number(int(key.sk[2:4], 16) % SHARDS), "due_at": moment(due_at)}


def _keep_until(commit: Commit) -> datetime:
    """When DynamoDB may drop the item: long after all in it has ended."""
    ends = [commit.token.expires_at]
    if isinstance(commit.refresh, Refresh):
        ends.append(min(commit.refresh.expires_at or commit.now + LONGEST_KEEP, commit.now + LONGEST_KEEP))
    return max(ends) + KEEP

"""The token store in memory, under the same contract as the one over DynamoDB."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from tests.fakes.connection_store import InMemoryConnectionStore
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import CLOCK_TOLERANCE, ConnectionHealth, Lease, RetiredToken, TokenRecord
from token_broker.core.schedule import SHARDS, shard_of
from token_broker.ports import Commit, ConnectionStore, DueKey, StoredSettings

MINUTE = timedelta(minutes=1)


@dataclass(slots=True)
class _Budget:
    minute_at: datetime
    taken: int = 0
    cooldown_until: datetime | None = None


class InMemoryTokenStore:
    """TokenStore (see ports). Each call touches only its own keys: a simulated day makes millions of calls."""

    def __init__(self, connections: ConnectionStore | None = None) -> None:
        self._connections = connections or InMemoryConnectionStore()
        self._items: dict[TokenKey, TokenRecord] = {}
        self._keys: defaultdict[ConnectionName, list[TokenKey]] = defaultdict(list)
        # The due index: per shard its entries (due_at, connection, scope_id), sorted.
        self._due: list[list[tuple[datetime, str, str]]] = [[] for _ in range(SHARDS)]
        self._keys_by_id: dict[tuple[str, str], TokenKey] = {}
        self._health: dict[ConnectionName, ConnectionHealth] = {}
        self._purges = itertools.count(1)
        self._last_logins: dict[ConnectionName, tuple[str, str]] = {}
        self._budgets: dict[str, _Budget] = {}

    def read(self, key: TokenKey) -> tuple[StoredSettings | None, TokenRecord]:
        return self._connections.get(key.name), self._with_health(self._record(key))

    def read_due(self, name: ConnectionName, scope_id: str) -> tuple[StoredSettings | None, TokenRecord | None]:
        key = self._keys_by_id.get((str(name), scope_id))
        return self._connections.get(name), self._with_health(self._items[key]) if key is not None else None

    def records(self, name: ConnectionName) -> list[TokenRecord]:
        return [self._with_health(self._items[key]) for key in self._keys.get(name, ())]

    def take_lease(
        self, read_as: TokenRecord, owner: str, *, now: datetime, until: datetime, mark_refresh: bool
    ) -> tuple[bool, TokenRecord]:
        before = self._record(read_as.key)
        is_held = before.lease is not None and before.lease.until > now - CLOCK_TOLERANCE
        if before.last_owner != owner and (is_held or before.last_owner != read_as.last_owner):
            return False, before
        refresh = before.refresh_token
        if mark_refresh and refresh is not None:
            refresh = replace(refresh, sent=True)
        self._put(replace(before, exists=True, last_owner=owner, lease=Lease(owner, until), refresh_token=refresh))
        return True, before

    def note_report(self, key: TokenKey, owner: str, *, count: int, until: datetime) -> None:
        if self._owns(key, owner):
            self.change(key, rejections=count, rejected_until=until)

    def commit(self, key: TokenKey, owner: str, commit: Commit) -> TokenRecord | None:
        record = self._record(key)
        if not self._owns(key, owner):
            return record
        is_fresh = record.stale_at == commit.read_as.stale_at
        commit = commit.over(record)
        self.change(
            key,
            token=commit.token,
            refresh_token=commit.refresh_token,
            retired=commit.retired,
            lease=None,
            failure=None,
            stale_at=None if is_fresh else record.stale_at,
            due_at=commit.due_at,
            last_used_at=commit.now if commit.used else record.last_used_at,
            rejections=record.rejections if commit.keep_rejections else 0,
            rejected_until=record.rejected_until if commit.keep_rejections else None,
        )
        return None

    def end_lease(self, key: TokenKey, owner: str, *, unmark_refresh: bool = False) -> None:
        if self._owns(key, owner):
            refresh = self._record(key).refresh_token
            if unmark_refresh and refresh is not None:
                refresh = replace(refresh, sent=False)
            self.change(key, lease=None, refresh_token=refresh)

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
        key = read_as.key
        if self._owns(key, owner):
            self.end_lease(key, owner, unmark_refresh=unmark_refresh)
            record = self._record(key)
            due_at = due_at if record.stale_at == read_as.stale_at else now
            self.change(key, failure=failure or record.failure, due_at=due_at)

    def put_health(
        self, name: ConnectionName, failure: Failure, *, settled: bool, replaced: Failure | None = None
    ) -> None:
        health = self._health_of(name)
        found = health.rate_limit if failure.rate_limited else health.failure
        if found is not None and found.retry_at > failure.retry_at and (replaced is None or replaced.at != found.at):
            failure = found
        health = replace(health, rate_limit=failure) if failure.rate_limited else replace(health, failure=failure)
        self._health[name] = replace(health, unresolved_logins=0) if settled else health

    def clear_health(self, name: ConnectionName, read_as: ConnectionHealth) -> None:
        health = self._health_of(name)
        if read_as.failure is None and read_as.rate_limit is None:
            self._health[name] = replace(health, unresolved_logins=0)
            return
        if health.failure is not None and read_as.failure is not None and health.failure.at == read_as.failure.at:
            health = replace(health, failure=None, unresolved_logins=0, new_versions=())
        if (
            health.rate_limit is not None
            and read_as.rate_limit is not None
            and health.rate_limit.at == read_as.rate_limit.at
        ):
            health = replace(health, rate_limit=None, unresolved_logins=0, new_versions=())
        self._health[name] = health

    def settle_login(self, name: ConnectionName) -> None:
        health = self._health_of(name)
        self._health[name] = replace(health, unresolved_logins=max(health.unresolved_logins - 1, 0))

    def end_cooldowns(self, name: ConnectionName) -> None:
        self._health[name] = replace(
            self._health_of(name), failure=None, rate_limit=None, unresolved_logins=0, new_versions=()
        )
        for record in self.records(name):
            self.change(record.key, failure=None)

    def begin_login(self, name: ConnectionName, owner: str, version: str) -> int:
        health = self._health_of(name)
        last_owner, last_version = self._last_logins.get(name, ("", version))
        if last_version != version:
            health = replace(health, unresolved_logins=0)
        if last_owner != owner:
            health = replace(health, unresolved_logins=health.unresolved_logins + 1)
        self._health[name] = health
        self._last_logins[name] = (owner, version)
        return health.unresolved_logins

    def note_version(self, name: ConnectionName, new_versions: Sequence[tuple[str, datetime]]) -> None:
        self._health[name] = replace(self._health_of(name), new_versions=tuple(new_versions))

    def begin_trial(self, name: ConnectionName, *, now: datetime, not_after: datetime) -> bool:
        health = self._health_of(name)
        if health.trial_at is not None and health.trial_at > not_after:
            return health.trial_at == now
        self._health[name] = replace(health, trial_at=now)
        return True

    def note_use(self, key: TokenKey, *, now: datetime, due_at: datetime | None) -> None:
        record = self._record(key)
        if record.token is not None:
            self.change(key, last_used_at=now, due_at=due_at or record.due_at)

    def make_due(self, key: TokenKey, due_at: datetime) -> None:
        self._put(replace(self._record(key), exists=True, due_at=due_at))

    def put_off(self, read_as: TokenRecord, due_at: datetime | None) -> None:
        if read_as.key in self._items and self._record(read_as.key).due_at == read_as.due_at:
            self.change(read_as.key, due_at=due_at)

    def mark_stale(self, name: ConnectionName, now: datetime) -> int:
        records = self.records(name)
        for record in records:
            self.change(record.key, stale_at=now, due_at=now)
        return len(records)

    def purge(self, record: TokenRecord, revocation_settings: Mapping[str, Any], now: datetime) -> TokenRecord:
        key = record.key
        before = self._with_health(self._record(key))
        if key not in self._items:
            return before
        self._put(
            TokenRecord(
                key,
                last_owner=f"purge-{next(self._purges)}",
                retired=before.tokens_to_revoke(now),
                revocation_settings=dict(revocation_settings),
                due_at=now + MINUTE,
                exists=True,
            )
        )
        return before

    def retire(
        self, key: TokenKey, token: RetiredToken, revocation_settings: Mapping[str, Any], due_at: datetime
    ) -> None:
        record = self._record(key)
        with_settings = (
            record.revocation_settings if record.revocation_settings is not None else dict(revocation_settings)
        )
        self.change(key, retired=(*record.retired, token), revocation_settings=with_settings, due_at=due_at)

    def forget_retired(self, key: TokenKey, token_ids: Sequence[str]) -> None:
        record = self._record(key)
        kept = tuple(item for item in record.retired if item.token_id not in token_ids)
        self.change(key, retired=kept, revocation_settings=record.revocation_settings if kept else None)

    def due(self, shard: int, *, until: datetime) -> Sequence[DueKey]:
        entries = self._due[shard]
        found = entries[: bisect_right(entries, until, key=lambda entry: entry[0])]
        keys = [(self._keys_by_id[name, scope_id], due_at) for due_at, name, scope_id in found]
        return [DueKey(key.name, key.scope_id, due_at) for key, due_at in keys]

    def claim_due(self, due: DueKey, *, until: datetime) -> bool:
        key = self._keys_by_id.get((str(due.name), due.scope_id))
        if key is None or self._items[key].due_at != due.due_at:
            return False
        self.change(key, due_at=until)
        return True

    def take_budget(self, host: str, *, now: datetime, limit: int) -> datetime | None:
        minute = now.replace(second=0, microsecond=0)
        budget = self._budgets.setdefault(host, _Budget(minute))
        if budget.cooldown_until is not None and budget.cooldown_until > now:
            return budget.cooldown_until
        if budget.minute_at < minute:
            budget.minute_at = minute
            budget.taken = 0
        # A request that counts for an earlier minute comes too late.
        if budget.minute_at > minute or budget.taken >= limit:
            return minute + MINUTE
        budget.taken += 1
        return None

    def cool_down_host(self, host: str, until: datetime) -> None:
        budget = self._budgets.setdefault(host, _Budget(datetime.min.replace(tzinfo=until.tzinfo)))
        budget.cooldown_until = max(budget.cooldown_until or until, until)

    def _record(self, key: TokenKey) -> TokenRecord:
        return self._items.get(key) or TokenRecord(key)

    def _health_of(self, name: ConnectionName) -> ConnectionHealth:
        return self._health.get(name, ConnectionHealth())

    def _with_health(self, record: TokenRecord) -> TokenRecord:
        return replace(record, health=self._health_of(record.key.name))

    def _owns(self, key: TokenKey, owner: str) -> bool:
        record = self._items.get(key)
        return record is not None and record.last_owner == owner

    def change(self, key: TokenKey, **fields: Any) -> None:
        """Changes fields of a stored record; a test does the same to tamper with the table."""
        record = self._items.get(key)
        if record is not None:
            self._put(replace(record, **fields))

    def _put(self, record: TokenRecord) -> None:
        """The only write of a key's record. It keeps the index of names and the due index in step."""
        key = record.key
        before = self._items.get(record.key)
        self._items[key] = record
        if before is None:
            self._keys_by_id[str(key.name), key.scope_id] = key
            self._keys[key.name].append(key)
        if record.due_at == (before.due_at if before is not None else None):
            return
        entries = self._due[shard_of(key)]
        name = str(key.name)
        scope_id = key.scope_id
        if before is not None and before.due_at is not None:
            del entries[bisect_left(entries, (before.due_at, name, scope_id))]
        if record.due_at is not None:
            insort(entries, (record.due_at, name, scope_id))

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
from token_broker.core.tokens import CLOCK_TOLERANCE, Guard, Lease, Retired, TokenRecord
from token_broker.ports import Commit, ConnectionStore, DueKey, StoredSettings
from token_broker.sweep import SHARDS, shard_of

MINUTE = timedelta(minutes=1)


@dataclass(slots=True)
class _Budget:
    minute_at: datetime
    taken: int = 0
    rest_until: datetime | None = None


class InMemoryTokenStore:
    """TokenStore (see ports). No call looks at more keys than it is about: a simulated day asks millions of times."""

    def __init__(self, connections: ConnectionStore | None = None) -> None:
        self._connections = connections or InMemoryConnectionStore()
        self._items: dict[TokenKey, TokenRecord] = {}
        self._keys: defaultdict[ConnectionName, list[TokenKey]] = defaultdict(list)
        # The due index: each shard's entries (due_at, pk, sk) in their order.
        self._due: list[list[tuple[datetime, str, str]]] = [[] for _ in range(SHARDS)]
        self._by_place: dict[tuple[str, str], TokenKey] = {}
        self._guards: dict[ConnectionName, Guard] = {}
        self._purges = itertools.count(1)
        self._attempts: dict[ConnectionName, tuple[str, str]] = {}
        self._budgets: dict[str, _Budget] = {}

    def read(self, key: TokenKey) -> tuple[StoredSettings | None, TokenRecord]:
        return self._connections.get(key.name), self._guarded(self._seen(key))

    def read_due(self, name: ConnectionName, sk: str) -> tuple[StoredSettings | None, TokenRecord | None]:
        key = self._by_place.get((name.pk, sk))
        return self._connections.get(name), self._guarded(self._items[key]) if key is not None else None

    def records(self, name: ConnectionName) -> list[TokenRecord]:
        return [self._guarded(self._items[key]) for key in self._keys.get(name, ())]

    def take_lease(
        self, seen: TokenRecord, owner: str, *, now: datetime, until: datetime, mark_refresh: bool
    ) -> tuple[bool, TokenRecord]:
        before = self._seen(seen.key)
        is_held = before.lease is not None and before.lease.until > now - CLOCK_TOLERANCE
        if before.last_owner != owner and (is_held or before.last_owner != seen.last_owner):
            return False, before
        refresh = before.refresh
        if mark_refresh and refresh is not None:
            refresh = replace(refresh, sent=True)
        self._put(replace(before, exists=True, last_owner=owner, lease=Lease(owner, until), refresh=refresh))
        return True, before

    def note_rejection(self, key: TokenKey, owner: str, *, count: int, until: datetime) -> None:
        if self._leads(key, owner):
            self._change(key, rejections=count, rejected_until=until)

    def commit(self, key: TokenKey, owner: str, commit: Commit) -> TokenRecord | None:
        record = self._seen(key)
        if not self._leads(key, owner):
            return record
        is_fresh, commit = record.stale_at == commit.seen.stale_at, commit.after(record)
        self._change(
            key,
            token=commit.token,
            refresh=commit.refresh,
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
        if self._leads(key, owner):
            refresh = self._seen(key).refresh
            if unmark_refresh and refresh is not None:
                refresh = replace(refresh, sent=False)
            self._change(key, lease=None, refresh=refresh)

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
        key = seen.key
        if self._leads(key, owner):
            self.end_lease(key, owner, unmark_refresh=unmark_refresh)
            record = self._seen(key)
            due_at = due_at if record.stale_at == seen.stale_at else now
            self._change(key, failure=failure or record.failure, due_at=due_at)

    def put_guard(self, name: ConnectionName, failure: Failure, *, settled: bool, seen: Failure | None = None) -> None:
        guard = self._guard(name)
        found = guard.limited if failure.limited else guard.failure
        if found is not None and found.retry_at > failure.retry_at and (seen is None or seen.at != found.at):
            failure = found
        guard = replace(guard, limited=failure) if failure.limited else replace(guard, failure=failure)
        self._guards[name] = replace(guard, unresolved=0) if settled else guard

    def clear_guard(self, name: ConnectionName, seen: Guard) -> None:
        guard = self._guard(name)
        if seen.failure is None and seen.limited is None:
            self._guards[name] = replace(guard, unresolved=0)
            return
        if guard.failure is not None and seen.failure is not None and guard.failure.at == seen.failure.at:
            guard = replace(guard, failure=None, unresolved=0, tried=())
        if guard.limited is not None and seen.limited is not None and guard.limited.at == seen.limited.at:
            guard = replace(guard, limited=None, unresolved=0, tried=())
        self._guards[name] = guard

    def settle_attempt(self, name: ConnectionName) -> None:
        guard = self._guard(name)
        self._guards[name] = replace(guard, unresolved=max(guard.unresolved - 1, 0))

    def end_rests(self, name: ConnectionName) -> None:
        self._guards[name] = replace(self._guard(name), failure=None, limited=None, unresolved=0, tried=())
        for record in self.records(name):
            self._change(record.key, failure=None)

    def begin_attempt(self, name: ConnectionName, owner: str, version: str) -> int:
        guard, (last_owner, last_version) = self._guard(name), self._attempts.get(name, ("", version))
        if last_version != version:
            guard = replace(guard, unresolved=0)
        if last_owner != owner:
            guard = replace(guard, unresolved=guard.unresolved + 1)
        self._guards[name], self._attempts[name] = guard, (owner, version)
        return guard.unresolved

    def note_version(self, name: ConnectionName, tried: Sequence[tuple[str, datetime]]) -> None:
        self._guards[name] = replace(self._guard(name), tried=tuple(tried))

    def begin_trial(self, name: ConnectionName, *, now: datetime, not_after: datetime) -> bool:
        guard = self._guard(name)
        if guard.trial_at is not None and guard.trial_at > not_after:
            return guard.trial_at == now
        self._guards[name] = replace(guard, trial_at=now)
        return True

    def note_use(self, key: TokenKey, *, now: datetime, due_at: datetime | None) -> None:
        record = self._seen(key)
        if record.token is not None:
            self._change(key, last_used_at=now, due_at=due_at or record.due_at)

    def make_due(self, key: TokenKey, due_at: datetime) -> None:
        self._put(replace(self._seen(key), exists=True, due_at=due_at))

    def put_off(self, seen: TokenRecord, due_at: datetime | None) -> None:
        if seen.key in self._items and self._seen(seen.key).due_at == seen.due_at:
            self._change(seen.key, due_at=due_at)

    def mark_stale(self, name: ConnectionName, now: datetime) -> int:
        records = self.records(name)
        for record in records:
            self._change(record.key, stale_at=now, due_at=now)
        return len(records)

    def purge(self, record: TokenRecord, revoke_with: Mapping[str, Any], now: datetime) -> TokenRecord:
        key = record.key
        before = self._guarded(self._seen(key))
        if key not in self._items:
            return before
        self._put(
            TokenRecord(
                key,
                last_owner=f"purge-{next(self._purges)}",
                retired=before.outstanding(now),
                revoke_with=dict(revoke_with),
                due_at=now + MINUTE,
                exists=True,
            )
        )
        return before

    def retire(self, key: TokenKey, token: Retired, revoke_with: Mapping[str, Any], due_at: datetime) -> None:
        record = self._seen(key)
        with_settings = record.revoke_with if record.revoke_with is not None else dict(revoke_with)
        self._change(key, retired=(*record.retired, token), revoke_with=with_settings, due_at=due_at)

    def forget_retired(self, key: TokenKey, token_ids: Sequence[str]) -> None:
        record = self._seen(key)
        kept = tuple(item for item in record.retired if item.token_id not in token_ids)
        self._change(key, retired=kept, revoke_with=record.revoke_with if kept else None)

    def due(self, shard: int, *, until: datetime) -> Sequence[DueKey]:
        entries = self._due[shard]
        found = entries[: bisect_right(entries, until, key=lambda entry: entry[0])]
        return [DueKey(pk, sk, due_at) for due_at, pk, sk in found]

    def claim_due(self, due: DueKey, *, until: datetime) -> bool:
        key = self._by_place.get((due.pk, due.sk))
        if key is None or self._items[key].due_at != due.due_at:
            return False
        self._change(key, due_at=until)
        return True

    def take_budget(self, host: str, *, now: datetime, limit: int) -> datetime | None:
        minute = now.replace(second=0, microsecond=0)
        budget = self._budgets.setdefault(host, _Budget(minute))
        if budget.rest_until is not None and budget.rest_until > now:
            return budget.rest_until
        if budget.minute_at < minute:
            budget.minute_at, budget.taken = minute, 0
        # Whoever comes with a minute that is over had his chance then.
        if budget.minute_at > minute or budget.taken >= limit:
            return minute + MINUTE
        budget.taken += 1
        return None

    def rest_host(self, host: str, until: datetime) -> None:
        budget = self._budgets.setdefault(host, _Budget(datetime.min.replace(tzinfo=until.tzinfo)))
        budget.rest_until = max(budget.rest_until or until, until)

    def _seen(self, key: TokenKey) -> TokenRecord:
        return self._items.get(key) or TokenRecord(key)

    def _guard(self, name: ConnectionName) -> Guard:
        return self._guards.get(name, Guard())

    def _guarded(self, record: TokenRecord) -> TokenRecord:
        return replace(record, guard=self._guard(record.key.name))

    def _leads(self, key: TokenKey, owner: str) -> bool:
        record = self._items.get(key)
        return record is not None and record.last_owner == owner

    def _change(self, key: TokenKey, **fields: Any) -> None:
        record = self._items.get(key)
        if record is not None:
            self._put(replace(record, **fields))

    def _put(self, record: TokenRecord) -> None:
        """The only write of a key's record: names and due index follow it."""
        key, before = record.key, self._items.get(record.key)
        self._items[key] = record
        if before is None:
            pk, sk = key.pk, key.sk
            self._by_place[pk, sk] = key
            self._keys[key.name].append(key)
        if record.due_at == (before.due_at if before is not None else None):
            return
        entries, pk, sk = self._due[shard_of(key)], key.pk, key.sk
        if before is not None and before.due_at is not None:
            del entries[bisect_left(entries, (before.due_at, pk, sk))]
        if record.due_at is not None:
            insort(entries, (record.due_at, pk, sk))

"""A token store that tells what it was asked to do, and by which operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tests.component.state_machine.promises import Promises
from tests.component.state_machine.stage import Seen, Stage
from tests.fakes import InMemoryTokenStore
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.tokens import TokenRecord
from token_broker.ports import Commit, ConnectionStore, StoredSettings


class WatchedTokenStore(InMemoryTokenStore):
    """The store in memory; `promises` hears of every call that bears on one."""

    def __init__(self, connections: ConnectionStore, stage: Stage, promises: Promises) -> None:
        super().__init__(connections)
        self._stage = stage
        self._promises = promises

    @property
    def _by(self) -> Seen | None:
        return self._stage.running.seen if self._stage.running is not None else None

    def read(self, key: TokenKey) -> tuple[StoredSettings | None, TokenRecord]:
        settings, record = super().read(key)
        self._note_read(settings, record)
        return settings, record

    def read_due(self, name: ConnectionName, sk: str) -> tuple[StoredSettings | None, TokenRecord | None]:
        settings, record = super().read_due(name, sk)
        self._note_read(settings, record)
        return settings, record

    def take_lease(
        self, seen: TokenRecord, owner: str, *, now: datetime, until: datetime, mark_refresh: bool
    ) -> tuple[bool, TokenRecord]:
        taken, before = super().take_lease(seen, owner, now=now, until=until, mark_refresh=mark_refresh)
        if taken and self._by is not None:
            self._by.key, self._by.owner = seen.key, owner
            self._by.lease_at, self._by.lease_until = now, until
            self._by.lease_seq = self._stage.next_seq()
            self._promises.leads(seen.key, owner)
        return taken, before

    def commit(self, key: TokenKey, owner: str, commit: Commit) -> TokenRecord | None:
        before = self._seen(key)
        stands = super().commit(key, owner, commit)
        if self._by is not None:
            if stands is None:
                self._promises.committed(key, owner, self._by, before, commit)
            else:
                self._by.fenced[commit.token.token_id] = commit.token.expires_at
        return stands

    def note_rejection(self, key: TokenKey, owner: str, *, count: int, until: datetime) -> None:
        super().note_rejection(key, owner, count=count, until=until)
        if self._leads(key, owner) and self._by is not None:
            self._promises.forced(key, owner, until, since=self._by.lease_at or until)

    def put_guard(self, name: ConnectionName, failure: Failure, *, settled: bool, seen: Failure | None = None) -> None:
        super().put_guard(name, failure, settled=settled, seen=seen)
        if self._by is not None:
            self._promises.remembered(name, None, self._by, failure)

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
        leads = self._leads(seen.key, owner)
        super().release(seen, owner, now=now, failure=failure, unmark_refresh=unmark_refresh, due_at=due_at)
        if leads and failure is not None and self._by is not None and not failure.misconfigured:
            self._promises.remembered(seen.key.name, seen.key.scope, self._by, failure)

    def rest_host(self, host: str, until: datetime) -> None:
        super().rest_host(host, until)
        self._promises.host_rests(until)

    def end_rests(self, name: ConnectionName) -> None:
        super().end_rests(name)
        self._promises.rests_ended(name)

    def take_budget(self, host: str, *, now: datetime, limit: int) -> datetime | None:
        free_at = super().take_budget(host, now=now, limit=limit)
        if free_at is None and self._by is not None:
            self._by.budget += 1
        return free_at

    def purge(self, record: TokenRecord, revoke_with: Mapping[str, Any], now: datetime) -> TokenRecord:
        before = super().purge(record, revoke_with, now)
        self._promises.purged(before)
        return before

    def held(self, name: ConnectionName) -> tuple[set[str], set[str]]:
        """The token_ids that stand in the store: current ones, and those kept for their revocation."""
        records: Sequence[TokenRecord] = self.records(name)
        current = {record.token.token_id for record in records if record.token is not None}
        return current, {item.token_id for record in records for item in record.retired if item.revoke}

    def _note_read(self, settings: StoredSettings | None, record: TokenRecord | None) -> None:
        if self._by is not None:
            self._by.read_seq, self._by.read_at = self._stage.next_seq(), self._stage.clock()
            self._by.settings, self._by.record = settings, record

"""Stores that tell what they were asked to do, and by which operation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from tests.component.state_machine.promises import Promises
from tests.component.state_machine.stage import SentRequest, Stage
from tests.fakes import FakeSecretStore, InMemoryConnectionStore, InMemoryTokenStore
from token_broker.core.credentials import Secret
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import ConnectionHealth, TokenRecord
from token_broker.ports import Commit, ConnectionStore, StoredSettings

BROKEN = b"tampered with"


class WatchedConnectionStore(InMemoryConnectionStore):
    """Settings in memory; `promises` hears of every write."""

    def __init__(self, stage: Stage, promises: Promises) -> None:
        super().__init__()
        self._stage = stage
        self._promises = promises

    def get(self, name: ConnectionName) -> StoredSettings | None:
        stored = super().get(name)
        operation = self._stage.running
        if operation is not None and operation.kind == "trial" and operation.seen.settings is None:
            operation.seen.settings = stored
        return stored

    def put(
        self, name: ConnectionName, settings: Mapping[str, Any], *, version: str, expected: str | None, absent: bool
    ) -> StoredSettings | None:
        before = super().put(name, settings, version=version, expected=expected, absent=absent)
        self._promises.history.changed(name, self._stored[name])
        return before

    def delete(self, name: ConnectionName, *, expected: str | None) -> bool:
        was_there = super().delete(name, expected=expected)
        self._promises.history.changed(name, None)
        return was_there


class WatchedVault(FakeSecretStore):
    """Secrets in memory, each with one value that nobody else has; the operation remembers what it read."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage

    def read(self, name: ConnectionName, stage: str = "AWSCURRENT") -> Secret | None:
        secret = super().read(name, stage)
        if secret is not None and self._stage.running is not None:
            values = json.loads(secret.text)
            self._stage.running.seen.read_secret = values.get("client_secret") or values["password"]
        return secret


class WatchedTokenStore(InMemoryTokenStore):
    """The store in memory; `promises` hears of every call that bears on one."""

    def __init__(self, connections: ConnectionStore, stage: Stage, promises: Promises) -> None:
        super().__init__(connections)
        self._stage = stage
        self._promises = promises

    @property
    def _by(self) -> SentRequest | None:
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

    def note_report(self, key: TokenKey, owner: str, *, count: int, until: datetime) -> None:
        super().note_report(key, owner, count=count, until=until)
        if self._leads(key, owner) and self._by is not None:
            self._promises.forced(key, owner, until, since=self._by.lease_at or until)

    def put_health(self, name: ConnectionName, failure: Failure, *, settled: bool, seen: Failure | None = None) -> None:
        super().put_health(name, failure, settled=settled, seen=seen)
        if self._by is None:
            return
        # What somebody else met meanwhile stays if it rests for longer.
        if failure in (self._health(name).failure, self._health(name).rate_limit):
            self._promises.remembered(name, None, self._by, failure)
        if settled:
            self._promises.logins.known(name, self._by, rests=failure.refused)

    def clear_health(self, name: ConnectionName, seen: ConnectionHealth) -> None:
        super().clear_health(name, seen)
        if self._by is not None:
            self._promises.logins.known(name, self._by, rests=False)

    def settle_login(self, name: ConnectionName) -> None:
        super().settle_login(name)
        if self._by is not None:
            self._promises.logins.one_known(name, self._by)

    def begin_trial(self, name: ConnectionName, *, now: datetime, not_after: datetime) -> bool:
        begun = super().begin_trial(name, now=now, not_after=not_after)
        if begun:
            self._promises.logins.trial(name, now)
        return begun

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

    def cool_down_host(self, host: str, until: datetime) -> None:
        super().cool_down_host(host, until)
        self._promises.rests.host_rests(host, until)

    def end_cooldowns(self, name: ConnectionName) -> None:
        super().end_cooldowns(name)
        if self._by is not None:
            self._promises.rests_ended(name, self._by)

    def take_budget(self, host: str, *, now: datetime, limit: int) -> datetime | None:
        free_at = super().take_budget(host, now=now, limit=limit)
        if free_at is None and self._by is not None:
            self._promises.budgets.place(self._by, host, now)
        return free_at

    def purge(self, record: TokenRecord, revocation_settings: Mapping[str, Any], now: datetime) -> TokenRecord:
        before = super().purge(record, revocation_settings, now)
        self._promises.purged(before)
        return before

    def tamper(self, key: TokenKey, what: str, other: TokenKey) -> None:
        """Somebody writes to the table: a value that does not open, or the one that is sealed for another key."""
        record, wrong_redirect = self._seen(key), self._seen(other).token
        spoilt = wrong_redirect.sealed if wrong_redirect is not None and other != key else BROKEN
        if what == "token" and record.token is not None:
            self._promises.unreadable.add(record.token.token_id)
            self._change(key, token=replace(record.token, sealed=spoilt))
        elif what == "refresh_token" and record.refresh_token is not None:
            self._change(key, refresh=replace(record.refresh_token, sealed=spoilt))
        elif what == "retired":
            self._promises.unreadable.update(item.token_id for item in record.retired)
            self._change(key, retired=tuple(replace(item, sealed=spoilt) for item in record.retired))

    def held(self, name: ConnectionName) -> tuple[set[str], set[str]]:
        """The token_ids that stand in the store: current ones, and those kept for their revocation."""
        records: Sequence[TokenRecord] = self.records(name)
        current = {record.token.token_id for record in records if record.token is not None}
        return current, {item.token_id for record in records for item in record.retired if item.revoke}

    def _note_read(self, settings: StoredSettings | None, record: TokenRecord | None) -> None:
        if self._by is None or self._stage.running is None:
            return
        self._by.read_seq, self._by.read_at = self._stage.next_seq(), self._stage.clock()
        self._by.record = record
        # A trial goes by what it read before.
        if self._stage.running.kind != "trial":
            self._by.settings = settings

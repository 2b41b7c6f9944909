"""Stores that report to the promises each call that matters, and which operation made it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from tests.component.state_machine.promises import Promises
from tests.component.state_machine.stage import Stage, Trace
from tests.fakes import FakeSecretStore, InMemoryConnectionStore, InMemoryTokenStore
from token_broker.core.credentials import Secret
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import ConnectionHealth, TokenRecord
from token_broker.ports import Commit, ConnectionStore, StoredSettings

BROKEN = b"tampered with"


class WatchedConnectionStore(InMemoryConnectionStore):
    """Settings in memory. Reports every write to `promises`."""

    def __init__(self, stage: Stage, promises: Promises) -> None:
        super().__init__()
        self._stage = stage
        self._promises = promises

    def get(self, name: ConnectionName) -> StoredSettings | None:
        stored = super().get(name)
        operation = self._stage.running
        if operation is not None and operation.kind == "trial" and operation.trace.settings is None:
            operation.trace.settings = stored
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


class WatchedSecretStore(FakeSecretStore):
    """Secrets in memory, each with a value of its own. Notes which one an operation read."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage

    def read(self, name: ConnectionName, stage: str = "AWSCURRENT") -> Secret | None:
        secret = super().read(name, stage)
        if secret is not None and self._stage.running is not None:
            values = json.loads(secret.text)
            self._stage.running.trace.read_secret = values.get("client_secret") or values["password"]
        return secret


class WatchedTokenStore(InMemoryTokenStore):
    """The token store in memory. Reports to `promises` each call that a promise depends on."""

    def __init__(self, connections: ConnectionStore, stage: Stage, promises: Promises) -> None:
        super().__init__(connections)
        self._stage = stage
        self._promises = promises

    @property
    def _trace(self) -> Trace | None:
        return self._stage.running.trace if self._stage.running is not None else None

    def read(self, key: TokenKey) -> tuple[StoredSettings | None, TokenRecord]:
        settings, record = super().read(key)
        self._note_read(settings, record)
        return settings, record

    def read_due(self, name: ConnectionName, scope_id: str) -> tuple[StoredSettings | None, TokenRecord | None]:
        settings, record = super().read_due(name, scope_id)
        self._note_read(settings, record)
        return settings, record

    def take_lease(
        self, read_as: TokenRecord, owner: str, *, now: datetime, until: datetime, mark_refresh: bool
    ) -> tuple[bool, TokenRecord]:
        taken, before = super().take_lease(read_as, owner, now=now, until=until, mark_refresh=mark_refresh)
        if taken and self._trace is not None:
            self._trace.key = read_as.key
            self._trace.owner = owner
            self._trace.lease_at = now
            self._trace.lease_until = until
            self._trace.lease_seq = self._stage.next_seq()
            self._promises.leased(read_as.key, owner)
        return taken, before

    def commit(self, key: TokenKey, owner: str, commit: Commit) -> TokenRecord | None:
        before = self._record(key)
        current = super().commit(key, owner, commit)
        if self._trace is not None:
            if current is None:
                self._promises.committed(key, owner, self._trace, before, commit)
            else:
                self._trace.fenced[commit.token.token_id] = commit.token.expires_at
        return current

    def note_report(self, key: TokenKey, owner: str, *, count: int, until: datetime) -> None:
        super().note_report(key, owner, count=count, until=until)
        if self._owns(key, owner) and self._trace is not None:
            self._promises.reported(key, owner, until, since=self._trace.lease_at or until)

    def put_health(
        self, name: ConnectionName, failure: Failure, *, settled: bool, replaced: Failure | None = None
    ) -> None:
        super().put_health(name, failure, settled=settled, replaced=replaced)
        if self._trace is None:
            return
        # A failure that another operation stored meanwhile stays if its cooldown is longer.
        if failure in (self._health_of(name).failure, self._health_of(name).rate_limit):
            self._promises.remembered(name, None, self._trace, failure)
        if settled:
            self._promises.logins.resolved(name, self._trace, refused=failure.refused)

    def clear_health(self, name: ConnectionName, read_as: ConnectionHealth) -> None:
        super().clear_health(name, read_as)
        if self._trace is not None:
            self._promises.logins.resolved(name, self._trace, refused=False)

    def settle_login(self, name: ConnectionName) -> None:
        super().settle_login(name)
        if self._trace is not None:
            self._promises.logins.one_resolved(name, self._trace)

    def begin_trial(self, name: ConnectionName, *, now: datetime, not_after: datetime) -> bool:
        begun = super().begin_trial(name, now=now, not_after=not_after)
        if begun:
            self._promises.logins.trial(name, now)
        return begun

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
        owns = self._owns(read_as.key, owner)
        super().release(read_as, owner, now=now, failure=failure, unmark_refresh=unmark_refresh, due_at=due_at)
        if owns and failure is not None and self._trace is not None and not failure.misconfigured:
            self._promises.remembered(read_as.key.name, read_as.key.scope, self._trace, failure)

    def cool_down_host(self, host: str, until: datetime) -> None:
        super().cool_down_host(host, until)
        self._promises.cooldowns.host_cools_down(host, until)

    def end_cooldowns(self, name: ConnectionName) -> None:
        super().end_cooldowns(name)
        if self._trace is not None:
            self._promises.cooldowns_ended(name, self._trace)

    def take_budget(self, host: str, *, now: datetime, limit: int) -> datetime | None:
        free_at = super().take_budget(host, now=now, limit=limit)
        if free_at is None and self._trace is not None:
            self._promises.budgets.taken(self._trace, host, now)
        return free_at

    def purge(self, record: TokenRecord, revocation_settings: Mapping[str, Any], now: datetime) -> TokenRecord:
        before = super().purge(record, revocation_settings, now)
        self._promises.purged(before)
        return before

    def tamper(self, key: TokenKey, what: str, other: TokenKey) -> None:
        """Somebody writes to the table: a value that cannot be opened, or one that is sealed for another key."""
        record = self._record(key)
        other_token = self._record(other).token
        wrong = other_token.sealed if other_token is not None and other != key else BROKEN
        if what == "token" and record.token is not None:
            self._promises.unreadable.add(record.token.token_id)
            self.change(key, token=replace(record.token, sealed=wrong))
        elif what == "refresh_token" and record.refresh_token is not None:
            self.change(key, refresh_token=replace(record.refresh_token, sealed=wrong))
        elif what == "retired":
            self._promises.unreadable.update(item.token_id for item in record.retired)
            self.change(key, retired=tuple(replace(item, sealed=wrong) for item in record.retired))

    def held(self, name: ConnectionName) -> tuple[set[str], set[str]]:
        """The token_ids in the store: the current ones, and those that are kept to be revoked."""
        records: Sequence[TokenRecord] = self.records(name)
        current = {record.token.token_id for record in records if record.token is not None}
        return current, {item.token_id for record in records for item in record.retired if item.revoke}

    def _note_read(self, settings: StoredSettings | None, record: TokenRecord | None) -> None:
        if self._trace is None or self._stage.running is None:
            return
        self._trace.read_seq = self._stage.next_seq()
        self._trace.read_at = self._stage.clock()
        self._trace.record = record
        # A trial uses the settings that it read before.
        if self._stage.running.kind != "trial":
            self._trace.settings = settings

"""Stores that report to the promises what changes in them, and which operation changed it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from tests.component.state_machine.promises import Promises
from tests.fakes import (
    FakeSealer,
    FakeSecretStore,
    InMemoryBudgets,
    InMemoryConnectionStore,
    InMemoryHealthStore,
    InMemoryTokenStore,
    InMemoryTokenTable,
)
from token_broker.core.credentials import Secret
from token_broker.core.health import ConnectionHealth
from token_broker.core.names import ConnectionName, Place, TokenKey
from token_broker.core.providers import MINUTE
from token_broker.core.records import RetiredToken, TokenRecord
from token_broker.ports import ConnectionStore, Seal, SecretNotReadable, StoredSettings

BROKEN = b"tampered with"


class WatchedConnectionStore(InMemoryConnectionStore):
    """Settings in memory."""

    def __init__(self, promises: Promises) -> None:
        super().__init__()
        self._promises = promises

    def get(self, name: ConnectionName) -> StoredSettings | None:
        stored = super().get(name)
        trace = self._promises.trace
        if trace is not None and trace.settings is None:
            trace.settings = stored
        return stored

    def put(
        self,
        name: ConnectionName,
        settings: Mapping[str, Any],
        *,
        version: str,
        expected: str | None,
        absent: bool,
        at: datetime | None = None,
        caller: str | None = None,
    ) -> StoredSettings | None:
        before = super().put(name, settings, version=version, expected=expected, absent=absent, at=at, caller=caller)
        self._promises.history.changed(name, self._stored[name])
        return before

    def delete(self, name: ConnectionName, *, expected: str | None) -> bool:
        was_there = super().delete(name, expected=expected)
        self._promises.history.changed(name, None)
        return was_there


class WatchedSecretStore(FakeSecretStore):
    """Secrets in memory, each with a value of its own. `unreadable`: those that the broker may not read."""

    def __init__(self, promises: Promises) -> None:
        super().__init__()
        self.unreadable: set[ConnectionName] = set()
        self._promises = promises

    def read(self, name: ConnectionName, stage: str = "AWSCURRENT") -> Secret | None:
        secret = super().read(name, stage)
        trace = self._promises.trace
        if trace is None:
            return secret
        if secret is not None and name in self.unreadable:
            trace.met = "secret not readable"
            raise SecretNotReadable
        if secret is not None:
            trace.secret, trace.secret_version = secret_value(secret), secret.version
        return secret

    def version(self, name: ConnectionName) -> str | None:
        """The current version's name."""
        secret = super().read(name)
        return secret.version if secret is not None else None


class WatchedSealer(FakeSealer):
    """Sealing without KMS."""

    def __init__(self, promises: Promises) -> None:
        super().__init__()
        self._promises = promises

    def prepare(self, place: Place, purpose: str) -> Seal:
        seal = super().prepare(place, purpose)
        if self._promises.trace is not None:
            self._promises.trace.has_data_key = True
        return seal


def secret_value(secret: Secret) -> str:
    """The client secret or password in a secret."""
    values = json.loads(secret.text)
    return str(values.get("client_secret") or values["password"])


class WatchedTokenStore(InMemoryTokenStore):
    """The token keys in memory."""

    def __init__(self, connections: ConnectionStore, table: InMemoryTokenTable, promises: Promises) -> None:
        super().__init__(connections, table)
        self._promises = promises

    def read(self, key: TokenKey) -> tuple[StoredSettings | None, TokenRecord]:
        settings, record = super().read(key)
        self._promises.read(settings, record)
        return settings, record

    def read_due(self, name: ConnectionName, scope_id: str) -> tuple[StoredSettings | None, TokenRecord | None]:
        settings, record = super().read_due(name, scope_id)
        self._promises.read(settings, record)
        return settings, record

    def save(self, before: TokenRecord, after: TokenRecord) -> TokenRecord | None:
        stored = self.table.records.get(after.key, TokenRecord(after.key))
        other = super().save(before, after)
        if other is None and stored.revision != after.revision:
            self._promises.saved(stored, after)
        return other

    def put_retired(self, token: RetiredToken) -> None:
        super().put_retired(token)
        if token.revoke:
            self._promises.drops(token.token_id, token.expires_at)

    def delete(self, record: TokenRecord) -> None:
        """DynamoDB deletes an item."""
        self.table.place(record.key, "", record.due_at, None)
        del self.table.records[record.key], self.table.keys[record.key.name][record.key.scope_id]

    def tamper(self, key: TokenKey, what: str, other: TokenKey) -> set[str]:
        """Somebody writes to the table: a value that cannot be opened, or one that is sealed for another key.

        Returns the tokens that are lost.
        """
        record, records = self._record(key), self.table.records
        other_token = self._record(other).token
        wrong = other_token.sealed if other_token is not None and other != key else BROKEN
        if what == "token" and record.token is not None:
            records[key] = replace(records[key], token=replace(record.token, sealed=wrong))
            return {record.token.token_id}
        if what == "refresh_token" and record.refresh_token is not None:
            records[key] = replace(records[key], refresh_token=replace(record.refresh_token, sealed=wrong))
        elif what == "retired":
            tokens = self.table.retired[key.name]
            tokens.update({place: replace(item, sealed=wrong) for place, item in tokens.items()})
            return {item.token_id for item in tokens.values()}
        return set()


class WatchedHealthStore(InMemoryHealthStore):
    """The health of connections in memory."""

    def __init__(self, table: InMemoryTokenTable, promises: Promises) -> None:
        super().__init__(table)
        self._promises = promises

    def save(self, name: ConnectionName, before: ConnectionHealth, after: ConnectionHealth) -> ConnectionHealth | None:
        stored = self._table.health.get(name, ConnectionHealth())
        other = super().save(name, before, after)
        if other is None and stored.revision != after.revision:
            self._promises.health_saved(name, stored, after)
        return other


class WatchedBudgets(InMemoryBudgets):
    """The budgets of endpoints in memory."""

    def __init__(self, promises: Promises) -> None:
        super().__init__()
        self._promises = promises

    def take(self, host: str, *, now: datetime, limit: int, period: timedelta = MINUTE) -> datetime | None:
        busy_until = super().take(host, now=now, limit=limit, period=period)
        if busy_until is None and self._promises.trace is not None:
            self._promises.trace.budget.append((host, now))
        return busy_until

    def cool_down(self, host: str, until: datetime) -> None:
        super().cool_down(host, until)
        self._promises.cooldowns.host_cools_down(host, until)

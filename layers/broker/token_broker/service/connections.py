"""Connections: their settings, versions, and the state of each token. Never a secret or a token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from token_broker.core.connections import Connection, settings_digest
from token_broker.core.deadlines import Deadline, deadlines
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import TokenRecord
from token_broker.errors import (
    BrokerError,
    BrokerUnavailable,
    ConnectionMisconfigured,
    FieldError,
    InvalidRequest,
    VersionConflict,
)
from token_broker.ports import ANY_VERSION, ConditionFailed, RenewalMessage, StoredSettings
from token_broker.service.context import BrokerContext, SettingsReader
from token_broker.service.revoke import NotRevoked, PurgeResult, Revoker


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """A connection and its tokens. `state`: ok, failing, suspended, misconfigured or idle. `live`: its live tokens."""

    name: ConnectionName
    state: str
    version: str
    settings: Mapping[str, Any] = field(repr=False)
    records: tuple[TokenRecord, ...] = ()
    live: int = 0
    next_expiry: datetime | None = None
    last_failure: Failure | None = None
    deadlines: tuple[Deadline, ...] = ()


@dataclass(frozen=True, slots=True)
class Connections:
    """Creates, shows and deletes connections. It can neither read a secret's value nor open a token."""

    context: BrokerContext
    reader: SettingsReader
    revoker: Revoker

    def page(self, limit: int, cursor: str | None) -> tuple[list[ConnectionState], str | None]:
        """Some connections, and the cursor of the next page. Raises InvalidRequest for an unknown cursor."""
        try:
            stored, next_cursor = self.context.connections.page(limit, cursor)
        except ValueError:
            raise InvalidRequest(
                "The cursor is not one that this route gave.", errors=[FieldError("cursor", "is not known")]
            ) from None
        return [self._state(item) for item in stored], next_cursor

    def show(self, name: ConnectionName) -> ConnectionState:
        """Raises UnknownProvider or UnknownConnection."""
        return self._state(self.reader.stored(name))

    def check_health(self) -> dict[str, str]:
        """`ok` or `failing` for each of the two tables."""
        name = ConnectionName("health", "check")
        checks = {}
        for table, read in (("connections", self.context.connections.get), ("tokens", self.context.tokens.records)):
            try:
                read(name)
                checks[table] = "ok"
            except BrokerUnavailable:
                checks[table] = "failing"
        return checks

    def put(
        self, name: ConnectionName, settings: object, *, expected: str | None, absent: bool
    ) -> tuple[Connection, bool]:
        """Creates or replaces the settings. Returns them, and whether the connection is new.

        Raises InvalidRequest with every fault, or VersionConflict.
        """
        connection = self.reader.parse(name, settings, version=self.context.new_id())
        try:
            before = self.context.connections.put(
                name, connection.settings, version=connection.version, expected=expected, absent=absent
            )
        except ConditionFailed:
            raise VersionConflict(f"The settings of {name} have another version than the request names.") from None
        # A repeated write finds its own version, and no longer knows what it replaced.
        is_repeat = before is not None and before.version == connection.version
        if before is not None and (is_repeat or settings_digest(before.settings) != connection.settings_digest):
            self.context.tokens.mark_stale(name, self.context.clock())
        if connection.keep_warm == "always" and not connection.suspended:
            self.context.tokens.make_due(TokenKey(name, connection.scope), self.context.clock())
        return connection, before is None

    def delete(self, name: ConnectionName, *, expected: str | None) -> PurgeResult:
        """Deletes tokens and settings; the secret stays. The worker revokes, because it may open tokens.

        The tokens are dropped first, so that an interrupted delete can be repeated, and again after the settings, for
        what was acquired in between.
        """
        stored = self.reader.stored(name)
        if expected not in (None, ANY_VERSION, stored.version):
            raise VersionConflict(f"The settings of {name} have another version than the request names.")
        dropped = self.revoker.drop(stored)
        try:
            self.context.connections.delete(name, expected=stored.version)
        except ConditionFailed:
            raise VersionConflict(f"The settings of {name} were changed while they were being deleted.") from None
        dropped += self.revoker.drop(stored)
        reason = self._not_revoked_reason(stored)
        waiting = {item.token_id: (after.key, item) for _, after in dropped for item in after.retired}
        if reason == "queued" and waiting:
            keys = {key for key, _ in waiting.values()}
            self.context.queue.send([RenewalMessage(key.name, key.scope_id) for key in keys])
        return PurgeResult(
            dropped=self.revoker.count(dropped),
            not_revoked=tuple(NotRevoked(item.token_id, reason, item.expires_at) for _, item in waiting.values()),
        )

    def _not_revoked_reason(self, stored: StoredSettings) -> str:
        try:
            connection = self.reader.connection(stored.name, stored)
        except ConnectionMisconfigured:
            return "settings_invalid"
        return "queued" if connection.endpoints.revocation else "not_supported"

    def _state(self, stored: StoredSettings) -> ConnectionState:
        now = self.context.clock()
        records = self.context.tokens.records(stored.name)
        live = [token for record in records if (token := record.live_token(now)) is not None]
        failures = {failure.at: failure for record in records for failure in _current_failures(record, now)}
        last_failure = failures[max(failures)] if failures else None
        try:
            connection = self.reader.connection(stored.name, stored)
        except BrokerError:
            connection = None
        return ConnectionState(
            name=stored.name,
            state=_state_name(connection, last_failure, live=bool(live)),
            version=stored.version,
            settings=stored.settings,
            records=tuple(records),
            live=len(live),
            next_expiry=min((token.expires_at for token in live), default=None),
            last_failure=last_failure,
            deadlines=deadlines(connection, records) if connection is not None else (),
        )


def _state_name(connection: Connection | None, failure: Failure | None, *, live: bool) -> str:
    if connection is None:
        return "misconfigured"
    if connection.suspended:
        return "suspended"
    if failure is not None and failure.settings_digest == connection.settings_digest:
        return "misconfigured" if failure.misconfigured else "failing"
    return "ok" if live else "idle"


def _current_failures(record: TokenRecord, now: datetime) -> tuple[Failure, ...]:
    """A connection's failure counts until it is cleared; a key's own while its token lives or its cooldown lasts."""
    live = record.live_token(now) is not None
    return tuple(
        failure for failure in record.failures() if failure is not record.failure or live or failure.retry_at > now
    )

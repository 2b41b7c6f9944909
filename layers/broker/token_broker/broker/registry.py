"""Connections as their owners see them: settings, versions, and the state of each token. Never a secret or a token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from token_broker.broker.parts import Parts
from token_broker.broker.revocation import NotRevoked, Purge, Revoker
from token_broker.core.connections import Connection, asked_version
from token_broker.core.deadlines import Deadline, deadlines
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.tokens import TokenRecord
from token_broker.errors import BrokerError, ConnectionMisconfigured, FieldError, InvalidRequest, VersionConflict
from token_broker.ports import ANY_VERSION, RenewalMessage, StoredSettings, Unclaimed


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """A connection with all that is known of its tokens. `state`: ok, failing, suspended, misconfigured or idle."""

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
class Registry:
    """Creates, shows and deletes connections. Can neither read a secret's value nor open a token."""

    parts: Parts
    revoker: Revoker

    def page(self, limit: int, cursor: str | None) -> tuple[list[ConnectionState], str | None]:
        """Some connections and where to go on. Raises InvalidRequest for a cursor that is none."""
        try:
            stored, following = self.parts.connections.page(limit, cursor)
        except ValueError:
            raise InvalidRequest(
                "The cursor is none that this route gave.", errors=[FieldError("cursor", "is not known")]
            ) from None
        return [self._state(item) for item in stored], following

    def show(self, name: ConnectionName) -> ConnectionState:
        """Raises UnknownProvider or UnknownConnection."""
        return self._state(self.parts.stored(name))

    def put(
        self, name: ConnectionName, settings: object, *, expected: str | None, absent: bool
    ) -> tuple[Connection, bool]:
        """Creates or replaces the settings, checked whole. Returns them and whether they are new.

        Raises InvalidRequest with every fault, or VersionConflict.
        """
        connection = self.parts.parse(name, settings, version=self.parts.new_id())
        try:
            before = self.parts.connections.put(
                name, connection.settings, version=connection.version, expected=expected, absent=absent
            )
        except Unclaimed:
            raise VersionConflict(f"The settings of {name} have another version than the request names.") from None
        # A repeated write finds itself, and what it replaced is not known any more.
        is_repeat = before is not None and before.version == connection.version
        if before is not None and (is_repeat or asked_version(before.settings) != connection.asked_version):
            self.parts.tokens.mark_stale(name, self.parts.clock())
        if connection.keep_warm == "always" and not connection.suspended:
            self.parts.tokens.make_due(TokenKey(name, connection.scope), self.parts.clock())
        return connection, before is None

    def delete(self, name: ConnectionName, *, expected: str | None) -> Purge:
        """Deletes tokens and settings; the secret stays. Revoking is left to the worker, which may open tokens.

        The tokens go first, so that a delete that broke off can be repeated; and again after the settings, for what was
        acquired in between.
        """
        stored = self.parts.stored(name)
        if expected not in (None, ANY_VERSION, stored.version):
            raise VersionConflict(f"The settings of {name} have another version than the request names.")
        dropped = self.revoker.drop(stored)
        try:
            self.parts.connections.delete(name, expected=stored.version)
        except Unclaimed:
            raise VersionConflict(f"The settings of {name} were changed while they were being deleted.") from None
        dropped += self.revoker.drop(stored)
        reason = self._revocable(stored)
        waiting = {item.token_id: (after, item) for _, after in dropped for item in after.retired}
        if reason == "queued" and waiting:
            keys = {after.key for after, _ in waiting.values()}
            self.parts.queue.send([RenewalMessage(key.pk, key.sk) for key in keys])
        return Purge(
            dropped=self.revoker.count(dropped),
            not_revoked=tuple(NotRevoked(item.token_id, reason, item.expires_at) for _, item in waiting.values()),
        )

    def _revocable(self, stored: StoredSettings) -> str:
        try:
            connection = self.parts.connection(stored.name, stored)
        except ConnectionMisconfigured:
            return "settings_invalid"
        return "queued" if connection.endpoints.revocation else "not_supported"

    def _state(self, stored: StoredSettings) -> ConnectionState:
        now = self.parts.clock()
        records = self.parts.tokens.records(stored.name)
        live = [record.token for record in records if record.token is not None and record.token.alive(now)]
        failures = {failure.at: failure for record in records for failure in _relevant(record, now)}
        last = failures[max(failures)] if failures else None
        try:
            connection = self.parts.connection(stored.name, stored)
        except BrokerError:
            connection = None
        return ConnectionState(
            name=stored.name,
            state=_word(connection, last, live=bool(live)),
            version=stored.version,
            settings=stored.settings,
            records=tuple(records),
            live=len(live),
            next_expiry=min((token.expires_at for token in live), default=None),
            last_failure=last,
            deadlines=deadlines(connection, records) if connection is not None else (),
        )


def _word(connection: Connection | None, failure: Failure | None, *, live: bool) -> str:
    if connection is None:
        return "misconfigured"
    if connection.suspended:
        return "suspended"
    if failure is not None and failure.settings_version == connection.asked_version:
        return "misconfigured" if failure.misconfigured else "failing"
    return "ok" if live else "idle"


def _relevant(record: TokenRecord, now: datetime) -> tuple[Failure, ...]:
    """A failure of the connection counts until it is mended; one of a key while its token lives or it rests."""
    is_live = record.token is not None and record.token.alive(now)
    return tuple(found for found in record.failures() if found is not record.failure or is_live or found.retry_at > now)

"""Renews tokens before they expire: what the worker does with one message."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from token_broker.core.connections import Connection
from token_broker.core.deadlines import Deadline, deadlines
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName
from token_broker.core.policy import Acquire, AwaitOther, Deny, Serve, TokenCriteria, active_cooldown, decide
from token_broker.core.records import TokenRecord
from token_broker.errors import BrokerError, BrokerUnavailable, ProviderError
from token_broker.ports import RenewalMessage, StoredSettings
from token_broker.service.acquire import Acquired, Acquirer
from token_broker.service.context import BrokerContext, SettingsReader
from token_broker.service.revoke import FINAL_REASONS, Revoker, due_with_revocations

IDLE_TIME = timedelta(hours=24)


class RenewalOutcome(Enum):
    """How a message ended. A fault of our own services raises instead, and SQS delivers the message again."""

    RENEWED = "renewed"
    NOT_DUE = "not_due"
    GONE = "gone"
    IDLE = "idle"
    COOLDOWN = "cooldown"
    FAILED = "failed"
    LEASED = "leased"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Renewal:
    """What was done for a token key. `code`: the error, and `consecutive_failures`: how often by now.

    `deadlines`: what else of the connection expires.
    """

    name: ConnectionName
    outcome: RenewalOutcome
    code: str | None = None
    consecutive_failures: int = 0
    deadlines: tuple[Deadline, ...] = ()


@dataclass(frozen=True, slots=True)
class Renewer:
    """Renews one token key at a time, by the same routine as a caller's request."""

    context: BrokerContext
    settings: SettingsReader
    acquirer: Acquirer
    revoker: Revoker

    def renew(self, name: ConnectionName, scope_id: str) -> Renewal:
        """Renews a key that is due, and revokes what a purge left. Raises only BrokerUnavailable."""
        stored, record = self.context.tokens.read_due(name, scope_id)
        if record is None:
            return Renewal(name, RenewalOutcome.GONE)
        record, revoked = self._revoke_retired(record, stored)
        try:
            connection = self.settings.connection(name, stored)
        except BrokerError as error:
            self._set_due(record, None)
            return Renewal(name, RenewalOutcome.REVOKED if revoked else RenewalOutcome.GONE, error.code)
        if connection.suspended or not self._is_kept_warm(connection, record):
            self._set_due(record, None)
            return Renewal(name, RenewalOutcome.REVOKED if revoked else RenewalOutcome.IDLE)
        return replace(self._renew(connection, record), deadlines=deadlines(connection, [record]))

    def _renew(self, connection: Connection, record: TokenRecord) -> Renewal:
        context, now = self.context, self.context.clock()
        policy, criteria = context.policy(connection), TokenCriteria(requested_at=now, renewal=True)
        if record.stale_at is not None and (secret := context.secrets.read(connection.name)) is not None:
            criteria = replace(criteria, secret_version=secret.version)
        decision = decide(record, criteria, policy, now)
        match decision:
            case Serve(token=token):
                failure = active_cooldown(record, criteria, policy, now)
                return self._reschedule(connection, record, failure, token.renew_at)
            case Deny(failure=failure, retry_at=retry_at):
                return self._reschedule(connection, record, failure, retry_at)
            case AwaitOther(until=until):
                delay = max(until - now, timedelta(seconds=1))
                unsent = context.queue.send([RenewalMessage(record.key.name, record.key.scope_id, delay)])
                if unsent:
                    raise BrokerUnavailable("The renewal queue did not accept a message.")
                return Renewal(connection.name, RenewalOutcome.LEASED)
            case Acquire():
                return self._acquire(connection, record, criteria, decision)

    def _acquire(
        self, connection: Connection, record: TokenRecord, criteria: TokenCriteria, decision: Acquire
    ) -> Renewal:
        try:
            outcome = self.acquirer.acquire(connection, record, criteria, decision)
        except BrokerUnavailable:
            raise
        except BrokerError as error:
            count = error.consecutive_failures if isinstance(error, ProviderError) else 0
            return Renewal(connection.name, RenewalOutcome.FAILED, error.code, count)
        renewed = isinstance(outcome, Acquired)
        return Renewal(connection.name, RenewalOutcome.RENEWED if renewed else RenewalOutcome.LEASED)

    def _reschedule(
        self, connection: Connection, record: TokenRecord, failure: Failure | None, due_at: datetime
    ) -> Renewal:
        """Makes the key due again, after the cooldown if there is one. A refused key leaves the index."""
        if failure is None:
            self._set_due(record, due_at)
            return Renewal(connection.name, RenewalOutcome.NOT_DUE)
        self._set_due(record, None if failure.refused else max(due_at, failure.retry_at))
        return Renewal(connection.name, RenewalOutcome.COOLDOWN, failure.code, failure.count)

    def _is_kept_warm(self, connection: Connection, record: TokenRecord) -> bool:
        """Whether the token is renewed in advance: always, or while it was used within a day."""
        if connection.keep_warm != "used":
            return connection.keep_warm == "always"
        return record.last_used_at is not None and self.context.clock() - record.last_used_at <= IDLE_TIME

    def _set_due(self, record: TokenRecord, due_at: datetime | None) -> None:
        """None takes the key off the index, unless a token is left to revoke."""
        self.context.tokens.put_off(record, due_with_revocations(record.retired, due_at, self.context.clock()))

    def _revoke_retired(self, record: TokenRecord, stored: StoredSettings | None) -> tuple[TokenRecord, bool]:
        """The record with what is still to be revoked, and whether anything was revoked."""
        if not any(item.revoke for item in record.retired):
            return record, False
        connection = self.revoker.issued_under(record)
        if connection is None:
            self.context.tokens.forget_retired(record.key, [item.token_id for item in record.retired])
            return replace(record, retired=()), False
        deadline = self.context.clock() + self.context.limits.acquisition
        current = stored is not None and stored.settings == record.revocation_settings
        purge = self.revoker.revoke(connection, record, deadline=deadline, current=current)
        left = {item.token_id for item in purge.not_revoked if item.reason not in FINAL_REASONS}
        kept = tuple(item for item in record.retired if not item.revoke or item.token_id in left)
        return replace(record, retired=kept), bool(purge.revoked)

"""Renewing ahead of need: what the worker does with one message."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from token_broker.broker.acquisition import Acquired, Acquirer
from token_broker.broker.parts import Parts
from token_broker.broker.revocation import FINAL, Revoker, issued_under, next_due
from token_broker.core.connections import Connection
from token_broker.core.deadlines import Deadline, deadlines
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName
from token_broker.core.policy import Acquire, AwaitOther, Refuse, Serve, TokenRequest, decide, resting
from token_broker.core.tokens import TokenRecord
from token_broker.errors import BrokerError, BrokerUnavailable, ProviderError
from token_broker.ports import RenewalMessage, StoredSettings

IDLE_TIME = timedelta(hours=24)


class Outcome(Enum):
    """How a message ended. Only our own faults are not among them: those raise, and SQS brings the message back."""

    RENEWED = "renewed"
    NOT_DUE = "not_due"
    GONE = "gone"
    IDLE = "idle"
    RESTING = "resting"
    FAILED = "failed"
    LEASED = "leased"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Renewal:
    """What was done for a key; `code` where the provider or the configuration said no, `in_a_row` how often by now.

    `deadlines`: what else of the connection ends.
    """

    name: ConnectionName
    outcome: Outcome
    code: str | None = None
    in_a_row: int = 0
    deadlines: tuple[Deadline, ...] = ()


@dataclass(frozen=True, slots=True)
class Renewer:
    """Renews one key at a time, by the same routine as a caller's request."""

    parts: Parts
    acquirer: Acquirer
    revoker: Revoker

    def renew(self, name: ConnectionName, sk: str) -> Renewal:
        """Renews a key that is due and revokes what a purge left over. Raises BrokerUnavailable only."""
        stored, record = self.parts.tokens.read_due(name, sk)
        if record is None:
            return Renewal(name, Outcome.GONE)
        record, revoked = self._revoke_outstanding(record, stored)
        try:
            connection = self.parts.connection(name, stored)
        except BrokerError as error:
            self._set_due(record, None)
            return Renewal(name, Outcome.REVOKED if revoked else Outcome.GONE, error.code)
        if connection.suspended or not self._wanted(connection, record):
            self._set_due(record, None)
            return Renewal(name, Outcome.REVOKED if revoked else Outcome.IDLE)
        return replace(self._renew(connection, record), deadlines=deadlines(connection, [record]))

    def _renew(self, connection: Connection, record: TokenRecord) -> Renewal:
        parts, now = self.parts, self.parts.clock()
        policy, request = parts.policy(connection), TokenRequest(asked_at=now, renewal=True)
        if record.stale_at is not None and (secret := parts.vault.read(connection.name)) is not None:
            request = TokenRequest(asked_at=now, renewal=True, secret_version=secret.version)
        decision = decide(record, request, policy, now)
        match decision:
            case Serve(token=token):
                rest = resting(record, request, policy, now)
                return self._put_off(connection, record, rest, token.renew_at)
            case Refuse(failure=failure, retry_at=retry_at):
                return self._put_off(connection, record, failure, retry_at)
            case AwaitOther(until=until):
                delay = max(until - now, timedelta(seconds=1))
                unsent = parts.queue.send([RenewalMessage(record.key.pk, record.key.sk, delay)])
                if unsent:
                    raise BrokerUnavailable("The renewal queue did not take a message back.")
                return Renewal(connection.name, Outcome.LEASED)
            case Acquire():
                try:
                    acquired = self.acquirer.acquire(connection, record, request, decision)
                except BrokerUnavailable:
                    raise
                except BrokerError as error:
                    in_a_row = error.in_a_row if isinstance(error, ProviderError) else 0
                    return Renewal(connection.name, Outcome.FAILED, error.code, in_a_row)
                return Renewal(connection.name, Outcome.RENEWED if isinstance(acquired, Acquired) else Outcome.LEASED)

    def _put_off(
        self, connection: Connection, record: TokenRecord, rest: Failure | None, renew_at: datetime
    ) -> Renewal:
        """Due again when there is something to do; off the index where the provider refused for good."""
        if rest is None:
            self._set_due(record, renew_at)
            return Renewal(connection.name, Outcome.NOT_DUE)
        self._set_due(record, None if rest.refused else max(renew_at, rest.retry_at))
        return Renewal(connection.name, Outcome.RESTING, rest.code, rest.count)

    def _wanted(self, connection: Connection, record: TokenRecord) -> bool:
        """Whether anybody would miss the token: used within a day, or always to be there."""
        if connection.keep_warm != "used":
            return connection.keep_warm == "always"
        return record.last_used_at is not None and self.parts.clock() - record.last_used_at <= IDLE_TIME

    def _set_due(self, record: TokenRecord, due_at: datetime | None) -> None:
        """Off the index with None, unless there is something left to revoke."""
        self.parts.tokens.put_off(record, next_due(record.retired, due_at, self.parts.clock()))

    def _revoke_outstanding(self, record: TokenRecord, stored: StoredSettings | None) -> tuple[TokenRecord, bool]:
        """The record with what is still to be revoked, and whether anything was."""
        if not any(item.revoke for item in record.retired):
            return record, False
        connection = issued_under(self.parts, record)
        if connection is None:
            self.parts.tokens.forget_retired(record.key, [item.token_id for item in record.retired])
            return replace(record, retired=()), False
        deadline = self.parts.clock() + self.parts.times.acquisition
        current = stored is not None and stored.settings == record.revoke_with
        purge = self.revoker.revoke(connection, record, deadline=deadline, current=current)
        left = {item.token_id for item in purge.not_revoked if item.reason not in FINAL}
        kept = tuple(item for item in record.retired if not item.revoke or item.token_id in left)
        return replace(record, retired=kept), bool(purge.revoked)

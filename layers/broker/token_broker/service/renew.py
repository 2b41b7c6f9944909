"""Renews tokens before they expire: what the worker does with one message."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum

from token_broker.core.connections import Connection
from token_broker.core.consents import next_due
from token_broker.core.expiries import ExpiryDate, expiry_dates
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.policy import Acquire, AwaitOther, Deny, Serve, TokenCriteria, active_cooldown, decide
from token_broker.core.records import TokenRecord
from token_broker.core.schedule import LOOK_AGAIN, is_kept_warm
from token_broker.errors import AcquisitionInProgress, BrokerError, BrokerUnavailable, ProviderError, UnknownConnection
from token_broker.ports import RenewalMessage, SecretNotReadable
from token_broker.service.acquire import Acquired, Acquirer
from token_broker.service.context import BrokerContext, SettingsReader
from token_broker.service.records import new_revision, save, try_save

SHORTEST_DELAY = timedelta(seconds=1)


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
    NOT_REVOKED = "not_revoked"


@dataclass(frozen=True, slots=True)
class Renewal:
    """What was done for a token key. `code`: the error, and `consecutive_failures`: how often by now.

    `deadlines`: what else of the connection expires.
    """

    name: ConnectionName
    outcome: RenewalOutcome
    code: str | None = None
    consecutive_failures: int = 0
    deadlines: tuple[ExpiryDate, ...] = ()


@dataclass(frozen=True, slots=True)
class Renewer:
    """Renews one token key at a time, by the same routine as a caller's request."""

    context: BrokerContext
    settings: SettingsReader
    acquirer: Acquirer

    def renew(self, name: ConnectionName, scope_id: str) -> Renewal:
        """Renews a key that is due. Raises BrokerUnavailable where that could not be remembered in the record."""
        stored, record = self.context.tokens.read_due(name, scope_id)
        if record is None:
            return Renewal(name, RenewalOutcome.GONE)
        if stored is None:
            # If the connection was created again meanwhile, its PUT has changed the record.
            try_save(self.context, record, record.purged(deleted=True))
            return Renewal(name, RenewalOutcome.GONE)
        now = self.context.clock()
        try:
            connection = self.settings.connection(name, stored)
        except BrokerError as error:
            # This release cannot read the settings. Another one may.
            save(self.context, record, lambda current: current.deferred(now + LOOK_AGAIN))
            return Renewal(name, RenewalOutcome.FAILED, error.code)
        current = self._with_settings(connection, record)
        if not is_kept_warm(current, now):
            try_save(self.context, record, current, reschedule=True)
            return Renewal(name, RenewalOutcome.IDLE)
        renewal = self._renew(connection, record, TokenCriteria(requested_at=now, renewal=True))
        return renewal if renewal.deadlines else replace(renewal, deadlines=expiry_dates(connection, [record]))

    def keep_consent(self, name: ConnectionName) -> Renewal:
        """Has the refresh token of a connection's consent sent, if that is due. Its token goes to the default scope.

        The sweep's claim ends by itself: what could not be done now is tried again then. Raises BrokerUnavailable.
        """
        context = self.context
        now = self.context.clock()
        stored = context.connections.get(name)
        consent = context.consents.read(name)
        if consent.revision is None:
            # A message that came late. Nothing is stored, and nothing shall be.
            return Renewal(name, RenewalOutcome.GONE)
        try:
            connection = self.settings.connection(name, stored)
        except UnknownConnection:
            # A consent is dropped only by command. Its next use puts it back into the index.
            context.consents.save(consent, replace(consent, due_at=None, revision=new_revision(context)))
            return Renewal(name, RenewalOutcome.GONE)
        except BrokerError as error:
            return Renewal(name, RenewalOutcome.FAILED, error.code)
        if connection.suspended:
            return Renewal(name, RenewalOutcome.IDLE)
        spec = connection.provider.refresh
        if not consent.must_be_used(spec, now):
            due_at = next_due(consent, spec, now)
            context.consents.save(consent, replace(consent, due_at=due_at, revision=new_revision(context)))
            return Renewal(name, RenewalOutcome.NOT_DUE)
        _, record = context.tokens.read(TokenKey(name, connection.scope))
        return self._renew(connection, record, TokenCriteria(requested_at=now, renewal=True, keeps_consent=True))

    def _renew(self, connection: Connection, record: TokenRecord, criteria: TokenCriteria) -> Renewal:
        context = self.context
        now = self.context.clock()
        policy = context.policy(connection)
        if record.stale_at is not None or any(failure.needs_change for failure in record.failures()):
            criteria = replace(criteria, secret_version=self._secret_version(connection.name))
        decision = decide(record, criteria, policy, now)
        match decision:
            case Serve():
                failure = active_cooldown(record, criteria, policy, now)
                return self._reschedule(connection, record, failure)
            case Deny(failure=failure):
                return self._reschedule(connection, record, failure)
            case AwaitOther(until=until):
                return self._come_back(record, criteria, until - now)
            case Acquire():
                return self._acquire(connection, record, criteria, decision)

    def _acquire(
        self, connection: Connection, record: TokenRecord, criteria: TokenCriteria, decision: Acquire
    ) -> Renewal:
        try:
            outcome = self.acquirer.acquire(connection, record, criteria, decision)
        except BrokerUnavailable as error:
            if not error.remembered:
                raise
            return Renewal(connection.name, RenewalOutcome.FAILED, error.code)
        except AcquisitionInProgress as error:
            return self._come_back(record, criteria, error.retry_after or SHORTEST_DELAY)
        except BrokerError as error:
            count = error.consecutive_failures if isinstance(error, ProviderError) else 0
            return Renewal(connection.name, RenewalOutcome.FAILED, error.code, count)
        if not isinstance(outcome, Acquired):
            return Renewal(connection.name, RenewalOutcome.LEASED)
        deadlines = expiry_dates(connection, [record], outcome.consent)
        return Renewal(connection.name, RenewalOutcome.RENEWED, deadlines=deadlines)

    def _come_back(self, record: TokenRecord, criteria: TokenCriteria, delay: timedelta) -> Renewal:
        """Somebody else asks the provider: the message is sent again with a delay. Raises BrokerUnavailable."""
        name = record.key.name
        scope_id = None if criteria.keeps_consent else record.key.scope_id
        if self.context.queue.send([RenewalMessage(name, scope_id, max(delay, SHORTEST_DELAY))]):
            raise BrokerUnavailable("The renewal queue did not accept a message.")
        return Renewal(name, RenewalOutcome.LEASED)

    def _reschedule(self, connection: Connection, record: TokenRecord, failure: Failure | None) -> Renewal:
        """Nothing to do now: the key is due again when its state says so."""
        # If somebody else changed the record meanwhile, its schedule follows from that.
        try_save(self.context, record, self._with_settings(connection, record), reschedule=True)
        if failure is None:
            return Renewal(connection.name, RenewalOutcome.NOT_DUE)
        return Renewal(connection.name, RenewalOutcome.COOLDOWN, failure.code, failure.count)

    def _with_settings(self, connection: Connection, record: TokenRecord) -> TokenRecord:
        return record.settings_applied(
            keep_warm=connection.renewal_mode,
            settings_digest=connection.settings_digest,
            now=self.context.clock(),
            resumed=False,
        )

    def _secret_version(self, name: ConnectionName) -> str | None:
        try:
            secret = self.context.secrets.read(name)
        except SecretNotReadable:
            return None
        return secret.version if secret is not None else None

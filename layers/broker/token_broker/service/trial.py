"""Tries credentials without keeping the token: before a pending secret is promoted, or to end cooldowns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from token_broker.core.connections import Connection
from token_broker.core.credentials import Credentials
from token_broker.core.failures import FailureLevel, next_failure
from token_broker.core.health import ConnectionHealth
from token_broker.core.names import ConnectionName, TokenKey, fingerprint
from token_broker.core.policy import Acquire, TokenCriteria
from token_broker.core.records import TokenRecord
from token_broker.errors import (
    AcquisitionInProgress,
    BrokerError,
    ConnectionMisconfigured,
    ConnectionSuspended,
    TooManyTrials,
    WouldConsumeGrant,
    WouldRevoke,
)
from token_broker.oauth.grants import GrantFailed
from token_broker.ports import ConnectionItems
from token_broker.service.acquire import Acquired, Acquirer
from token_broker.service.budget import check_budget, take_from_budget
from token_broker.service.context import BrokerContext, SettingsReader
from token_broker.service.failures import error_of, store_failure
from token_broker.service.lease import LeaseContext, end_lease, take_lease
from token_broker.service.provider_client import ProviderClient, check_api_host, check_not_expired
from token_broker.service.records import save, save_health
from token_broker.service.revoke import Revoker

PENDING = "AWSPENDING"
CURRENT = "AWSCURRENT"


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What a token from these credentials looks like. It was not kept. `stage`: of the secret's version.

    `warnings`: what is odd about the credentials.
    """

    token_id: str
    expires_in: timedelta
    scope: str
    stage: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trials:
    """Tries a connection's credentials."""

    context: BrokerContext
    settings: SettingsReader
    provider_client: ProviderClient
    revoker: Revoker
    acquirer: Acquirer

    def run(self, name: ConnectionName, *, force: bool) -> TrialResult:
        """Runs the grant once with the secret's pending version, else with its current one.

        A success with the current version ends the connection's cooldowns. Raises the failure, TooManyTrials,
        WouldRevoke, AcquisitionInProgress or another BrokerError.
        """
        context = self.context
        connection = self.settings.connection(name, self.settings.stored(name))
        if connection.suspended:
            raise ConnectionSuspended(f"{name} is suspended.")
        stage, credentials = self._credentials(connection)
        stored, record = context.tokens.read(TokenKey(name, connection.scope))
        if stored is None or stored.version != connection.version:
            # The lease write applies the settings, which must not undo those of a PUT.
            raise AcquisitionInProgress("The settings were changed just now.", retry_after=timedelta(seconds=2))
        if connection.provider.grant.needs_consent:
            return self._renew(connection, record, credentials, stage)
        criteria = TokenCriteria(requested_at=context.clock())
        check_budget(context, connection)
        lease = take_lease(context, connection, record, criteria, mark_refresh_token=False)
        if lease is None:
            raise AcquisitionInProgress("The provider is being asked right now.", retry_after=timedelta(seconds=2))
        try:
            return self._run_leased(lease, credentials, stage, force=force)
        finally:
            end_lease(context, lease, nothing_sent=False)

    def _renew(self, connection: Connection, record: TokenRecord, credentials: Credentials, stage: str) -> TrialResult:
        """With a consent a trial is an ordinary renewal, whose tokens are kept: a refresh token may work only once."""
        context = self.context
        name = connection.name
        now = self.context.clock()
        if stage == PENDING:
            raise WouldConsumeGrant(f"Pending credentials of {name} cannot be tried with its consent.")
        version = credentials.version
        self._check_spacing(name, record.health, version, now)
        health = save_health(
            context, name, record.health, lambda current: current.trial_begun(version, now, is_new=False)
        )
        criteria = TokenCriteria(requested_at=now, trial=True)
        outcome = self.acquirer.acquire(connection, record.health_changed(health), criteria, Acquire())
        if not isinstance(outcome, Acquired):
            raise AcquisitionInProgress("The provider is being asked right now.", retry_after=timedelta(seconds=2))
        self._end_cooldowns(name, outcome.record.health, context.tokens.items(name).records)
        token = outcome.token
        remaining = max(token.remaining(context.clock()), timedelta())
        return TrialResult(token.token_id, remaining, token.scope, stage, credentials.warnings)

    def _check_spacing(self, name: ConnectionName, health: ConnectionHealth, version: str, now: datetime) -> None:
        """Raises TooManyTrials."""
        next_trial_at = health.next_trial_at(version, now)
        if next_trial_at is not None:
            detail = f"{name} had five trials within 15 min, or one of the same secret version within 5 min."
            raise TooManyTrials(detail, retry_after=next_trial_at - now)

    def _credentials(self, connection: Connection) -> tuple[str, Credentials]:
        scope = connection.scope
        if self.provider_client.secret(connection, PENDING) is None:
            return CURRENT, self.provider_client.credentials(connection, scope)
        pending = self.provider_client.credentials(connection, scope, PENDING)
        try:
            current = self.provider_client.credentials(connection, scope)
        except ConnectionMisconfigured:
            return PENDING, pending
        # After a rotation the pending label can stay on the version that is current by now.
        return (CURRENT if pending.version == current.version else PENDING), pending

    def _run_leased(self, lease: LeaseContext, credentials: Credentials, stage: str, *, force: bool) -> TrialResult:
        context = self.context
        connection = lease.connection
        name = lease.key.name
        now = context.clock()
        # Read under the lease: nothing is committed after this.
        items = context.tokens.items(name)
        has_live_token = any(record.live_token(now) is not None for record in items.records)
        if connection.issue_revokes_previous and has_live_token and not force:
            raise WouldRevoke(f"A trial of {name} would revoke its live token. force=true allows that.")
        version = credentials.version
        self._check_spacing(name, lease.record.health, version, now)
        request = context.request_for(connection, credentials, lease.key.scope)
        take_from_budget(context, connection, credentials)
        is_new = stage == PENDING
        begun = save_health(
            context, name, lease.record.health, lambda current: current.trial_begun(version, now, is_new=is_new)
        )
        lease = lease.with_health(begun)
        lease = self.provider_client.count_login(lease, credentials)
        try:
            result, expiry = self.provider_client.request_token(lease, request)
            token_id = fingerprint(result.issued.access_token)
            is_known = token_id in _known_token_ids(items)
            if not is_known:
                self.revoker.revoke_access_token(connection, lease.key, result.issued.access_token, credentials)
            if connection.issue_revokes_previous and has_live_token:
                # The trial revoked the live token, as the caller allowed.
                self.revoker.purge(self.settings.stored(name))
            if not is_known:
                check_not_expired(expiry)
            check_api_host(connection, lease.record.health, result.issued.api_base_url)
        except GrantFailed as failed:
            error = self._failure(lease, credentials, stage, failed)
            error.detail = " ".join((error.detail, *credentials.warnings))
            raise error from None
        if stage == CURRENT:
            self._end_cooldowns(name, lease.record.health, items.records)
        else:
            self._settle_login(lease)
        scope = result.issued.scope or lease.key.scope
        remaining = max(expiry.expires_at - context.clock(), timedelta())
        return TrialResult(token_id, remaining, scope, stage, credentials.warnings)

    def _failure(self, lease: LeaseContext, credentials: Credentials, stage: str, failed: GrantFailed) -> BrokerError:
        """Remembers a failure of the current version. Of a pending version only a rate limit is remembered."""
        exchange_failure = failed.failure
        if stage == CURRENT or exchange_failure.level is FailureLevel.ENDPOINT:
            return store_failure(self.context, lease, credentials, failed)
        if not exchange_failure.outcome_unknown:
            self._settle_login(lease)
        now = self.context.clock()
        digest = lease.connection.settings_digest
        version = credentials.version
        failure = next_failure(
            exchange_failure, None, now=now, secret_version=version, settings_digest=digest, refused_before=True
        )
        return error_of(failure, now)

    def _settle_login(self, lease: LeaseContext) -> None:
        if lease.connection.provider.grant.counts_logins:
            save_health(self.context, lease.key.name, lease.record.health, lambda current: current.login_settled())

    def _end_cooldowns(self, name: ConnectionName, known: ConnectionHealth, records: Sequence[TokenRecord]) -> None:
        """The current credentials work: no failure of the connection or of a key holds any more."""
        health = save_health(self.context, name, known, lambda current: current.cooldowns_ended())
        for record in records:
            save(self.context, record, lambda current: current.cooldowns_ended(health))


def _known_token_ids(items: ConnectionItems) -> set[str]:
    """The tokens that the broker holds: a provider that reuses tokens may return one of them."""
    current = {record.token.token_id for record in items.records if record.token is not None}
    return current | {item.token_id for item in items.retired}

"""Tries credentials without keeping the token: before a pending secret is promoted, or to end cooldowns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from token_broker.core.connections import Connection
from token_broker.core.credentials import Credentials
from token_broker.core.failures import FailureLevel, next_failure
from token_broker.core.names import ConnectionName, TokenKey, fingerprint
from token_broker.core.policy import TokenCriteria
from token_broker.core.records import TokenRecord
from token_broker.errors import (
    AcquisitionInProgress,
    BrokerError,
    ConnectionMisconfigured,
    ConnectionSuspended,
    TooManyTrials,
    WouldRevoke,
)
from token_broker.oauth.grants import GrantFailed
from token_broker.oauth.requests import grant_request
from token_broker.service.acquire import Acquirer, error_of
from token_broker.service.budget import take_from_budget
from token_broker.service.context import BrokerContext, SettingsReader
from token_broker.service.lease import LeaseContext, take_lease
from token_broker.service.provider_client import ProviderClient
from token_broker.service.revoke import Revoker

TRIAL_SPACING = timedelta(minutes=5)
PENDING, CURRENT = "AWSPENDING", "AWSCURRENT"


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What the credentials would bring. `stage`: the secret's version that was tried. The token is gone."""

    token_id: str
    expires_in: timedelta
    scope: str
    stage: str


@dataclass(frozen=True, slots=True)
class Trials:
    """Tries a connection's credentials."""

    context: BrokerContext
    settings: SettingsReader
    provider_client: ProviderClient
    acquirer: Acquirer
    revoker: Revoker

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
        _, record = context.tokens.read(TokenKey(name, connection.scope))
        criteria = TokenCriteria(requested_at=context.clock())
        lease = take_lease(context, connection, record, criteria, mark_refresh_token=False)
        if lease is None:
            raise AcquisitionInProgress("The provider is being asked right now.", retry_after=timedelta(seconds=2))
        try:
            return self._run_leased(lease, credentials, stage, force=force)
        finally:
            context.tokens.end_lease(lease.key, lease.owner)

    def _credentials(self, connection: Connection) -> tuple[str, Credentials]:
        scope = connection.scope
        if self.context.secrets.read(connection.name, PENDING) is None:
            return CURRENT, self.provider_client.credentials(connection, scope)
        pending = self.provider_client.credentials(connection, scope, PENDING)
        try:
            current = self.provider_client.credentials(connection, scope)
        except ConnectionMisconfigured:
            return PENDING, pending
        # After a rotation the pending label can stay on the version that is current by now.
        return (CURRENT if pending.version == current.version else PENDING), pending

    def _run_leased(self, lease: LeaseContext, credentials: Credentials, stage: str, *, force: bool) -> TrialResult:
        context, connection, name = self.context, lease.connection, lease.key.name
        now = context.clock()
        # Read under the lease: nothing is committed after this.
        records = context.tokens.records(name)
        has_live_token = any(record.live_token(now) is not None for record in records)
        if connection.issue_revokes_previous and has_live_token and not force:
            raise WouldRevoke(f"A trial of {name} would revoke its live token. force=true allows that.")
        take_from_budget(context, connection)
        if not context.tokens.begin_trial(name, now=now, not_after=now - TRIAL_SPACING):
            wait = (lease.record.health.trial_at or now) + TRIAL_SPACING - now
            raise TooManyTrials(f"The last trial of {name} was less than five minutes ago.", retry_after=wait)
        if stage == PENDING:
            self.acquirer.note_new_version(lease, credentials, now)
        request = grant_request(connection, credentials, lease.key.scope, now)
        try:
            result, expiry = self.provider_client.request_token(lease, request)
        except GrantFailed as failed:
            raise self._failure(lease, credentials, stage, failed) from None
        access_token = result.issued.access_token
        token_id = fingerprint(access_token)
        if token_id not in _known_token_ids(records):
            self.revoker.revoke_access_token(connection, lease.key, access_token, credentials)
        if connection.issue_revokes_previous and has_live_token:
            # The trial revoked the live token, as the caller allowed.
            self.revoker.drop(self.settings.stored(name))
        if stage == CURRENT:
            context.tokens.end_cooldowns(name)
        else:
            self._settle_login(connection)
        scope = result.issued.scope or lease.key.scope
        return TrialResult(token_id, expiry.expires_at - context.clock(), scope, stage)

    def _failure(self, lease: LeaseContext, credentials: Credentials, stage: str, failed: GrantFailed) -> BrokerError:
        """Remembers a failure of the current version. Of a pending version only a rate limit is remembered."""
        met = failed.failure
        if stage == CURRENT or met.level is FailureLevel.ENDPOINT:
            return self.acquirer.remember(lease, credentials, failed)
        if not met.outcome_unknown:
            self._settle_login(lease.connection)
        now, digest = self.context.clock(), lease.connection.settings_digest
        failure = next_failure(met, None, now=now, secret_version=credentials.version, settings_digest=digest)
        return error_of(failure, now)

    def _settle_login(self, connection: Connection) -> None:
        if connection.provider.grant.counts_logins:
            self.context.tokens.settle_login(connection.name)


def _known_token_ids(records: Sequence[TokenRecord]) -> set[str]:
    """The tokens that the broker holds: a provider that reuses tokens may return one of them."""
    current = {record.token.token_id for record in records if record.token is not None}
    return current | {item.token_id for record in records for item in record.retired}

"""Trying credentials without keeping what they bring: before a pending secret is promoted, or to end a rest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from token_broker.broker.acquisition import Acquirer, provider_error
from token_broker.broker.parts import ACQUISITION_TIME, LEASE_TIME, Parts, order_for
from token_broker.broker.revocation import Revoker
from token_broker.core.connections import Connection
from token_broker.core.credentials import Credentials
from token_broker.core.failures import next_failure
from token_broker.core.grants import Refusal, flow_for
from token_broker.core.names import ConnectionName, TokenKey, fingerprint
from token_broker.core.tokens import TokenRecord
from token_broker.errors import (
    AcquisitionInProgress,
    ConnectionMisconfigured,
    ConnectionSuspended,
    TooManyTrials,
    WouldRevoke,
)

TRIAL_SPACING = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What the credentials would bring. `stage`: the secret's version that was tried. The token itself is gone."""

    token_id: str
    expires_in: timedelta
    scope: str
    stage: str


@dataclass(frozen=True, slots=True)
class Trials:
    """Tries a connection's credentials."""

    parts: Parts
    acquirer: Acquirer
    revoker: Revoker

    def attempt(self, name: ConnectionName, *, force: bool) -> TrialResult:
        """Runs the grant once with the secret's pending version, else with its current one.

        A success with the current version ends the connection's rests. Raises the refusal, TooManyTrials, WouldRevoke.
        """
        parts, now = self.parts, self.parts.clock()
        stored = parts.connections.get(name)
        connection = parts.connection(name, stored)
        if connection.suspended:
            raise ConnectionSuspended(f"{name} is suspended.")
        records = parts.tokens.records(name)
        is_live = any(record.token is not None and record.token.alive(now) for record in records)
        if connection.issue_revokes_previous and is_live and not force:
            raise WouldRevoke(f"A trial of {name} would end its live token; ask with force=true if that may be.")
        stage, credentials = self._credentials(connection)
        key, owner = TokenKey(name, connection.scope), parts.new_id()
        if not parts.tokens.begin_trial(name, now=now, not_after=now - TRIAL_SPACING):
            raise TooManyTrials(f"{name} was tried less than five minutes ago.", retry_after=TRIAL_SPACING)
        seen = next((record for record in records if record.key == key), TokenRecord(key))
        taken, found = parts.tokens.take_lease(seen, owner, now=now, until=now + LEASE_TIME, mark_refresh=False)
        if not taken:
            raise AcquisitionInProgress("The provider is being asked right now.", retry_after=timedelta(seconds=2))
        try:
            return self._attempt_leased(connection, key, credentials, stage, [*records, found])
        finally:
            parts.tokens.end_lease(key, owner)

    def _credentials(self, connection: Connection) -> tuple[str, Credentials]:
        if self.parts.vault.read(connection.name, "AWSPENDING") is not None:
            pending = self.acquirer.credentials(connection, connection.scope, "AWSPENDING")
            try:
                current = self.acquirer.credentials(connection, connection.scope)
            except ConnectionMisconfigured:
                return "AWSPENDING", pending
            # After a rotation the pending label may stay on what has become the current version.
            return ("AWSCURRENT" if pending.version == current.version else "AWSPENDING"), pending
        return "AWSCURRENT", self.acquirer.credentials(connection, connection.scope)

    def _attempt_leased(
        self,
        connection: Connection,
        key: TokenKey,
        credentials: Credentials,
        stage: str,
        records: list[TokenRecord],
    ) -> TrialResult:
        parts = self.parts
        parts.take_budget(connection)
        try:
            order = order_for(connection, credentials, key.scope, parts.clock())
            answer = self.acquirer.run(flow_for(order), connection, parts.clock() + ACQUISITION_TIME)
            life = self.acquirer.life(connection, answer)
        except Refusal as refusal:
            now = parts.clock()
            failure = next_failure(
                refusal.verdict,
                None,
                now=now,
                secret_version=credentials.version,
                settings_version=connection.version,
            )
            if stage == "AWSCURRENT":
                parts.tokens.put_guard(connection.name, failure, settled=True)
            raise provider_error(failure, now) from None
        issued, now = answer.issued, parts.clock()
        token_id = fingerprint(issued.access_token)
        kept = {record.token.token_id for record in records if record.token is not None}
        if token_id not in kept and not connection.issue_revokes_previous:
            self.revoker.revoke_plain(connection, key, issued.access_token)
        if stage == "AWSCURRENT":
            parts.tokens.end_rests(connection.name)
        return TrialResult(token_id, life.expires_at - now, issued.scope or key.scope, stage)

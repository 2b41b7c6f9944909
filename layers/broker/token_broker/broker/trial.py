"""Trying credentials without keeping what they bring: before a pending secret is promoted, or to end a rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from token_broker.broker.acquisition import Acquirer, error_of
from token_broker.broker.asking import Asker, Work
from token_broker.broker.parts import Parts, order_for
from token_broker.broker.revocation import Revoker
from token_broker.core.connections import Connection
from token_broker.core.credentials import Credentials
from token_broker.core.failures import Where, next_failure
from token_broker.core.grants import Refusal
from token_broker.core.names import ConnectionName, TokenKey, fingerprint
from token_broker.core.policy import TokenRequest
from token_broker.core.tokens import TokenRecord
from token_broker.errors import (
    AcquisitionInProgress,
    BrokerError,
    ConnectionMisconfigured,
    ConnectionSuspended,
    TooManyTrials,
    WouldRevoke,
)

TRIAL_SPACING = timedelta(minutes=5)
PENDING, CURRENT = "AWSPENDING", "AWSCURRENT"


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
    asker: Asker
    acquirer: Acquirer
    revoker: Revoker

    def attempt(self, name: ConnectionName, *, force: bool) -> TrialResult:
        """Runs the grant once with the secret's pending version, else with its current one.

        A success with the current version ends the connection's rests. Raises the refusal, TooManyTrials, WouldRevoke.
        """
        parts, now = self.parts, self.parts.clock()
        connection = parts.connection(name, parts.stored(name))
        if connection.suspended:
            raise ConnectionSuspended(f"{name} is suspended.")
        stage, credentials = self._credentials(connection)
        key, owner = TokenKey(name, connection.scope), parts.new_id()
        _, seen = parts.tokens.read(key)
        until = now + parts.times.lease
        taken, found = parts.tokens.take_lease(seen, owner, now=now, until=until, mark_refresh=False)
        if not taken:
            raise AcquisitionInProgress("The provider is being asked right now.", retry_after=timedelta(seconds=2))
        found, request = replace(found, guard=seen.guard), TokenRequest(asked_at=now)
        deadline = now + parts.times.acquisition
        work = Work(connection, parts.policy(connection), found, request, owner, deadline=deadline, lease_until=until)
        try:
            return self._attempt_leased(work, credentials, stage, force=force)
        finally:
            parts.tokens.end_lease(key, owner)

    def _credentials(self, connection: Connection) -> tuple[str, Credentials]:
        if self.parts.vault.read(connection.name, PENDING) is not None:
            pending = self.asker.credentials(connection, connection.scope, PENDING)
            try:
                current = self.asker.credentials(connection, connection.scope)
            except ConnectionMisconfigured:
                return PENDING, pending
            # After a rotation the pending label may stay on what has become the current version.
            return (CURRENT if pending.version == current.version else PENDING), pending
        return CURRENT, self.asker.credentials(connection, connection.scope)

    def _attempt_leased(self, work: Work, credentials: Credentials, stage: str, *, force: bool) -> TrialResult:
        parts, connection, name, now = self.parts, work.connection, work.key.name, self.parts.clock()
        # Read under the lease: what is committed before it counts, nothing is committed after it.
        records = parts.tokens.records(name)
        is_live = any(record.token is not None and record.token.alive(now) for record in records)
        if connection.issue_revokes_previous and is_live and not force:
            raise WouldRevoke(f"A trial of {name} would end its live token; ask with force=true if that may be.")
        parts.take_budget(connection)
        if not parts.tokens.begin_trial(name, now=now, not_after=now - TRIAL_SPACING):
            wait = (work.found.guard.trial_at or now) + TRIAL_SPACING - now
            raise TooManyTrials(f"{name} was tried less than five minutes ago.", retry_after=wait)
        if stage == PENDING:
            self.acquirer.note_version(work, credentials, now)
        try:
            answer, life = self.asker.exchange(work, order_for(connection, credentials, work.key.scope, now))
        except Refusal as refusal:
            raise self._refused(work, credentials, stage, refusal) from None
        token_id = fingerprint(answer.issued.access_token)
        if token_id not in _known(records):
            self.revoker.revoke_plain(connection, work.key, answer.issued.access_token, credentials)
        if connection.issue_revokes_previous and is_live:
            # What was live ended with the trial, as the caller wanted: nobody may get it any more.
            self.revoker.drop(parts.stored(name))
        if stage == CURRENT:
            parts.tokens.end_rests(name)
        else:
            self._settle(connection)
        return TrialResult(token_id, life.expires_at - parts.clock(), answer.issued.scope or work.key.scope, stage)

    def _refused(self, work: Work, credentials: Credentials, stage: str, refusal: Refusal) -> BrokerError:
        """What the current version meets is remembered as ever; what a pending one meets rests nothing but a limit."""
        verdict = refusal.verdict
        if stage == CURRENT or verdict.where is Where.LIMIT:
            return self.acquirer.remember(work, credentials, refusal)
        if not verdict.outcome_unknown:
            self._settle(work.connection)
        now, version = self.parts.clock(), work.connection.asked_version
        failure = next_failure(verdict, None, now=now, secret_version=credentials.version, settings_version=version)
        return error_of(failure, now)

    def _settle(self, connection: Connection) -> None:
        if connection.provider.grant == "login":
            self.parts.tokens.settle_attempt(connection.name)


def _known(records: Sequence[TokenRecord]) -> set[str]:
    """The tokens that the broker holds: a provider that reuses tokens may have given one of them again."""
    current = {record.token.token_id for record in records if record.token is not None}
    return current | {item.token_id for record in records for item in record.retired}

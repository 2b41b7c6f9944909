"""Acquires a token: lease, secret, budget, grant, fenced commit. Callers and the sweep share this routine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from token_broker.core.connections import Connection
from token_broker.core.credentials import Credentials
from token_broker.core.failures import (
    MISCONFIGURED_COOLDOWN,
    Failure,
    FailureKind,
    FailureLevel,
    failure_to_store,
    misconfigured,
    next_failure,
)
from token_broker.core.names import fingerprint
from token_broker.core.policy import Acquire, TokenCriteria, decide
from token_broker.core.records import RefreshToken, RetiredToken, Token, TokenRecord, pack_access_token
from token_broker.errors import (
    PROVIDER_ERRORS,
    BrokerError,
    BrokerUnavailable,
    ConnectionMisconfigured,
    ProviderRateLimited,
    TooManyScopeSets,
)
from token_broker.oauth.grants import GrantFailed
from token_broker.oauth.lifetimes import Expiry
from token_broker.oauth.requests import GrantRequest, grant_request
from token_broker.oauth.responses import IssuedToken, jwt_expiry
from token_broker.ports import Commit, SealBroken
from token_broker.service.budget import take_from_budget
from token_broker.service.context import BrokerContext
from token_broker.service.lease import LeaseContext, take_lease
from token_broker.service.provider_client import GrantResult, ProviderClient
from token_broker.service.revoke import FIRST_RETRY, Revoker, due_with_revocations

ACCESS_TOKEN, REFRESH_TOKEN = "access_token", "refresh_token"  # purposes of sealed values
MAX_SCOPE_SETS = 32
MAX_RETIRED = 4
MAX_NEW_VERSIONS = 3
NEW_VERSIONS_PERIOD = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Acquired:
    """A committed token. `record`: as it is stored now."""

    record: TokenRecord
    token: Token
    access_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Superseded:
    """Somebody else was first: read the record again. `provider_asked`: we sent a token request all the same."""

    provider_asked: bool


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What an acquisition has before it asks the provider."""

    credentials: Credentials
    request: GrantRequest


@dataclass(frozen=True, slots=True)
class Acquirer:
    """Acquires tokens. Holds no state: everything to remember is in the store."""

    context: BrokerContext
    provider_client: ProviderClient
    revoker: Revoker

    def acquire(
        self, connection: Connection, record: TokenRecord, criteria: TokenCriteria, decision: Acquire
    ) -> Acquired | Superseded:
        """Makes at most one acquisition. Stores a failure before it raises.

        Raises ProviderError, ConnectionMisconfigured, TooManyScopeSets or BrokerUnavailable.
        """
        lease = take_lease(
            self.context,
            connection,
            record,
            criteria,
            mark_refresh_token=connection.provider.grant.is_oauth,
        )
        if lease is None:
            return Superseded(provider_asked=False)
        # The record that came back may be newer than the one that was decided on.
        still_needed = isinstance(decide(lease.record, criteria, lease.policy, self.context.clock()), Acquire)
        if not still_needed or self._settings_changed(connection, record):
            self._end_unsent(lease)
            return Superseded(provider_asked=False)
        try:
            prepared = self._prepare(lease, decision)
        except BrokerError as error:
            self._end_failed(lease, error)
            raise
        if prepared is None:
            self._end_unsent(lease)
            return Superseded(provider_asked=False)
        try:
            return self._ask(lease, prepared, decision)
        except BrokerUnavailable:
            # The token could not be stored, or it was and the answer got lost. The refresh token stays marked.
            self.context.tokens.end_lease(lease.key, lease.owner)
            raise

    def _settings_changed(self, connection: Connection, record: TokenRecord) -> bool:
        """Whether the settings changed since they were read. Looked up only for a key that had no item yet.

        A purge fences every item of a connection, so that a lease on what was read before it fails. A missing item
        cannot be fenced. Grants that count logins skip this: counting has taken the call.
        """
        if record.exists or connection.provider.grant.counts_logins:
            return False
        stored = self.context.connections.get(connection.name)
        return stored is None or stored.version != connection.version

    def _prepare(self, lease: LeaseContext, decision: Acquire) -> _Prepared | None:
        """All that comes before the provider is asked. None: the secret's version changes the decision."""
        context, connection = self.context, lease.connection
        # The connection's own scope always fits. Other scope sets are counted.
        if lease.key.scope != connection.scope or connection.issue_revokes_previous:
            self._check_scope_sets(lease)
        now = context.clock()
        credentials = self.provider_client.credentials(connection, lease.key.scope)
        criteria = replace(lease.criteria, secret_version=credentials.version)
        if not isinstance(decide(lease.record, criteria, lease.policy, now), Acquire):
            return None
        failure = lease.record.health.failure
        if failure is not None and failure.secret_version != credentials.version:
            self.note_new_version(lease, credentials, now)
        request = self._grant_request(lease, credentials)
        take_from_budget(context, connection, renewal=lease.criteria.renewal)
        if decision.reported:
            count = lease.record.rejections + 1
            until = now + lease.policy.report_cooldown(count)
            context.tokens.note_report(lease.key, lease.owner, count=count, until=until)
        return _Prepared(credentials, request)

    def _ask(self, lease: LeaseContext, prepared: _Prepared, decision: Acquire) -> Acquired | Superseded:
        if self.context.clock() >= lease.deadline:
            # Our own services used up the time. That is not the provider's failure.
            self._end_unsent(lease)
            raise BrokerUnavailable("No time was left to ask the provider.")
        try:
            result, expiry = self.provider_client.request_token(lease, prepared.request)
        except GrantFailed as failed:
            if self.context.clock() >= lease.expires_at:
                # Somebody else may hold the lease by now and may have stored a token. This failure is older.
                return Superseded(provider_asked=True)
            raise self.remember(lease, prepared.credentials, failed) from None
        token = self._token(lease, prepared.credentials, result, expiry)
        acquired = self._commit(lease, result, token, reported=decision.reported)
        health = lease.record.health
        had_failure = health.failure is not None or health.rate_limit is not None
        if had_failure or lease.connection.provider.grant.counts_logins:
            self.context.tokens.clear_health(lease.key.name, health)
        return acquired

    def _grant_request(self, lease: LeaseContext, credentials: Credentials) -> GrantRequest:
        previous, now = lease.record.token, self.context.clock()
        worked_before = previous is not None and previous.secret_version == credentials.version
        request = grant_request(lease.connection, credentials, lease.key.scope, now)
        return replace(request, refresh_token=self._refresh_token_to_send(lease, now), worked_before=worked_before)

    def _refresh_token_to_send(self, lease: LeaseContext, now: datetime) -> str | None:
        """The stored refresh token: never a second time, not after it expired, and only to its issuer."""
        previous, refresh_token = lease.record.token, lease.record.refresh_token
        if refresh_token is None or refresh_token.sent or previous is None or previous.issuer != lease.policy.issuer:
            return None
        if refresh_token.expires_at is not None and refresh_token.expires_at <= now:
            return None
        try:
            return self.context.sealer.open(refresh_token.sealed, lease.key, REFRESH_TOKEN)
        except SealBroken:
            return None

    def _token(self, lease: LeaseContext, credentials: Credentials, result: GrantResult, expiry: Expiry) -> Token:
        issued, policy = result.issued, lease.policy
        refresh_in = timedelta(seconds=issued.refresh_in) if issued.refresh_in else None
        plain = pack_access_token(issued.access_token, lease.connection.endpoints.revocation)
        return Token(
            token_id=fingerprint(issued.access_token),
            scope=lease.key.scope if issued.scope is None else issued.scope,
            issued_at=result.sent_at,
            expires_at=expiry.expires_at,
            renew_at=policy.renew_at(lease.key, result.sent_at, expiry.expires_at, refresh_in),
            expires_assumed=expiry.assumed,
            expiry_disputed=expiry.disputed,
            issuer=policy.issuer,
            secret_version=credentials.version,
            sealed=self.context.sealer.seal(plain, lease.key, ACCESS_TOKEN),
        )

    def _commit(
        self, lease: LeaseContext, result: GrantResult, token: Token, *, reported: bool
    ) -> Acquired | Superseded:
        context, now, access_token = self.context, self.context.clock(), result.issued.access_token
        previous = lease.record.token
        retired = _retired_after(lease, token, now)
        renew_at = None if lease.connection.keep_warm == "never" else token.renew_at
        commit = Commit(
            read_as=lease.record,
            token=token,
            refresh_token=self._refresh_token(lease, result.issued),
            retired=retired,
            due_at=due_with_revocations(retired, renew_at, now),
            now=now,
            used=not lease.criteria.renewal,
            # The count of reports ends with a token that nobody reported until it was renewed in time.
            keep_rejections=reported or (previous is not None and previous.renew_at > now),
        )
        current = context.tokens.commit(lease.key, lease.owner, commit)
        if current is None:
            record = replace(
                lease.record, token=token, retired=commit.retired, failure=None, stale_at=None, exists=True
            )
            return Acquired(record, token, access_token)
        self._discard(lease, token, access_token, current)
        return Superseded(provider_asked=True)

    def _discard(self, lease: LeaseContext, token: Token, access_token: str, current: TokenRecord) -> None:
        """Revokes a token whose commit was refused, unless the record holds the same one."""
        known = {item.token_id for item in current.retired}
        if token.token_id in known or (current.token is not None and current.token.token_id == token.token_id):
            return
        retired = RetiredToken.of(token, revoke=True)
        if current.lease is not None:
            # The provider may give the same token to the new lease holder, whose commit then takes it off the list.
            due_at = self.context.clock() + FIRST_RETRY
            self.context.tokens.retire(lease.key, retired, lease.connection.settings, due_at)
            return
        self.revoker.revoke_or_keep(lease.connection, lease.key, retired, access_token)

    def _refresh_token(self, lease: LeaseContext, issued: IssuedToken) -> RefreshToken | None:
        if issued.refresh_token is None:
            return None
        return RefreshToken(
            refresh_id=fingerprint(issued.refresh_token),
            expires_at=jwt_expiry(issued.refresh_token),
            sent=False,
            sealed=self.context.sealer.seal(issued.refresh_token, lease.key, REFRESH_TOKEN),
        )

    def _check_scope_sets(self, lease: LeaseContext) -> None:
        connection, now = lease.connection, self.context.clock()
        if lease.record.live_token(now) is not None:
            return
        records: Sequence[TokenRecord] = self.context.tokens.records(connection.name)
        live = sum(
            1
            for record in records
            # A lease counts too: each is written before its holder counts.
            if record.key != lease.key and (record.live_token(now) is not None or record.leased(now))
        )
        limit = 1 if connection.issue_revokes_previous else MAX_SCOPE_SETS
        if live >= limit:
            raise TooManyScopeSets(
                f"{connection.name} already has tokens for {live} scope set(s). Its limit is {limit}."
            )

    def note_new_version(self, lease: LeaseContext, credentials: Credentials, now: datetime) -> None:
        """Allows at most three new versions of a secret in an hour, because providers lock an account by count.

        Raises ProviderRateLimited.
        """
        recent = [(version, at) for version, at in lease.record.health.new_versions if now - at < NEW_VERSIONS_PERIOD]
        if credentials.version in {version for version, _ in recent}:
            return
        if len(recent) >= MAX_NEW_VERSIONS:
            wait = recent[0][1] + NEW_VERSIONS_PERIOD - now
            detail = f"{MAX_NEW_VERSIONS} new versions of this secret were used within an hour."
            raise ProviderRateLimited(detail, retry_after=wait)
        self.context.tokens.note_version(lease.key.name, [*recent, (credentials.version, now)])

    def remember(self, lease: LeaseContext, credentials: Credentials, failed: GrantFailed) -> BrokerError:
        """Stores a failure at the level of its cause, ends the lease, and returns the error to raise."""
        met, connection = failed.failure, lease.connection
        context, key, now = self.context, lease.key, self.context.clock()
        health, key_failure = lease.record.health, lease.record.failure
        at_connection = health.rate_limit if met.kind is FailureKind.RATE_LIMITED else health.failure
        previous = key_failure if met.level is FailureLevel.KEY else at_connection
        failure = next_failure(
            met,
            previous,
            now=now,
            secret_version=credentials.version,
            settings_digest=connection.settings_digest,
        )
        stored = failure_to_store(failure, previous)
        per_host = met.level is FailureLevel.ENDPOINT and connection.provider.limit_per == "host"
        if per_host:
            context.tokens.cool_down_host(connection.endpoints.token_host, failure.retry_at)
        elif met.level is not FailureLevel.KEY:
            settled = failure.refused or not met.outcome_unknown
            context.tokens.put_health(key.name, stored, settled=settled, replaced=previous)
        # A host's cooldown is stored with the host. The key only shows it, and never instead of a refusal.
        show_at_key = met.level is FailureLevel.KEY or (per_host and not (key_failure and key_failure.refused))
        due_at = None if stored.refused or connection.keep_warm == "never" else failure.retry_at
        context.tokens.release(
            lease.record,
            lease.owner,
            now=now,
            failure=stored if show_at_key else None,
            unmark_refresh=failed.nothing_sent and lease.marked,
            due_at=due_with_revocations(lease.record.retired, due_at, now),
        )
        return error_of(failure, now)

    def _end_unsent(self, lease: LeaseContext) -> None:
        self.context.tokens.end_lease(lease.key, lease.owner, unmark_refresh=lease.marked)

    def _end_failed(self, lease: LeaseContext, error: BrokerError) -> None:
        """Ends a lease whose holder did not ask the provider. The sweep comes back to a key that is kept warm."""
        now, connection, token = self.context.clock(), lease.connection, lease.record.token
        failure: Failure | None = None
        if isinstance(error, ConnectionMisconfigured):
            failure = misconfigured(error.code, error.detail, now=now, settings_digest=connection.settings_digest)
        elif not isinstance(error, ProviderRateLimited):
            self._end_unsent(lease)
            return
        is_warm = connection.keep_warm == "always" or (token is not None and connection.keep_warm == "used")
        wait = error.retry_after or MISCONFIGURED_COOLDOWN
        if failure is None and token is not None:
            # The budget is used up. Tokens that expire soonest come first, the others less often.
            wait += max(token.remaining(now), timedelta()) / 16
        self.context.tokens.release(
            lease.record,
            lease.owner,
            now=now,
            failure=failure,
            unmark_refresh=lease.marked,
            due_at=due_with_revocations(lease.record.retired, now + wait if is_warm else None, now),
        )


def error_of(failure: Failure, now: datetime) -> BrokerError:
    """The error that a remembered failure means for a caller."""
    if failure.misconfigured:
        return ConnectionMisconfigured(failure.detail)
    return PROVIDER_ERRORS[failure.code](
        failure.detail,
        retry_after=max(failure.retry_at - now, timedelta(seconds=1)),
        provider_error=failure.provider_error,
        consecutive_failures=failure.count,
    )


def _retired_after(lease: LeaseContext, token: Token, now: datetime) -> tuple[RetiredToken, ...]:
    """The retired tokens beside a new one: all that must be revoked, and the latest few of the others."""
    previous = lease.record.live_token(now)
    kept = [item for item in lease.record.retired if item.expires_at > now]
    if previous is not None and previous.token_id != token.token_id and not lease.connection.issue_revokes_previous:
        kept.append(RetiredToken.of(previous, revoke=False))
    others = [item for item in kept if item.token_id != token.token_id]
    idle = [item for item in others if not item.revoke][-MAX_RETIRED:]
    return tuple(item for item in others if item.revoke or item in idle)

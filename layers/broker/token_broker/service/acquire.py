"""Acquires a token: lease, secret, budget, grant, fenced commit. Callers and the sweep share this routine."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from token_broker.core.connections import Connection
from token_broker.core.credentials import Credentials
from token_broker.core.failures import (
    MISCONFIGURED_COOLDOWN,
    Failure,
    FailureKind,
    FailureLevel,
    broker_failure,
    failure_to_store,
    misconfigured,
    next_failure,
)
from token_broker.core.health import NEW_VERSIONS_PERIOD, ConnectionHealth
from token_broker.core.names import fingerprint
from token_broker.core.policy import Acquire, TokenCriteria, decide, is_cleared
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
from token_broker.oauth.requests import GrantRequest
from token_broker.oauth.responses import IssuedToken
from token_broker.ports import Seal, SealBroken
from token_broker.service.budget import check_budget, take_from_budget
from token_broker.service.context import BrokerContext
from token_broker.service.lease import LeaseContext, end_lease, take_lease
from token_broker.service.provider_client import GrantResult, ProviderClient, check_not_expired
from token_broker.service.records import save, save_health
from token_broker.service.revoke import FIRST_RETRY, Revoker

ACCESS_TOKEN, REFRESH_TOKEN = "access_token", "refresh_token"  # purposes of sealed values
MAX_SCOPE_SETS = 32
SCOPE_SET_PERIOD = timedelta(hours=1)
MAX_NEW_VERSIONS = 3
# The least time that must be left for a second request.
MIN_EXCHANGE_TIME = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Acquired:
    """A committed token. `record`: as it is stored now."""

    record: TokenRecord
    token: Token
    access_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReadAgain:
    """Somebody else was first: read the record again. `provider_asked`: we sent a token request all the same."""

    provider_asked: bool


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What an acquisition has before it asks the provider. The seals have their data keys and call no service.

    `refresh_seal`: None where no refresh token is expected.
    """

    lease: LeaseContext
    credentials: Credentials
    request: GrantRequest
    seal: Seal
    refresh_seal: Seal | None


@dataclass(frozen=True, slots=True)
class Acquirer:
    """Acquires tokens. Holds no state: everything to remember is in the store."""

    context: BrokerContext
    provider_client: ProviderClient
    revoker: Revoker

    def acquire(
        self, connection: Connection, record: TokenRecord, criteria: TokenCriteria, decision: Acquire
    ) -> Acquired | ReadAgain:
        """Makes at most one acquisition. Stores a failure before it raises.

        Raises ProviderError, ConnectionMisconfigured, TooManyScopeSets or BrokerUnavailable.
        """
        self._check_before_lease(connection, record, criteria)
        lease = take_lease(
            self.context,
            connection,
            record,
            criteria,
            mark_refresh_token=connection.provider.grant.is_oauth,
            reported=decision.reported,
        )
        if lease is None:
            return ReadAgain(provider_asked=False)
        try:
            prepared = self._prepare(lease)
        except BrokerError as error:
            self._end_failed(lease, error)
            raise
        if prepared is None:
            end_lease(self.context, lease, nothing_sent=True)
            return ReadAgain(provider_asked=False)
        return self._ask(prepared)

    def _check_before_lease(self, connection: Connection, record: TokenRecord, criteria: TokenCriteria) -> None:
        """What can be known without the lease and the secret. Raises ProviderRateLimited or TooManyScopeSets.

        A miss makes at most eight AWS calls, so it makes only one of these two checks. The budget is taken from
        later in any case.
        """
        # The connection's own scope always fits. Other scope sets are counted.
        if record.key.scope != connection.scope and record.live_token(self.context.clock()) is None:
            self._check_scope_sets(connection, record)
            return
        try:
            check_budget(self.context, connection, renewal=criteria.renewal)
        except ProviderRateLimited as error:
            if criteria.renewal:
                deferred_until = self._deferred_until(record, error)
                save(self.context, record, lambda current: current.deferred(deferred_until))
            raise

    def _prepare(self, lease: LeaseContext) -> _Prepared | None:
        """All that comes before the provider is asked. None: changed settings or a changed secret change the decision.

        The data key comes before the token request: a token that cannot be sealed must not be issued.
        """
        context, connection = self.context, lease.connection
        if self._settings_changed(lease):
            return None
        if connection.issue_revokes_previous:
            self._check_scope_sets(connection, lease.record)
        now = context.clock()
        credentials = self.provider_client.credentials(connection, lease.key.scope)
        criteria = replace(lease.criteria, secret_version=credentials.version)
        # The record without our lease: with it, `decide` would wait for ourselves.
        if not isinstance(decide(lease.before_lease, criteria, lease.policy, now), Acquire):
            return None
        failure = lease.record.health.failure
        if failure is not None and failure.secret_version != credentials.version:
            lease = self.note_new_version(lease, credentials, now)
        elif failure is not None and failure.one_more_try and not is_cleared(failure, lease.policy, None):
            health = self._take_one_more_try(lease, failure)
            if health is None:
                return None
            lease = lease.with_health(health)
        request = self._grant_request(lease, credentials)
        seal, refresh_seal = context.sealer.prepare(lease.key, ACCESS_TOKEN), None
        if lease.before_lease.refresh_token is not None:
            refresh_seal = context.sealer.prepare(lease.key, REFRESH_TOKEN)
        take_from_budget(context, connection, credentials, renewal=lease.criteria.renewal)
        if context.clock() >= lease.deadline:
            # Our own services used up the time. That is not the provider's failure.
            raise BrokerUnavailable("No time was left to ask the provider.")
        lease = self.provider_client.count_login(lease, credentials)
        return _Prepared(lease, credentials, request, seal, refresh_seal)

    def _settings_changed(self, lease: LeaseContext) -> bool:
        """Whether the settings changed since they were read. Looked up only for a key that had no item yet.

        A purge changes the revision of every item of a connection, so that no lease can follow on what was read before
        it. A missing item has no revision.
        """
        if lease.before_lease.exists:
            return False
        stored = self.context.connections.get(lease.key.name)
        return stored is None or stored.version != lease.connection.version

    def _ask(self, prepared: _Prepared) -> Acquired | ReadAgain:
        lease = prepared.lease
        try:
            result, expiry = self.provider_client.request_token(lease, prepared.request)
            ask_again_at = self._ask_again_at(lease, result, expiry)
            if ask_again_at is not None:
                again = self._wait_for_new_token(prepared, result.issued, ask_again_at)
                if again is None:
                    return ReadAgain(provider_asked=True)
                prepared, lease = again, again.lease
                result, expiry = self.provider_client.request_token(lease, prepared.request)
                if expiry.expired is not None:
                    self._keep_refresh_token(lease, self._refresh_token(prepared, result.issued), sent=False)
            check_not_expired(expiry)
        except GrantFailed as failed:
            if self.context.clock() >= lease.expires_at:
                # Somebody else may hold the lease by now and may have stored a token. This failure is older.
                return ReadAgain(provider_asked=True)
            raise self.store_failure(lease, prepared.credentials, failed) from None
        access_token = result.issued.access_token
        plain = pack_access_token(access_token, lease.connection.endpoints.revocation)
        token = _token(lease, prepared.credentials, result, expiry, sealed=prepared.seal(plain))
        try:
            refresh_token = self._refresh_token(prepared, result.issued)
            acquired = self._commit(lease, token, refresh_token, access_token)
            self._note_success(lease)
        except BrokerUnavailable as error:
            return self._commit_failed(lease, token, access_token, error)
        if acquired is None:
            self._discard(lease, token, access_token)
            return ReadAgain(provider_asked=True)
        return acquired

    def _ask_again_at(self, lease: LeaseContext, result: GrantResult, expiry: Expiry) -> datetime | None:
        """When to ask once more for a token with time left; None: this one has some, or logins are counted."""
        if lease.connection.provider.grant.counts_logins:
            return None
        token_id = fingerprint(result.issued.access_token)
        return lease.policy.ask_again_at(
            lease.before_lease, token_id, expiry.expires_at, sent_at=result.sent_at, received_at=self.context.clock()
        )

    def _wait_for_new_token(self, prepared: _Prepared, issued: IssuedToken, until: datetime) -> _Prepared | None:
        """Waits for the time to ask once more. None: the time is too short, or the lease is not ours any more.

        A new refresh token is stored first, and marked as sent before it is sent. Raises BrokerUnavailable or
        ProviderRateLimited, after which the lease has ended or expires.
        """
        context = self.context
        refresh_token = self._refresh_token(prepared, issued)
        kept = self._keep_refresh_token(prepared.lease, refresh_token, sent=False)
        if kept is None:
            return None
        # What was sent stays marked, even if nothing is sent the second time.
        lease = replace(prepared.lease, before_lease=kept)
        try:
            if until + MIN_EXCHANGE_TIME > lease.deadline:
                end_lease(context, lease, nothing_sent=False)
                return None
            take_from_budget(context, lease.connection, prepared.credentials, renewal=lease.criteria.renewal)
        except ProviderRateLimited:
            end_lease(context, lease, nothing_sent=False)
            raise
        context.sleep(max((until - context.clock()).total_seconds(), 0))
        if self._keep_refresh_token(lease, refresh_token, sent=True) is None:
            return None
        request = replace(prepared.request, refresh_token=issued.refresh_token if refresh_token is not None else None)
        return replace(prepared, lease=lease, request=request)

    def _keep_refresh_token(
        self, lease: LeaseContext, refresh_token: RefreshToken | None, *, sent: bool
    ) -> TokenRecord | None:
        """Stores a refresh token under the lease. Returns the record, or None if the lease is not ours any more."""
        if refresh_token is None:
            return lease.record

        def rotated(current: TokenRecord) -> TokenRecord | None:
            return (
                current.refresh_token_rotated(refresh_token, sent=sent) if current.last_leased_by(lease.owner) else None
            )

        return save(self.context, lease.record, rotated)

    def _grant_request(self, lease: LeaseContext, credentials: Credentials) -> GrantRequest:
        previous, now = lease.record.token, self.context.clock()
        worked_before = previous is not None and previous.secret_version == credentials.version
        request = self.context.request_for(lease.connection, credentials, lease.key.scope)
        return replace(request, refresh_token=self._refresh_token_to_send(lease, now), worked_before=worked_before)

    def _refresh_token_to_send(self, lease: LeaseContext, now: datetime) -> str | None:
        """The stored refresh token: never a second time, not after it expired, and only to its own endpoint."""
        previous, refresh_token = lease.before_lease.token, lease.before_lease.refresh_token
        if refresh_token is None or refresh_token.sent or previous is None:
            return None
        if previous.token_endpoint != lease.policy.token_endpoint:
            return None
        if refresh_token.expires_at is not None and refresh_token.expires_at <= now:
            return None
        try:
            return self.context.sealer.open(refresh_token.sealed, lease.key, REFRESH_TOKEN)
        except SealBroken:
            return None

    def _commit(
        self, lease: LeaseContext, token: Token, refresh_token: RefreshToken | None, access_token: str
    ) -> Acquired | None:
        """Stores the token while the lease is ours; None if it is not. Raises BrokerUnavailable."""
        context, connection, now = self.context, lease.connection, self.context.clock()
        previous = lease.before_lease.live_token(now)
        superseded = previous is not None and previous.token_id != token.token_id
        can_revoke = connection.endpoints.revocation is not None and not connection.issue_revokes_previous
        if previous is not None and superseded and can_revoke:
            # Before the commit: a purge must find every token that lives. What a purge marked stays as it is.
            context.tokens.put_retired(RetiredToken.of(lease.key, previous))

        def committed(current: TokenRecord) -> TokenRecord | None:
            if not current.last_leased_by(lease.owner):
                return None
            return current.committed(
                token,
                refresh_token,
                at_lease=lease.record,
                now=now,
                used=not lease.criteria.renewal,
                learns_reissue=lease.policy.new_token_window is None,
            )

        record = save(context, lease.record, committed)
        if record is None or record.token is None:
            return None
        return Acquired(record, record.token, access_token)

    def _note_success(self, lease: LeaseContext) -> None:
        """The credentials work: the failures that were known before are over, and so are unresolved logins."""
        health = lease.record.health
        if health.failures or health.unresolved_logins:
            save_health(self.context, lease.key.name, health, lambda current: current.succeeded(health))

    def _commit_failed(
        self, lease: LeaseContext, token: Token, access_token: str, error: BrokerUnavailable
    ) -> Acquired:
        """The token could not be stored, or it was stored and the response got lost. Raises the error if it was not.

        The token is revoked only after the lease was replaced, so that our write can no longer take effect, and a read
        shows another token. If that is not certain, it is not revoked. A refresh token stays marked as sent.
        """
        context, now = self.context, self.context.clock()
        with suppress(BrokerUnavailable):
            _, current = context.tokens.read(lease.key)
            if current.token is not None and current.token.sealed == token.sealed:
                return Acquired(current, current.token, access_token)
            self._note_success(lease)
            failure = broker_failure(
                error.detail, current.failure, now=now, settings_digest=lease.connection.settings_digest
            )
            save(context, current, lambda found: found.failed(failure) if found.last_leased_by(lease.owner) else None)
            error.remembered = True
            self._discard(lease, token, access_token)
        raise error

    def _discard(self, lease: LeaseContext, token: Token, access_token: str) -> None:
        """Revokes a token that was not stored, unless the record holds the same one."""
        if lease.connection.endpoints.revocation is None:
            return
        _, current = self.context.tokens.read(lease.key)
        known = {found.token_id for found in (current.token, lease.before_lease.token) if found is not None}
        if token.token_id in known:
            return
        now = self.context.clock()
        retired = RetiredToken.of(lease.key, token).to_revoke(lease.connection.settings, now + FIRST_RETRY)
        if current.leased(now):
            # The provider may give the same token to the new lease holder. The worker looks before it revokes.
            self.context.tokens.put_retired(retired)
        else:
            self.revoker.revoke_or_keep(lease.connection, retired, access_token)

    def _refresh_token(self, prepared: _Prepared, issued: IssuedToken) -> RefreshToken | None:
        """The issued refresh token, sealed. One that cannot be sealed is dropped: the grant can start anew.

        A login has no use for one.
        """
        if issued.refresh_token is None or not prepared.lease.connection.provider.grant.is_oauth:
            return None
        seal = prepared.refresh_seal
        if seal is None:
            try:
                seal = self.context.sealer.prepare(prepared.lease.key, REFRESH_TOKEN)
            except BrokerUnavailable:
                return None
        return RefreshToken(
            refresh_id=fingerprint(issued.refresh_token),
            expires_at=issued.refresh_token_expires_at(self.context.clock()),
            sent=False,
            sealed=seal(issued.refresh_token),
        )

    def _check_scope_sets(self, connection: Connection, record: TokenRecord) -> None:
        """Bounds the scope sets of a connection: those with a live token, a lease, or a failure within the last hour.

        Raises TooManyScopeSets.
        """
        now = self.context.clock()
        if record.live_token(now) is not None:
            return
        others = (found for found in self.context.tokens.items(connection.name).records if found.key != record.key)
        taken = sum(1 for found in others if _takes_a_place(found, now))
        limit = 1 if connection.issue_revokes_previous else MAX_SCOPE_SETS
        if taken >= limit:
            raise TooManyScopeSets(
                f"{connection.name} already has tokens for {taken} scope set(s). Its limit is {limit}."
            )

    def note_new_version(self, lease: LeaseContext, credentials: Credentials, now: datetime) -> LeaseContext:
        """Allows at most three new versions of a secret in an hour, because providers lock an account by count.

        Raises ProviderRateLimited.
        """
        health = lease.record.health
        recent = health.recent_versions(now)
        if credentials.version in {version for version, _ in recent}:
            return lease
        if len(recent) >= MAX_NEW_VERSIONS:
            wait = recent[0][1] + NEW_VERSIONS_PERIOD - now
            detail = (
                f"{MAX_NEW_VERSIONS} new versions of this secret were used within an hour. "
                "The broker waits, so that the account is not locked."
            )
            raise ProviderRateLimited(detail, retry_after=wait)
        noted = save_health(
            self.context, lease.key.name, health, lambda current: current.version_noted(credentials.version, now)
        )
        return lease.with_health(noted)

    def _take_one_more_try(self, lease: LeaseContext, refusal: Failure) -> ConnectionHealth | None:
        """Takes the one more try after the first refusal of a secret's version, for all keys of the connection.

        The health with the try taken; None if somebody else was first.
        """
        taken: ConnectionHealth | None = None

        def take(current: ConnectionHealth) -> ConnectionHealth:
            nonlocal taken
            taken = current.one_more_try_taken(refusal, lease.expires_at)
            return taken or current

        health = save_health(self.context, lease.key.name, lease.record.health, take)
        return health if taken is not None else None

    def store_failure(self, lease: LeaseContext, credentials: Credentials, failed: GrantFailed) -> BrokerError:
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
            refused_before=credentials.version in health.refused_versions,
            counts_logins=connection.provider.grant.counts_logins,
        )
        stored = failure_to_store(failure, previous)
        per_host = met.level is FailureLevel.ENDPOINT and connection.provider.is_limited_per_host
        if per_host:
            context.budgets.cool_down(connection.endpoints.token_host, failure.retry_at)
        elif met.level is not FailureLevel.KEY:
            reset_logins = failure.refused or not met.outcome_unknown
            health = save_health(
                context,
                key.name,
                health,
                lambda current: current.failed(stored, replaced=previous, reset_logins=reset_logins),
            )
        # A host's cooldown is stored with the host. The key holds a copy to show, which never replaces a refusal.
        show_at_key = met.level is FailureLevel.KEY or (per_host and not (key_failure and key_failure.refused))
        restore_mark_from = lease.before_lease if failed.nothing_sent else None

        def remembered(current: TokenRecord) -> TokenRecord | None:
            if not current.last_leased_by(lease.owner):
                return None
            return current.health_changed(health).failed(
                stored if show_at_key else None, restore_mark_from=restore_mark_from
            )

        save(context, lease.record, remembered)
        return error_of(failure, now)

    def _end_failed(self, lease: LeaseContext, error: BrokerError) -> None:
        """Ends a lease whose holder did not ask the provider. The record remembers why, and when to come back."""
        now, digest = self.context.clock(), lease.connection.settings_digest
        stored = lease.record.failure

        def ended(current: TokenRecord) -> TokenRecord | None:
            if not current.last_leased_by(lease.owner):
                return None
            if isinstance(error, ProviderRateLimited):
                return current.lease_ended(lease.before_lease).deferred(self._deferred_until(current, error))
            failure = None
            if isinstance(error, ConnectionMisconfigured):
                failure = misconfigured(error.code, error.detail, now=now, settings_digest=digest)
            elif isinstance(error, BrokerUnavailable):
                met = broker_failure(error.detail, stored, now=now, settings_digest=digest)
                failure = failure_to_store(met, stored)
            return current.failed(failure, restore_mark_from=lease.before_lease)

        try:
            save(self.context, lease.record, ended)
        except BrokerUnavailable:
            return
        if isinstance(error, BrokerUnavailable):
            error.remembered = True

    def _deferred_until(self, record: TokenRecord, error: ProviderRateLimited) -> datetime:
        """When the sweep comes back to a key whose budget is used up: soon for a token that expires soon."""
        now, wait = self.context.clock(), error.retry_after or MISCONFIGURED_COOLDOWN
        token = record.live_token(now)
        return now + wait + (token.remaining(now) / 16 if token is not None else timedelta())


def error_of(failure: Failure, now: datetime) -> BrokerError:
    """The error that a remembered failure means for a caller."""
    if failure.misconfigured:
        return ConnectionMisconfigured(failure.detail)
    retry_after = max(failure.retry_at - now, timedelta(seconds=1))
    if failure.code == FailureKind.BROKER.code:
        return BrokerUnavailable(failure.detail, retry_after=retry_after)
    return PROVIDER_ERRORS[failure.code](
        failure.detail,
        retry_after=retry_after,
        provider_error=failure.provider_error,
        consecutive_failures=failure.count,
    )


def _token(
    lease: LeaseContext, credentials: Credentials, result: GrantResult, expiry: Expiry, *, sealed: bytes
) -> Token:
    issued, policy = result.issued, lease.policy
    refresh_in = timedelta(seconds=issued.refresh_in) if issued.refresh_in else None
    return Token(
        token_id=fingerprint(issued.access_token),
        scope=lease.key.scope if issued.scope is None else issued.scope,
        issued_at=result.sent_at,
        expires_at=expiry.expires_at,
        renew_at=policy.renew_at(lease.key, result.sent_at, expiry.expires_at, refresh_in),
        expires_assumed=expiry.assumed,
        expiry_disputed=expiry.disputed,
        token_endpoint=policy.token_endpoint,
        settings_digest=policy.settings_digest,
        secret_version=credentials.version,
        sealed=sealed,
    )


def _takes_a_place(record: TokenRecord, now: datetime) -> bool:
    """Whether a scope set counts: it has a live token, a lease, or a failure within the last hour."""
    if record.live_token(now) is not None or record.leased(now):
        return True
    return record.failure is not None and now - record.failure.at < SCOPE_SET_PERIOD

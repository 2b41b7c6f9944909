"""Acquires a token: lease, secret, budget, grant, fenced commit. Callers and the sweep share this routine."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from token_broker.core.connections import Connection
from token_broker.core.credentials import Credentials
from token_broker.core.failures import (
    Failure,
    broker_failure,
)
from token_broker.core.health import ConnectionHealth
from token_broker.core.names import fingerprint
from token_broker.core.policy import Acquire, TokenCriteria, decide, is_cleared
from token_broker.core.records import (
    ACCESS_TOKEN,
    REFRESH_TOKEN,
    OpenedToken,
    RefreshToken,
    RetiredToken,
    Token,
    TokenRecord,
)
from token_broker.errors import (
    BrokerError,
    BrokerUnavailable,
    ConsentRequired,
    ProviderRateLimited,
)
from token_broker.oauth.grants import GrantFailed
from token_broker.oauth.lifetimes import Expiry
from token_broker.oauth.requests import GrantRequest
from token_broker.oauth.responses import IssuedToken
from token_broker.ports import Seal
from token_broker.service.budget import check_budget, take_from_budget
from token_broker.service.context import BrokerContext
from token_broker.service.failures import deferred_until, end_failed_lease, store_failure
from token_broker.service.lease import LeaseContext, end_lease, take_lease
from token_broker.service.provider_client import GrantResult, ProviderClient, check_api_host, check_not_expired
from token_broker.service.records import save, save_health
from token_broker.service.refresh_tokens import keep_refresh_token, refresh_token_to_send, seal_refresh_token
from token_broker.service.revoke import FIRST_RETRY, Revoker
from token_broker.service.scope_sets import check_scope_sets
from token_broker.service.secret_version_limits import note_new_version, take_one_more_try

# Most connections need no consent. An import costs every cold start, so this one is made at its first use.
if TYPE_CHECKING:
    from token_broker.core.consents import Consent
    from token_broker.service.consents import RefreshSending

# The least time that must be left for a second request.
MIN_EXCHANGE_TIME = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Acquired:
    """A committed token. `record` and, where the grant needs one, `consent`: as they are stored now."""

    record: TokenRecord
    token: Token
    opened: OpenedToken
    consent: Consent | None = None


@dataclass(frozen=True, slots=True)
class ReadAgain:
    """Somebody else was first: read the record again. `provider_asked`: we sent a token request all the same."""

    provider_asked: bool


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What an acquisition has before it asks the provider. The seals have their data keys and call no service.

    `refresh_seal`: None where no refresh token of the key is expected. `sending`: of a consent's refresh token.
    """

    lease: LeaseContext
    credentials: Credentials
    request: GrantRequest
    seal: Seal
    refresh_seal: Seal | None
    sending: RefreshSending | None = None

    def begun(self, sending: RefreshSending) -> _Prepared | None:
        """With the refresh token marked as sent; None if the consent changed meanwhile. Raises BrokerUnavailable."""
        if not sending.begin():
            return None
        return replace(self, lease=replace(self.lease, deadline=sending.deadline))


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

        Raises ProviderError, ConnectionMisconfigured, TooManyScopeSets, AcquisitionInProgress or BrokerUnavailable.
        """
        # The numbers are those of docs/architecture.md, "Acquire". 1. Before the lease.
        self._check_before_lease(connection, record, criteria)
        # 2. The lease.
        lease = take_lease(
            self.context,
            connection,
            record,
            criteria,
            mark_refresh_token=connection.provider.grant.refreshes_keys,
            reported=decision.reported,
        )
        if lease is None:
            return ReadAgain(provider_asked=False)
        try:
            prepared = self._prepare(lease)
            if prepared is not None and prepared.sending is not None:
                # What it marks as sent is sent at once.
                prepared = prepared.begun(prepared.sending)
        except ConsentRequired:
            raise  # it is stored, and the lease has ended
        except BrokerError as error:
            end_failed_lease(self.context, lease, error)
            raise
        if prepared is None:
            end_lease(self.context, lease, nothing_sent=True)
            return ReadAgain(provider_asked=False)
        return self._ask(prepared) if prepared.sending is None else self._refresh(prepared, prepared.sending)

    def _check_before_lease(self, connection: Connection, record: TokenRecord, criteria: TokenCriteria) -> None:
        """What can be known without the lease and the secret. Raises ProviderRateLimited or TooManyScopeSets.

        The first miss of a key makes at most eight AWS calls, so it makes at most one of these two checks, and none
        for the connection's own scope. The budget is taken from later in any case.
        """
        # The connection's own scope is not counted, except with `issue_revokes_previous`: see step 3.
        if record.key.scope != connection.scope and record.live_token(self.context.clock()) is None:
            check_scope_sets(self.context, connection, record)
            return
        if not record.exists:
            # If the budget is used up, this is found out once under the lease. After that the key has a record.
            return
        try:
            check_budget(self.context, connection, renewal=criteria.renewal)
        except ProviderRateLimited as error:
            if criteria.renewal:
                until = deferred_until(self.context, record, error)
                save(self.context, record, lambda current: current.deferred(until))
            raise

    def _prepare(self, lease: LeaseContext) -> _Prepared | None:
        """All that comes before the provider is asked. None: changed settings or a changed secret change the decision.

        The data key comes before the token request: a token that cannot be sealed must not be issued.
        """
        context = self.context
        connection = lease.connection
        # 3. The settings again.
        if self._settings_changed(lease):
            return None
        if connection.issue_revokes_previous:
            check_scope_sets(self.context, connection, lease.record)
        # 4. The secret.
        now = context.clock()
        credentials = self.provider_client.credentials(connection, lease.key.scope)
        criteria = replace(lease.criteria, secret_version=credentials.version)
        # The record without our lease: with it, `decide` would wait for ourselves.
        if not isinstance(decide(lease.before_lease, criteria, lease.policy, now), Acquire):
            return None
        failure = lease.record.health.failure
        if failure is not None and failure.secret_version != credentials.version:
            lease = note_new_version(context, lease, credentials, now)
        elif failure is not None and _takes_one_more_try(failure, lease):
            health = take_one_more_try(context, lease, failure)
            if health is None:
                return None
            lease = lease.with_health(health)
        sending = self._consent(lease, credentials)
        request = self._grant_request(lease, credentials, sending)
        # 5. The data key.
        seal = context.sealer.prepare(lease.key.place, ACCESS_TOKEN)
        refresh_seal = None
        if lease.before_lease.refresh_token is not None:
            refresh_seal = context.sealer.prepare(lease.key.place, REFRESH_TOKEN)
        # 6. The budget.
        take_from_budget(context, connection, credentials, renewal=lease.criteria.renewal)
        if context.clock() >= lease.deadline:
            # Our own services used up the time. That is not the provider's failure.
            raise BrokerUnavailable("No time was left to ask the provider.")
        # A login is counted before step 7 sends it.
        lease = self.provider_client.count_login(lease, credentials)
        return _Prepared(lease, credentials, request, seal, refresh_seal, sending)

    def _consent(self, lease: LeaseContext, credentials: Credentials) -> RefreshSending | None:
        """The refresh token of the connection's consent, where the grant needs one."""
        if not lease.connection.provider.grant.needs_consent:
            return None
        from token_broker.service.consents import prepare_sending

        return prepare_sending(self.context, lease, credentials)

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
        # 7. The grant.
        try:
            result, expiry = self.provider_client.request_token(lease, prepared.request)
            ask_again_at = self._ask_again_at(lease, result, expiry)
            if ask_again_at is not None:
                again = self._wait_for_new_token(prepared, result.issued, ask_again_at)
                if again is None:
                    return ReadAgain(provider_asked=True)
                prepared = again
                lease = again.lease
                result, expiry = self.provider_client.request_token(lease, prepared.request)
                if expiry.expired is not None:
                    rotated = seal_refresh_token(self.context, lease, prepared.refresh_seal, result.issued)
                    keep_refresh_token(self.context, lease, rotated, sent=False)
            check_not_expired(expiry)
        except GrantFailed as failed:
            if self.context.clock() >= lease.expires_at:
                # Somebody else may hold the lease by now and may have stored a token. This failure is older.
                return ReadAgain(provider_asked=True)
            raise store_failure(self.context, lease, prepared.credentials, failed) from None
        # 8. The commit.
        return self._store(prepared, result, expiry)

    def _refresh(self, prepared: _Prepared, sending: RefreshSending) -> Acquired | ReadAgain:
        """Steps 7 and 8 with the refresh token of a consent: what becomes of the consent is stored first."""
        from token_broker.service.consents import store_consent_failure

        lease = prepared.lease
        credentials = prepared.credentials
        try:
            result, expiry = self.provider_client.request_token(lease, prepared.request)
        except GrantFailed as failed:
            if not sending.failed(failed):
                return self._consent_changed(lease)
            if self.context.clock() >= lease.expires_at:
                return ReadAgain(provider_asked=True)
            raise store_consent_failure(self.context, lease, credentials, sending.consent, failed) from None
        try:
            is_stored = sending.succeeded(result.issued) is not None
        except BrokerUnavailable as error:
            end_failed_lease(self.context, lease, error)
            raise
        if not is_stored:
            return self._consent_changed(lease)
        try:
            check_not_expired(expiry)
        except GrantFailed as failed:
            raise store_failure(self.context, lease, credentials, failed) from None
        outcome = self._store(prepared, result, expiry)
        return replace(outcome, consent=sending.consent) if isinstance(outcome, Acquired) else outcome

    def _consent_changed(self, lease: LeaseContext) -> ReadAgain:
        """The consent is another by now, or dropped: what came belongs to the old one. The next request uses it."""
        with suppress(BrokerUnavailable):
            end_lease(self.context, lease, nothing_sent=False)
        return ReadAgain(provider_asked=True)

    def _store(self, prepared: _Prepared, result: GrantResult, expiry: Expiry) -> Acquired | ReadAgain:
        """Commits the token, or revokes it. Raises ProviderInvalidResponse (another API host) or BrokerUnavailable."""
        lease = prepared.lease
        kept = prepared.sending.consent.kept if prepared.sending is not None else {}
        opened = replace(_opened(lease, prepared.credentials, result.issued), kept=kept)
        token = _token(lease, prepared.credentials, result, expiry, sealed=prepared.seal(opened.pack()))
        try:
            if opened.api_base_url is not None:
                self._check_api_host(lease, opened.api_base_url)
            refresh_token = seal_refresh_token(self.context, lease, prepared.refresh_seal, result.issued)
            acquired = self._commit(lease, token, refresh_token, opened)
            if opened.api_base_url is None:
                self._note_success(lease)
        except GrantFailed as failed:
            self._discard(lease, token, opened)
            raise store_failure(self.context, lease, prepared.credentials, failed) from None
        except BrokerUnavailable as error:
            return self._commit_failed(lease, token, opened, error)
        if acquired is None:
            self._discard(lease, token, opened)
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
        refresh_token = seal_refresh_token(context, prepared.lease, prepared.refresh_seal, issued)
        kept = keep_refresh_token(context, prepared.lease, refresh_token, sent=False)
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
        if keep_refresh_token(context, lease, refresh_token, sent=True) is None:
            return None
        request = replace(prepared.request, refresh_token=issued.refresh_token if refresh_token is not None else None)
        return replace(prepared, lease=lease, request=request)

    def _grant_request(
        self, lease: LeaseContext, credentials: Credentials, sending: RefreshSending | None
    ) -> GrantRequest:
        previous = lease.record.token
        now = self.context.clock()
        worked_before = previous is not None and previous.secret_version == credentials.version
        request = self.context.request_for(lease.connection, credentials, lease.key.scope)
        refresh_token = refresh_token_to_send(self.context, lease, now) if sending is None else sending.refresh_token
        return replace(request, refresh_token=refresh_token, worked_before=worked_before)

    def _commit(
        self, lease: LeaseContext, token: Token, refresh_token: RefreshToken | None, opened: OpenedToken
    ) -> Acquired | None:
        """Stores the token while the lease is ours; None if it is not. Raises BrokerUnavailable."""
        context = self.context
        connection = lease.connection
        now = self.context.clock()
        previous = lease.before_lease.live_token(now)
        superseded = previous is not None and previous.token_id != token.token_id
        can_revoke = connection.revocation_obstacle is None and not connection.issue_revokes_previous
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
        return Acquired(record, record.token, opened)

    def _check_api_host(self, lease: LeaseContext, api_base_url: str) -> None:
        """The first API host that a response names is remembered. Only a change of the settings allows another one.

        The same write notes the success. Raises GrantFailed or BrokerUnavailable.
        """
        host = urlsplit(api_base_url).hostname or ""
        digest = lease.connection.settings_digest
        known = lease.record.health
        now = self.context.clock()

        def seen(current: ConnectionHealth) -> ConnectionHealth:
            after = current.api_host_seen(host, digest, now)
            return _succeeded(after, known) if after.allows_api_host(host, digest) else after

        health = save_health(self.context, lease.key.name, known, seen)
        check_api_host(lease.connection, health, api_base_url)

    def _note_success(self, lease: LeaseContext) -> None:
        """The credentials work: the failures that were known before are over, and so are unresolved logins."""
        known = lease.record.health
        save_health(self.context, lease.key.name, known, lambda current: _succeeded(current, known))

    def _commit_failed(
        self, lease: LeaseContext, token: Token, opened: OpenedToken, error: BrokerUnavailable
    ) -> Acquired:
        """The token could not be stored, or it was stored and the response got lost. Raises the error if it was not.

        The token is revoked only after the lease was replaced, so that our write can no longer take effect, and a read
        shows another token. If that is not certain, it is not revoked. A refresh token stays marked as sent.
        """
        context = self.context
        now = self.context.clock()
        with suppress(BrokerUnavailable):
            _, current = context.tokens.read(lease.key)
            if current.token is not None and current.token.sealed == token.sealed:
                return Acquired(current, current.token, opened)
            self._note_success(lease)
            failure = broker_failure(
                error.detail, current.failure, now=now, settings_digest=lease.connection.settings_digest
            )
            save(context, current, lambda found: found.failed(failure) if found.last_leased_by(lease.owner) else None)
            error.remembered = True
            self._discard(lease, token, opened)
        raise error

    def _discard(self, lease: LeaseContext, token: Token, opened: OpenedToken) -> None:
        """Revokes a token that was not stored, unless the record holds the same one."""
        if lease.connection.revocation_obstacle is not None:
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
            self.revoker.revoke_or_keep(lease.connection, retired, opened.access_token)


def _succeeded(current: ConnectionHealth, known: ConnectionHealth) -> ConnectionHealth:
    """`current` after an issued token. `known`: what was known when it was requested."""
    return current.succeeded(known) if known.failures or known.unresolved_logins else current


def _takes_one_more_try(failure: Failure, lease: LeaseContext) -> bool:
    """Whether this request is the one more try after a refusal. A trial does not use it up."""
    return failure.one_more_try and not lease.criteria.trial and not is_cleared(failure, lease.policy, None)


def _opened(lease: LeaseContext, credentials: Credentials, issued: IssuedToken) -> OpenedToken:
    connection = lease.connection
    public = connection.provider.send.public_credentials
    return OpenedToken(
        issued.access_token,
        connection.endpoints.revocation,
        issued.api_base_url,
        {name: credentials.values[name] for name in public if name in credentials.values},
    )


def _token(
    lease: LeaseContext, credentials: Credentials, result: GrantResult, expiry: Expiry, *, sealed: bytes
) -> Token:
    issued = result.issued
    policy = lease.policy
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

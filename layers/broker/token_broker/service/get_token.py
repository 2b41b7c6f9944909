"""Gets a token for a caller: from memory, from the table, or from the provider, as `decide` decides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from token_broker.core.callers import Caller
from token_broker.core.connections import Connection
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.policy import (
    Acquire,
    AwaitOther,
    Decision,
    Deny,
    RenewalPolicy,
    Serve,
    TokenCriteria,
    active_cooldown,
    decide,
    fallback_for,
    is_stale,
    usable_token,
    warnings,
)
from token_broker.core.records import ACCESS_TOKEN, OpenedToken, Token, TokenRecord
from token_broker.core.schedule import IDLE_TIME
from token_broker.errors import (
    AcquisitionInProgress,
    BrokerError,
    BrokerUnavailable,
    ConnectionMisconfigured,
    ConnectionSuspended,
    ProviderError,
    ProviderUnavailable,
    TooManyRejections,
)
from token_broker.ports import DueKey, RenewalMessage, SealBroken, SecretNotReadable, StoredSettings
from token_broker.service.acquire import Acquired, Acquirer, ReadAgain
from token_broker.service.context import BrokerContext, SettingsReader
from token_broker.service.failures import error_of
from token_broker.service.records import try_save
from token_broker.service.token_memory import MAX_ENTRIES, CachedToken, TokenMemory

if TYPE_CHECKING:
    from token_broker.core.consents import Consent

MEMORY_TIME = timedelta(seconds=30)
MEMORY_TIME_IN_OUTAGE = timedelta(minutes=5)
SECRET_CHECK_SPACING = timedelta(seconds=30)
FIRST_PAUSE_S = 0.05
LAST_PAUSE_S = 0.4
RETRY_IN_PROGRESS = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A caller's request. `deadline`: when the response must be ready. `scope` None: the connection's own."""

    caller: Caller
    name: ConnectionName
    deadline: datetime
    scope: str | None = None
    min_ttl: timedelta | None = None
    rejected: str | None = None


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A token for a caller. `source`: memory, table or provider. `consent`: the one that it was just got with."""

    connection: Connection
    token: Token
    source: str
    now: datetime
    warnings: tuple[str, ...]
    opened: OpenedToken
    consent: Consent | None = None

    @property
    def access_token(self) -> str:
        return self.opened.access_token

    @property
    def api_base_url(self) -> str | None:
        """The base URL of the provider's API: the setting's, else the file's, else the one that came with the token."""
        return self.connection.sent_base_url(self.opened.kept) or self.opened.api_base_url

    @property
    def headers(self) -> dict[str, str]:
        """The headers to send to the provider's API. They hold the token."""
        return self.connection.sent_headers(self.opened.access_token, self.opened.credentials, self.opened.kept)


@dataclass(frozen=True, slots=True)
class Reading:
    """One read of the table and what follows from it. `read_at`: before the read; `now`: after it."""

    connection: Connection
    policy: RenewalPolicy
    record: TokenRecord
    criteria: TokenCriteria
    read_at: datetime
    now: datetime
    decision: Decision


class GetToken:
    """Gets tokens for callers. Holds this environment's memory and nothing else."""

    def __init__(self, context: BrokerContext, settings: SettingsReader, acquirer: Acquirer) -> None:
        self._context = context
        self._settings = settings
        self._acquirer = acquirer
        self._memory = TokenMemory()
        self._memory_time = context.scaled(MEMORY_TIME)
        self._secret_checked_at: dict[ConnectionName, datetime] = {}

    def get_token(self, request: TokenRequest) -> TokenResponse:
        """A valid token. Raises BrokerError. Asks the provider at most once."""
        provider = self._settings.provider(request.name.provider)
        requested_at = self._context.clock()
        scope = request.scope if provider.grant.has_scopes else None
        if scope is None:
            scope = self._memory.default_scope(request.name)
        key = TokenKey(request.name, scope)
        # A reported token can be newer than the one in memory. So a report is decided on the table's record.
        cached = self._memory.get(key) if request.rejected is None else None
        if cached is not None and (found := self._from_memory(request, cached, requested_at, self._memory_time)):
            return found
        try:
            return self._from_table(request, key, requested_at)
        except BrokerUnavailable:
            # Calls that fail take time, in which the token in memory may have expired.
            cached = self._memory.get(key)
            now = self._context.clock()
            if cached is not None and (found := self._from_memory(request, cached, now, MEMORY_TIME_IN_OUTAGE)):
                return found
            raise

    def forget(self, name: ConnectionName) -> None:
        """Drops a connection's tokens from this environment's memory. Others notice a purge within 30 s."""
        self._memory.forget_tokens_of(name)

    def _from_memory(
        self, request: TokenRequest, cached: CachedToken, now: datetime, max_age: timedelta
    ) -> TokenResponse | None:
        connection = self._memory.connection(request.name)
        if connection is None or now - cached.read_at > max_age or connection.issue_revokes_previous:
            return None
        try:
            policy = self._checked_policy(request, connection)
        except BrokerError:
            # The settings may have changed since. Only the table's settings may deny a request.
            return None
        decision = decide(cached.record, _criteria(request, policy, now), policy, now)
        if not isinstance(decision, Serve):
            return None
        return TokenResponse(connection, decision.token, "memory", now, decision.warnings, cached.opened)

    def _from_table(self, request: TokenRequest, key: TokenKey, requested_at: datetime) -> TokenResponse:
        context = self._context
        pause_s = FIRST_PAUSE_S
        may_acquire = True
        unreadable = None
        while True:
            reading = self._read(request, key, requested_at, unreadable)
            key = reading.record.key
            match reading.decision:
                case Serve() as serve:
                    try:
                        return self._serve(reading, serve)
                    except SealBroken:
                        unreadable = serve.token.token_id
                case Deny() as deny:
                    raise _denied(deny, reading.now)
                case AwaitOther(wait_until=wait_until, fallback=fallback):
                    if context.clock() + timedelta(seconds=pause_s) > min(wait_until, request.deadline):
                        return self._serve_or_raise(reading, fallback, _in_progress())
                    context.sleep(pause_s)
                    pause_s = min(pause_s * 2, LAST_PAUSE_S)
                case Acquire() as acquire:
                    if not may_acquire or context.clock() + context.limits.acquisition > request.deadline:
                        return self._serve_or_raise(reading, self._fallback(reading), _no_time())
                    outcome = self._acquire(reading, acquire)
                    if isinstance(outcome, TokenResponse):
                        return outcome
                    may_acquire = not outcome.provider_asked

    def _read(self, request: TokenRequest, key: TokenKey, requested_at: datetime, unreadable: str | None) -> Reading:
        """Reads the table, checks that the caller may have the token, and decides."""
        while True:
            read_at = self._context.clock()
            stored, record = self._context.tokens.read(key)
            connection = self._current_settings(request.name, stored)
            policy = self._checked_policy(request, connection)
            scope = connection.scope_set_for(request.scope)
            if scope == key.scope:
                break
            # A request without a scope was read under a remembered default scope, which has changed.
            key = TokenKey(request.name, scope)
        # A read can take seconds when it is retried, so the decision uses the time after it.
        now = self._context.clock()
        # A purged token, or one of other settings, must not come back from memory during an outage of our services.
        if usable_token(record, policy, now) is None:
            self._memory.forget(key)
        criteria = replace(_criteria(request, policy, requested_at), unreadable_token_id=unreadable)
        decision = decide(record, criteria, policy, now)
        return self._check_for_new_secret(Reading(connection, policy, record, criteria, read_at, now, decision))

    def _current_settings(self, name: ConnectionName, stored: StoredSettings | None) -> Connection:
        """The settings just read. They apply to what is in memory too."""
        connection = self._memory.connection(name)
        unchanged = (
            connection is not None
            and stored is not None
            and connection.was_parsed_from(stored.version, stored.settings)
        )
        if connection is None or not unchanged:
            try:
                connection = self._settings.connection(name, stored)
            except BrokerError:
                self._memory.forget_tokens_of(name)
                raise
        self._memory.put_connection(connection)
        return connection

    def _checked_policy(self, request: TokenRequest, connection: Connection) -> RenewalPolicy:
        """The same checks on every path. Raises CallerNotAllowed, ScopeNotAllowed or ConnectionSuspended."""
        connection.check_caller(request.caller)
        connection.scope_set_for(request.scope)
        if connection.suspended:
            raise ConnectionSuspended(f"{connection.name} is suspended.")
        return self._context.policy(connection)

    def _serve(self, reading: Reading, serve: Serve) -> TokenResponse:
        key = reading.record.key
        token = serve.token
        cached = self._memory.get(key)
        if cached is not None and cached.record.token is not None and cached.record.token.sealed == token.sealed:
            opened = cached.opened
        else:
            opened = OpenedToken.unpack(self._context.sealer.open(token.sealed, key.place, ACCESS_TOKEN))
        self._memory.put(CachedToken(reading.record, opened, reading.read_at))
        self._note_use(reading, token)
        now = self._context.clock()
        if not token.alive(now):
            raise _expired()
        return TokenResponse(reading.connection, token, "table", now, serve.warnings, opened)

    def _acquire(self, reading: Reading, acquire: Acquire) -> TokenResponse | ReadAgain:
        try:
            outcome = self._acquirer.acquire(reading.connection, reading.record, reading.criteria, acquire)
        except (ProviderError, ConnectionMisconfigured, BrokerUnavailable) as error:
            return self._serve_or_raise(reading, self._fallback(reading), error, failing=True)
        except AcquisitionInProgress as error:
            return self._serve_or_raise(reading, self._fallback(reading), error)
        return self._acquired(reading, outcome) if isinstance(outcome, Acquired) else outcome

    def _acquired(self, reading: Reading, acquired: Acquired) -> TokenResponse:
        now = self._context.clock()
        if not acquired.token.alive(now):
            raise _expired()
        self._memory.put(CachedToken(acquired.record, acquired.opened, reading.read_at))
        found = warnings(acquired.record, reading.criteria, reading.policy, now)
        if acquired.token.token_id == reading.criteria.rejected_token_id and not acquired.token.reissued:
            found = (*found, "same_token_reissued")
        return TokenResponse(
            reading.connection, acquired.token, "provider", now, found, acquired.opened, acquired.consent
        )

    def _fallback(self, reading: Reading) -> Serve | None:
        """The valid token in the table, although a longer or newer one was wanted."""
        return fallback_for(reading.record, reading.criteria, reading.policy, self._context.clock())

    def _serve_or_raise(
        self, reading: Reading, fallback: Serve | None, error: BrokerError, *, failing: bool = False
    ) -> TokenResponse:
        if fallback is None:
            raise error
        if failing and "renewal_failing" not in fallback.warnings:
            fallback = replace(fallback, warnings=("renewal_failing", *fallback.warnings))
        try:
            return self._serve(reading, fallback)
        except SealBroken:
            raise error from None

    def _check_for_new_secret(self, reading: Reading) -> Reading:
        """Decides again with the secret's version, which can clear a refusal. Looks it up at most once in 30 s.

        An account without a CloudTrail trail sends no event when a secret changes.
        """
        name = reading.connection.name
        now = self._context.clock()
        checked_at = self._secret_checked_at.get(name)
        failure = _held_back_by(reading)
        if failure is None or not failure.needs_change:
            return reading
        if checked_at is not None and now - checked_at < SECRET_CHECK_SPACING:
            return reading
        if len(self._secret_checked_at) >= MAX_ENTRIES:
            self._secret_checked_at.clear()
        self._secret_checked_at[name] = now
        try:
            secret = self._context.secrets.read(name)
        except (BrokerUnavailable, SecretNotReadable):
            return reading
        if secret is None:
            return reading
        criteria = replace(reading.criteria, secret_version=secret.version)
        decision = decide(reading.record, criteria, reading.policy, now)
        return replace(reading, criteria=criteria, decision=decision)

    def _note_use(self, reading: Reading, token: Token) -> None:
        """Keeps a used key in the due index, and queues an overdue one itself. Its failure is not the caller's.

        Settings that a PUT stored but did not apply are applied here.
        """
        context = self._context
        record = reading.record
        key = reading.record.key
        now = reading.now
        renewal_mode = reading.connection.renewal_mode
        digest = reading.connection.settings_digest
        applied = (record.keep_warm, record.settings_digest) == (renewal_mode, digest)
        if renewal_mode == "never" and applied:
            return
        try:
            spacing = min(token.lifetime / 4, IDLE_TIME / 2)
            if not applied or record.last_used_at is None or now - record.last_used_at > spacing:
                used = record.settings_applied(
                    keep_warm=renewal_mode, settings_digest=digest, now=now, resumed=False
                ).used(now)
                # If somebody else changed the record meanwhile, the next use is noted.
                try_save(context, record, used)
            # If the sweep were running, it would have claimed this key: it looks two intervals ahead.
            if record.due_at is not None and record.due_at <= now and token.renew_at <= now:
                due = DueKey(key.name, key.scope_id, record.due_at, delete_at=record.delete_at)
                if context.due_index.claim(due, until=now + reading.policy.sweep_interval):
                    context.queue.send([RenewalMessage(key.name, key.scope_id)])
        except BrokerUnavailable:
            return


def _criteria(request: TokenRequest, policy: RenewalPolicy, requested_at: datetime) -> TokenCriteria:
    min_ttl = policy.default_min_ttl if request.min_ttl is None else request.min_ttl
    return TokenCriteria(requested_at=requested_at, min_ttl=min_ttl, rejected_token_id=request.rejected)


def _held_back_by(reading: Reading) -> Failure | None:
    """The failure because of which a caller gets no token, or a stale one."""
    record = reading.record
    criteria = reading.criteria
    policy = reading.policy
    match reading.decision:
        case Deny(failure=failure):
            return failure
        case Serve(token=token) if is_stale(record, token, criteria, policy):
            return active_cooldown(record, criteria, policy, reading.now)
    return None


def _in_progress() -> AcquisitionInProgress:
    return AcquisitionInProgress(
        "Another instance is asking the provider for this token.", retry_after=RETRY_IN_PROGRESS
    )


def _no_time() -> AcquisitionInProgress:
    return AcquisitionInProgress("No time was left to ask the provider.", retry_after=RETRY_IN_PROGRESS)


def _expired() -> ProviderUnavailable:
    return ProviderUnavailable("The token expired before it could be returned.", retry_after=RETRY_IN_PROGRESS)


def _denied(deny: Deny, now: datetime) -> BrokerError:
    if deny.failure is not None:
        return error_of(deny.failure, now)
    return TooManyRejections(
        "Tokens of this connection are reported as rejected too often. The current one may be valid.",
        retry_after=max(deny.retry_at - now, timedelta(seconds=1)),
    )

"""Handing out: memory, table, `decide`, and whatever it decides."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from token_broker.broker.acquisition import ACCESS, Acquired, Acquirer, Lost, error_of
from token_broker.broker.memory import MAX_REMEMBERED, Remembered, TokenMemory
from token_broker.broker.parts import Parts
from token_broker.core.callers import Caller
from token_broker.core.connections import Connection
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.policy import (
    Acquire,
    AwaitOther,
    Decision,
    Refuse,
    RenewalPolicy,
    Serve,
    TokenRequest,
    decide,
    valid_token,
    warnings,
)
from token_broker.core.tokens import Token, TokenRecord, unsealed
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
from token_broker.ports import DueKey, RenewalMessage, SealBroken, StoredSettings

MEMORY_TIME = timedelta(seconds=30)
MEMORY_IN_NEED = timedelta(minutes=5)
PROBE_SPACING = timedelta(seconds=30)
FIRST_LOOK, LAST_LOOK = 0.05, 0.4
RETRY_IN_PROGRESS = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Ask:
    """A caller's request. `deadline`: when an answer must be there; `scope` None: the connection's own."""

    caller: Caller
    name: ConnectionName
    deadline: datetime
    scope: str | None = None
    min_ttl: timedelta | None = None
    rejected: str | None = None


@dataclass(frozen=True, slots=True)
class Handout:
    """A token on its way to a caller. `source`: memory, table or provider."""

    connection: Connection
    token: Token
    source: str
    now: datetime
    warnings: tuple[str, ...] = ()
    access_token: str = field(default="", repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """What to send to the provider's API, as it is. It carries the token."""
        provider = self.connection.provider
        return {provider.header: provider.prefix + self.access_token}


class HandingOut:
    """Gives tokens to callers. Holds this instance's memory and nothing else."""

    def __init__(self, parts: Parts, acquirer: Acquirer) -> None:
        self._parts = parts
        self._acquirer = acquirer
        self._memory = TokenMemory()
        self._fresh_for = parts.scaled(MEMORY_TIME) or MEMORY_TIME
        self._probes: dict[ConnectionName, datetime] = {}

    def hand_out(self, ask: Ask) -> Handout:
        """A valid token, or a BrokerError with a stable code. Asks the provider at most once."""
        self._parts.provider(ask.name.provider)
        asked_at = self._parts.clock()
        key = TokenKey(ask.name, self._memory.own_scope(ask.name) if ask.scope is None else ask.scope)
        remembered = self._memory.recall(key)
        if remembered is not None and (found := self._from_memory(ask, remembered, asked_at, self._fresh_for)):
            return found
        try:
            return self._from_store(ask, key, asked_at)
        except BrokerUnavailable:
            remembered = self._memory.recall(key)
            if remembered is not None and (found := self._from_memory(ask, remembered, asked_at, MEMORY_IN_NEED)):
                return found
            raise

    def forget(self, name: ConnectionName) -> None:
        """This instance has dropped the connection's tokens; the others notice within 30 s."""
        self._memory.forget(name)

    def _from_memory(self, ask: Ask, entry: Remembered, now: datetime, max_age: timedelta) -> Handout | None:
        connection = self._memory.connection(ask.name)
        if connection is None or now - entry.read_at > max_age:
            return None
        try:
            policy = self._admitted(ask, connection)
        except BrokerError:
            # The settings may have changed since: only the table says no.
            return None
        if connection.issue_revokes_previous:
            return None
        decision = decide(entry.record, _request(ask, policy, now), policy, now)
        if not isinstance(decision, Serve):
            return None
        return Handout(connection, decision.token, "memory", now, decision.warnings, entry.access_token)

    def _from_store(self, ask: Ask, key: TokenKey, asked_at: datetime) -> Handout:
        parts = self._parts
        pause, may_acquire, unreadable = FIRST_LOOK, True, None
        while True:
            look = self._look(ask, key, asked_at, unreadable)
            key = look.record.key
            match look.decision:
                case Serve() as serve:
                    try:
                        return self._serve(look, serve)
                    except SealBroken:
                        unreadable = serve.token.token_id
                case Refuse() as refuse:
                    raise _refusal(refuse, look.now)
                case AwaitOther(fallback=fallback):
                    if parts.clock() + timedelta(seconds=pause) > min(asked_at + parts.times.wait, ask.deadline):
                        return self._fall_back(look, fallback, _in_progress())
                    parts.sleep(pause)
                    pause = min(pause * 2, LAST_LOOK)
                case Acquire() as acquire:
                    if not may_acquire or parts.clock() + parts.times.acquisition > ask.deadline:
                        return self._fall_back(look, self._fallback(look), _no_time())
                    attempt = self._attempt(look, acquire)
                    if isinstance(attempt, Handout):
                        return attempt
                    may_acquire = not attempt.asked

    def _look(self, ask: Ask, key: TokenKey, asked_at: datetime, unreadable: str | None) -> _Look:
        """One read of the table, the caller's admission, and what `decide` makes of it."""
        while True:
            read_at = self._parts.clock()
            stored, record = self._parts.tokens.read(key)
            connection = self._learnt(ask.name, stored)
            policy = self._admitted(ask, connection)
            scope = connection.scope_for(ask.scope)
            if scope == key.scope:
                break
            # The scope of a request that names none was guessed, and the settings say otherwise.
            key = TokenKey(ask.name, scope)
        # A read can take seconds, by retries: the decision is of the time after it, the memory's age of that before.
        # What a purge took, or other settings, must not come back from memory while our own services fail.
        if valid_token(record, policy, self._parts.clock()) is None:
            self._memory.drop(key)
        request, now = replace(_request(ask, policy, asked_at), unreadable=unreadable), self._parts.clock()
        look = _Look(connection, policy, record, request, read_at, now, decide(record, request, policy, now))
        return self._look_for_new_secret(look, look.decision) if isinstance(look.decision, Refuse) else look

    def _learnt(self, name: ConnectionName, stored: StoredSettings | None) -> Connection:
        """The settings just read. They judge what is in memory too, also while our own services fail."""
        connection = self._memory.connection(name)
        if connection is None or stored is None or not connection.is_of(stored.version, stored.settings):
            try:
                connection = self._parts.connection(name, stored)
            except BrokerError:
                self._memory.forget(name)
                raise
        self._memory.learn(connection)
        return connection

    def _admitted(self, ask: Ask, connection: Connection) -> RenewalPolicy:
        """The same checks on every path. Raises CallerNotAllowed, ScopeNotAllowed or ConnectionSuspended."""
        connection.admit(ask.caller)
        connection.scope_for(ask.scope)
        if connection.suspended:
            raise ConnectionSuspended(f"{connection.name} is suspended.")
        return self._parts.policy(connection)

    def _serve(self, look: _Look, serve: Serve) -> Handout:
        key = look.record.key
        entry = self._memory.recall(key)
        if entry is not None and entry.record.token is not None and entry.record.token.sealed == serve.token.sealed:
            plain = entry.access_token
        else:
            plain, _ = unsealed(self._parts.sealer.open(serve.token.sealed, key, ACCESS))
        self._memory.remember(Remembered(look.record, plain, look.read_at))
        self._note_use(look, serve.token)
        now = self._parts.clock()
        if not serve.token.alive(now):
            raise _ended()
        return Handout(look.connection, serve.token, "table", now, serve.warnings, plain)

    def _attempt(self, look: _Look, acquire: Acquire) -> Handout | Lost:
        try:
            attempt = self._acquirer.acquire(look.connection, look.record, look.request, acquire)
        except (ProviderError, ConnectionMisconfigured, BrokerUnavailable) as error:
            return self._fall_back(look, self._fallback(look), error, failing=True)
        return self._acquired(look, attempt) if isinstance(attempt, Acquired) else attempt

    def _acquired(self, look: _Look, acquired: Acquired) -> Handout:
        now = self._parts.clock()
        if not acquired.token.alive(now):
            raise _ended()
        self._memory.remember(Remembered(acquired.record, acquired.access_token, look.read_at))
        found = warnings(acquired.record, look.request, look.policy, now)
        if acquired.token.token_id == look.request.rejected:
            found = (*found, "same_token_reissued")
        return Handout(look.connection, acquired.token, "provider", now, found, acquired.access_token)

    def _fallback(self, look: _Look) -> Serve | None:
        """The valid token that is there, although a longer one was wanted."""
        content = replace(look.request, min_ttl=timedelta())
        decision = decide(look.record, content, look.policy, self._parts.clock())
        if not isinstance(decision, Serve):
            return None
        return Serve(decision.token, warnings(look.record, look.request, look.policy, look.now))

    def _fall_back(self, look: _Look, fallback: Serve | None, error: BrokerError, *, failing: bool = False) -> Handout:
        if fallback is None:
            raise error
        if failing and "renewal_failing" not in fallback.warnings:
            fallback = replace(fallback, warnings=("renewal_failing", *fallback.warnings))
        try:
            return self._serve(look, fallback)
        except SealBroken:
            raise error from None

    def _look_for_new_secret(self, look: _Look, refuse: Refuse) -> _Look:
        """A refusal ends with a new version of the secret. No event may tell us (it takes a trail), so look, seldom."""
        name, now = look.connection.name, self._parts.clock()
        looked_at = self._probes.get(name)
        is_refused = refuse.failure is not None and refuse.failure.refused
        if not is_refused or (looked_at is not None and now - looked_at < PROBE_SPACING):
            return look
        if len(self._probes) >= MAX_REMEMBERED:
            self._probes.clear()
        self._probes[name] = now
        try:
            secret = self._parts.vault.read(name)
        except BrokerUnavailable:
            return look
        if secret is None:
            return look
        request = replace(look.request, secret_version=secret.version)
        return replace(look, request=request, decision=decide(look.record, request, look.policy, now))

    def _note_use(self, look: _Look, token: Token) -> None:
        """Keeps a used key on the due index, and stands in for a schedule that does not run. Never fails a hand-out."""
        if look.connection.keep_warm == "never":
            return
        parts, record, key, now = self._parts, look.record, look.record.key, look.now
        try:
            if record.last_used_at is None or now - record.last_used_at > token.life / 4:
                due_at = None if record.due_at or _is_refused(record) else token.renew_at
                parts.tokens.note_use(key, now=now, due_at=due_at)
            # A sweep that runs has claimed by now what is due: it looks two intervals ahead.
            if record.due_at is not None and record.due_at <= now and token.renew_at <= now:
                due = DueKey(key.pk, key.sk, record.due_at)
                if parts.tokens.claim_due(due, until=now + look.policy.sweep_interval):
                    parts.queue.send([RenewalMessage(key.pk, key.sk)])
        except BrokerUnavailable:
            return


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at the table: what was read when (`read_at` before, `now` after the read), and what is to be done."""

    connection: Connection
    policy: RenewalPolicy
    record: TokenRecord
    request: TokenRequest
    read_at: datetime
    now: datetime
    decision: Decision


def _request(ask: Ask, policy: RenewalPolicy, asked_at: datetime) -> TokenRequest:
    min_ttl = policy.default_min_ttl if ask.min_ttl is None else ask.min_ttl
    return TokenRequest(asked_at=asked_at, min_ttl=min_ttl, rejected=ask.rejected)


def _is_refused(record: TokenRecord) -> bool:
    return any(failure.refused for failure in record.failures())


def _in_progress() -> AcquisitionInProgress:
    return AcquisitionInProgress(
        "Another instance is asking the provider for this token.", retry_after=RETRY_IN_PROGRESS
    )


def _no_time() -> AcquisitionInProgress:
    return AcquisitionInProgress("No time was left to ask the provider.", retry_after=RETRY_IN_PROGRESS)


def _ended() -> ProviderUnavailable:
    return ProviderUnavailable("The token ended while it was being handed out.", retry_after=RETRY_IN_PROGRESS)


def _refusal(refuse: Refuse, now: datetime) -> BrokerError:
    if refuse.failure is not None:
        return error_of(refuse.failure, now)
    return TooManyRejections(
        "Tokens of this connection are reported as refused too often; the current one may be good.",
        retry_after=max(refuse.retry_at - now, timedelta(seconds=1)),
    )

"""Handing out: memory, table, `decide`, and whatever it decides."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from token_broker.broker.acquisition import ACCESS, Acquired, Acquirer, provider_error
from token_broker.broker.memory import Remembered, TokenMemory
from token_broker.broker.parts import ACQUISITION_TIME, WAIT_TIME, Parts
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
    warnings,
)
from token_broker.core.tokens import Token, TokenRecord
from token_broker.errors import (
    AcquisitionInProgress,
    BrokerError,
    BrokerUnavailable,
    ConnectionMisconfigured,
    ConnectionSuspended,
    ProviderError,
    TooManyRejections,
)
from token_broker.ports import DueKey, RenewalMessage, SealBroken

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
        self._probes: dict[ConnectionName, datetime] = {}

    def hand_out(self, ask: Ask) -> Handout:
        """A valid token, or a BrokerError with a stable code. Asks the provider at most once."""
        self._parts.provider(ask.name.provider)
        asked_at = self._parts.clock()
        key = TokenKey(ask.name, self._memory.own_scope(ask.name) if ask.scope is None else ask.scope)
        remembered = self._memory.recall(key)
        fresh_for = self._parts.scaled(MEMORY_TIME) or MEMORY_TIME
        if remembered is not None and (found := self._from_memory(ask, remembered, asked_at, fresh_for)):
            return found
        try:
            return self._from_store(ask, key, asked_at)
        except BrokerUnavailable:
            if remembered is not None and (found := self._from_memory(ask, remembered, asked_at, MEMORY_IN_NEED)):
                return found
            raise

    def _from_memory(self, ask: Ask, entry: Remembered, now: datetime, max_age: timedelta) -> Handout | None:
        if now - entry.read_at > max_age:
            return None
        try:
            policy = self._admitted(ask, entry.connection)
        except BrokerError:
            # The settings may have changed since: only the table says no.
            return None
        if entry.connection.issue_revokes_previous:
            return None
        decision = decide(entry.record, _request(ask, policy, now), policy, now)
        if not isinstance(decision, Serve):
            return None
        return Handout(entry.connection, decision.token, "memory", now, decision.warnings, entry.access_token)

    def _from_store(self, ask: Ask, key: TokenKey, asked_at: datetime) -> Handout:
        parts = self._parts
        give_up_at = min(asked_at + WAIT_TIME, ask.deadline)
        request: TokenRequest | None = None
        pause, may_acquire = FIRST_LOOK, True
        while True:
            read_at = parts.clock()
            stored, record = parts.tokens.read(key)
            connection = parts.connection(ask.name, stored)
            policy = self._admitted(ask, connection)
            self._memory.remember_scope(connection)
            if (scope := connection.scope_for(ask.scope)) != key.scope:
                key = TokenKey(ask.name, scope)
                continue
            request = request or _request(ask, policy, asked_at)
            decision = decide(record, request, policy, read_at)
            if isinstance(decision, Refuse):
                request, decision = self._look_for_new_secret(connection, record, request, policy, decision)
            match decision:
                case Serve():
                    try:
                        return self._serve(connection, record, decision, policy, read_at)
                    except SealBroken:
                        request = replace(request, unreadable=decision.token.token_id)
                case Refuse():
                    raise _refusal(decision, read_at)
                case AwaitOther(fallback=fallback):
                    if parts.clock() + timedelta(seconds=pause) > give_up_at:
                        return self._fall_back(connection, record, fallback, policy, read_at, _in_progress())
                    parts.sleep(pause)
                    pause = min(pause * 2, LAST_LOOK)
                case Acquire():
                    if not may_acquire or parts.clock() + ACQUISITION_TIME > ask.deadline:
                        fallback = self._fallback(record, request, policy, read_at)
                        return self._fall_back(connection, record, fallback, policy, read_at, _in_progress())
                    try:
                        acquired = self._acquirer.acquire(connection, record, request, decision)
                    except (ProviderError, ConnectionMisconfigured) as error:
                        fallback = self._fallback(record, request, policy, read_at)
                        return self._fall_back(connection, record, fallback, policy, read_at, error, failing=True)
                    if isinstance(acquired, Acquired):
                        return self._acquired(ask, connection, acquired, read_at)
                    may_acquire = not acquired.asked

    def _admitted(self, ask: Ask, connection: Connection) -> RenewalPolicy:
        """The same checks on every path. Raises CallerNotAllowed, ScopeNotAllowed or ConnectionSuspended."""
        connection.admit(ask.caller)
        connection.scope_for(ask.scope)
        if connection.suspended:
            raise ConnectionSuspended(f"{connection.name} is suspended.")
        return self._parts.policy(connection)

    def _serve(
        self, connection: Connection, record: TokenRecord, serve: Serve, policy: RenewalPolicy, read_at: datetime
    ) -> Handout:
        entry = self._memory.recall(record.key)
        if entry is not None and entry.record.token is not None and entry.record.token.sealed == serve.token.sealed:
            plain = entry.access_token
        else:
            plain = self._parts.sealer.open(serve.token.sealed, record.key, ACCESS)
        self._memory.remember(Remembered(connection, record, plain, read_at))
        self._note_use(connection, record, serve.token, policy, read_at)
        return Handout(connection, serve.token, "table", read_at, serve.warnings, plain)

    def _acquired(self, ask: Ask, connection: Connection, acquired: Acquired, read_at: datetime) -> Handout:
        now = self._parts.clock()
        policy = self._parts.policy(connection)
        self._memory.remember(Remembered(connection, acquired.record, acquired.access_token, read_at))
        found = warnings(acquired.record, _request(ask, policy, read_at), policy, now)
        if acquired.token.token_id == ask.rejected:
            found = (*found, "same_token_reissued")
        return Handout(connection, acquired.token, "provider", now, found, acquired.access_token)

    def _fallback(
        self, record: TokenRecord, request: TokenRequest, policy: RenewalPolicy, now: datetime
    ) -> Serve | None:
        """The valid token that is there, although a longer one was wanted."""
        decision = decide(record, replace(request, min_ttl=timedelta()), policy, now)
        if not isinstance(decision, Serve):
            return None
        return Serve(decision.token, warnings(record, request, policy, now))

    def _fall_back(
        self,
        connection: Connection,
        record: TokenRecord,
        fallback: Serve | None,
        policy: RenewalPolicy,
        read_at: datetime,
        error: BrokerError,
        *,
        failing: bool = False,
    ) -> Handout:
        if fallback is None:
            raise error
        if failing and "renewal_failing" not in fallback.warnings:
            fallback = replace(fallback, warnings=("renewal_failing", *fallback.warnings))
        try:
            return self._serve(connection, record, fallback, policy, read_at)
        except SealBroken:
            raise error from None

    def _look_for_new_secret(
        self, connection: Connection, record: TokenRecord, request: TokenRequest, policy: RenewalPolicy, refuse: Refuse
    ) -> tuple[TokenRequest, Decision]:
        """A refusal ends with a new version of the secret. No event may tell us (it takes a trail), so look, seldom."""
        parts, now = self._parts, self._parts.clock()
        looked_at = self._probes.get(connection.name)
        is_refused = refuse.failure is not None and refuse.failure.refused
        if not is_refused or request.secret_version or (looked_at and now - looked_at < PROBE_SPACING):
            return request, refuse
        if len(self._probes) > 1000:
            self._probes.clear()
        self._probes[connection.name] = now
        secret = parts.vault.read(connection.name)
        if secret is None:
            return request, refuse
        request = replace(request, secret_version=secret.version)
        return request, decide(record, request, policy, now)

    def _note_use(
        self, connection: Connection, record: TokenRecord, token: Token, policy: RenewalPolicy, now: datetime
    ) -> None:
        """Keeps a used key on the due index, and stands in for a schedule that does not run. Never fails a hand-out."""
        if connection.keep_warm == "never":
            return
        parts, key = self._parts, record.key
        try:
            if record.last_used_at is None or now - record.last_used_at > token.life / 4:
                due_at = None if record.due_at or _is_refused(record) else token.renew_at
                parts.tokens.note_use(key, now=now, due_at=due_at)
            if record.due_at is not None and record.due_at <= now - policy.sweep_interval and token.renew_at <= now:
                due = DueKey(key.pk, key.sk, record.due_at)
                if parts.tokens.claim_due(due, until=now + policy.sweep_interval):
                    parts.queue.send([RenewalMessage(key.pk, key.sk)])
        except BrokerUnavailable:
            return


def _request(ask: Ask, policy: RenewalPolicy, asked_at: datetime) -> TokenRequest:
    min_ttl = policy.default_min_ttl if ask.min_ttl is None else ask.min_ttl
    return TokenRequest(asked_at=asked_at, min_ttl=min_ttl, rejected=ask.rejected)


def _is_refused(record: TokenRecord) -> bool:
    return any(failure.refused for failure in record.failures())


def _in_progress() -> AcquisitionInProgress:
    return AcquisitionInProgress(
        "Another instance is asking the provider for this token.", retry_after=RETRY_IN_PROGRESS
    )


def _refusal(refuse: Refuse, now: datetime) -> BrokerError:
    if refuse.failure is not None:
        return provider_error(refuse.failure, now)
    return TooManyRejections(
        "Tokens of this connection are reported as refused too often; the current one may be good.",
        retry_after=max(refuse.retry_at - now, timedelta(seconds=1)),
    )

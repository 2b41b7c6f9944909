"""Acquiring a token: lease, secret, budget, grant, fenced commit. One routine for callers and the sweep."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from token_broker.broker.asking import Answer, Asker, Work
from token_broker.broker.parts import Parts, host_of, order_for
from token_broker.broker.revocation import FIRST_RETRY, Revoker, next_due
from token_broker.core.connections import Connection
from token_broker.core.credentials import Credentials
from token_broker.core.failures import Failure, Kind, Where, next_failure, to_remember
from token_broker.core.grants import Order, Refusal
from token_broker.core.lifetimes import Lifetime
from token_broker.core.names import fingerprint
from token_broker.core.policy import Acquire, TokenRequest, decide
from token_broker.core.replies import Issued, jwt_expiry
from token_broker.core.tokens import Refresh, Retired, Token, TokenRecord, sealable
from token_broker.errors import (
    PROVIDER_ERRORS,
    BrokerError,
    BrokerUnavailable,
    ConnectionMisconfigured,
    ProviderRateLimited,
    TooManyScopeSets,
)
from token_broker.ports import Commit, SealBroken

ACCESS, REFRESH = "access_token", "refresh_token"
MAX_SCOPE_SETS = 32
MAX_RETIRED = 4
MAX_NEW_VERSIONS = 3
NEW_VERSIONS_PERIOD = timedelta(hours=1)
MISCONFIGURED_REST = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Acquired:
    """A committed token, opened. `record` is how it stands now."""

    record: TokenRecord
    token: Token
    access_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Lost:
    """Somebody else was there first: look at the store again. `asked`: the provider was asked all the same."""

    asked: bool


@dataclass(frozen=True, slots=True)
class Acquirer:
    """Acquires tokens. Stateless: everything that must be remembered is in the store."""

    parts: Parts
    asker: Asker
    revoker: Revoker

    def acquire(
        self, connection: Connection, seen: TokenRecord, request: TokenRequest, decision: Acquire
    ) -> Acquired | Lost:
        """Makes at most one acquisition.

        Raises ProviderError, ConnectionMisconfigured, TooManyScopeSets or BrokerUnavailable; what was learnt is stored
        before.
        """
        parts, key, policy = self.parts, seen.key, self.parts.policy(connection)
        owner, now = parts.new_id(), parts.clock()
        uses_refresh = connection.provider.grant != "login"
        taken, found = parts.tokens.take_lease(
            seen, owner, now=now, until=now + parts.times.lease, mark_refresh=uses_refresh and seen.refresh is not None
        )
        if not taken:
            return Lost(asked=False)
        found = replace(found, guard=seen.guard, lease=None)
        until, deadline = now + parts.times.lease, now + parts.times.acquisition
        work = Work(connection, policy, found, request, owner, deadline=deadline, lease_until=until)
        # What came back may be newer than what was decided on.
        if not isinstance(decide(found, request, policy, now), Acquire) or self._was_left(connection, seen):
            self._end_unsent(work)
            return Lost(asked=False)
        try:
            ready = self._prepare(work, decision)
        except BrokerError as error:
            self._give_up(work, error)
            raise
        if ready is None:
            self._end_unsent(work)
            return Lost(asked=False)
        try:
            return self._ask(work, ready, decision)
        except BrokerUnavailable:
            # What was issued cannot be kept, or was kept and we did not hear of it. The refresh token stays marked.
            parts.tokens.end_lease(key, owner)
            raise

    def _was_left(self, connection: Connection, seen: TokenRecord) -> bool:
        """Whether a key that had no item is of other settings by now.

        A purge leaves its fence on a key's item. Where there was none it went unseen, so whoever made the item by its
        lease looks once more; from then on a purge finds it. Not before a login: counting it has taken that call.
        """
        if seen.exists or connection.provider.grant == "login":
            return False
        stored = self.parts.connections.get(connection.name)
        return stored is None or stored.version != connection.version

    def _prepare(self, work: Work, decision: Acquire) -> _Ready | None:
        """All that comes before the provider is asked. None: what the secret's version tells changes the decision."""
        parts, connection, found = self.parts, work.connection, work.found
        # The connection's own scope always has its place; whoever asks for others is counted.
        if work.key.scope != connection.scope or connection.issue_revokes_previous:
            self._check_scope_sets(work)
        now = parts.clock()
        credentials = self.asker.credentials(connection, work.key.scope)
        informed = replace(work.request, secret_version=credentials.version)
        if not isinstance(decide(found, informed, work.policy, now), Acquire):
            return None
        self._check_new_version(work, credentials, now)
        order = self._order(work, credentials)
        parts.take_budget(connection, renewal=work.request.renewal)
        if decision.forced:
            count = found.rejections + 1
            until = now + work.policy.rejection_rest(count)
            parts.tokens.note_rejection(work.key, work.owner, count=count, until=until)
        return _Ready(credentials, order)

    def _ask(self, work: Work, ready: _Ready, decision: Acquire) -> Acquired | Lost:
        if self.parts.clock() >= work.deadline:
            # Our own services took it all. That is no failure of the provider's.
            self._end_unsent(work)
            raise BrokerUnavailable("No time was left to ask the provider.")
        try:
            answer, life = self.asker.exchange(work, ready.order)
        except Refusal as refusal:
            if self.parts.clock() >= work.lease_until:
                # Somebody else may have taken over and brought a token since: what was learnt is of before that.
                return Lost(asked=True)
            raise self.remember(work, ready.credentials, refusal) from None
        acquired = self._commit(
            work, answer, self._token(work, ready.credentials, answer, life), forced=decision.forced
        )
        guard = work.found.guard
        if guard.failure is not None or guard.limited is not None or work.connection.provider.grant == "login":
            self.parts.tokens.clear_guard(work.key.name, guard)
        return acquired

    def _order(self, work: Work, credentials: Credentials) -> Order:
        previous, now = work.found.token, self.parts.clock()
        order = order_for(work.connection, credentials, work.key.scope, now)
        proven = previous is not None and previous.secret_version == credentials.version
        return replace(order, refresh_token=self._refresh_token(work, now), proven=proven)

    def _refresh_token(self, work: Work, now: datetime) -> str | None:
        """The stored refresh token, if it may be sent: never twice, not past its end, and only to who issued it."""
        previous, refresh = work.found.token, work.found.refresh
        if refresh is None or refresh.sent or previous is None or previous.issuer != work.policy.issuer:
            return None
        if refresh.expires_at is not None and refresh.expires_at <= now:
            return None
        try:
            return self.parts.sealer.open(refresh.sealed, work.key, REFRESH)
        except SealBroken:
            return None

    def _token(self, work: Work, credentials: Credentials, answer: Answer, life: Lifetime) -> Token:
        issued = answer.issued
        refresh_in = timedelta(seconds=issued.refresh_in) if issued.refresh_in else None
        return Token(
            token_id=fingerprint(issued.access_token),
            scope=work.key.scope if issued.scope is None else issued.scope,
            issued_at=answer.sent_at,
            expires_at=life.expires_at,
            renew_at=work.policy.renew_at(work.key, answer.sent_at, life.expires_at, refresh_in),
            expires_assumed=life.assumed,
            expiry_disputed=life.disputed,
            issuer=work.policy.issuer,
            secret_version=credentials.version,
            sealed=self.parts.sealer.seal(
                sealable(issued.access_token, work.connection.endpoints.revocation), work.key, ACCESS
            ),
        )

    def _commit(self, work: Work, answer: Answer, token: Token, *, forced: bool) -> Acquired | Lost:
        parts, now, plain = self.parts, self.parts.clock(), answer.issued.access_token
        previous = work.found.token
        retired = _retired_after(work, token, now)
        commit = Commit(
            seen=work.found,
            token=token,
            refresh=self._refresh(work, answer.issued),
            retired=retired,
            due_at=next_due(retired, token.renew_at if work.connection.keep_warm != "never" else None, now),
            now=now,
            used=not work.request.renewal,
            # Reset by a token that lasted until its renewal unreported; an early request of any kind is no such thing.
            keep_rejections=forced or (previous is not None and previous.renew_at > now),
        )
        stands = parts.tokens.commit(work.key, work.owner, commit)
        if stands is None:
            record = replace(work.found, token=token, retired=commit.retired, failure=None, stale_at=None, exists=True)
            return Acquired(record, token, plain)
        self._discard(work, token, plain, stands)
        return Lost(asked=True)

    def _discard(self, work: Work, token: Token, plain: str, stands: TokenRecord) -> None:
        """Fenced off: the token is ours alone and nobody will ever get it, unless it is the one that stands."""
        kept = {item.token_id for item in stands.retired} | {stands.token.token_id if stands.token else ""}
        if token.token_id in kept:
            return
        if stands.lease is not None:
            # Whoever leads now may be given the same token; his commit then takes it off the list again.
            due_at = self.parts.clock() + FIRST_RETRY
            self.parts.tokens.retire(work.key, Retired.of(token, revoke=True), work.connection.settings, due_at)
            return
        self.revoker.end(work.connection, work.key, Retired.of(token, revoke=True), plain)

    def _refresh(self, work: Work, issued: Issued) -> Refresh | None:
        if issued.refresh_token is None:
            return None
        return Refresh(
            refresh_id=fingerprint(issued.refresh_token),
            expires_at=jwt_expiry(issued.refresh_token),
            sent=False,
            sealed=self.parts.sealer.seal(issued.refresh_token, work.key, REFRESH),
        )

    def _check_scope_sets(self, work: Work) -> None:
        connection, now = work.connection, self.parts.clock()
        if work.found.token is not None and work.found.token.alive(now):
            return
        records = self.parts.tokens.records(connection.name)
        live = sum(1 for record in records if record.key != work.key and _is_taken(record, now))
        limit = 1 if connection.issue_revokes_previous else MAX_SCOPE_SETS
        if live >= limit:
            raise TooManyScopeSets(
                f"{connection.name} already holds tokens for {live} scope set(s); its limit is {limit}."
            )

    def _check_new_version(self, work: Work, credentials: Credentials, now: datetime) -> None:
        failure = work.found.guard.failure
        if failure is not None and failure.secret_version != credentials.version:
            self.note_version(work, credentials, now)

    def note_version(self, work: Work, credentials: Credentials, now: datetime) -> None:
        """At most three new versions of a secret are tried in an hour: an account locks by count.

        Raises ProviderRateLimited.
        """
        recent = [(version, at) for version, at in work.found.guard.tried if now - at < NEW_VERSIONS_PERIOD]
        if credentials.version in {version for version, _ in recent}:
            return
        if len(recent) >= MAX_NEW_VERSIONS:
            wait = recent[0][1] + NEW_VERSIONS_PERIOD - now
            detail = f"{MAX_NEW_VERSIONS} new versions of this secret were tried within an hour."
            raise ProviderRateLimited(detail, retry_after=wait)
        self.parts.tokens.note_version(work.key.name, [*recent, (credentials.version, now)])

    def remember(self, work: Work, credentials: Credentials, refusal: Refusal) -> BrokerError:
        """Stores a failure where its cause lies, ends the lease, and gives the error to raise."""
        verdict = refusal.verdict
        parts, key, now = self.parts, work.key, self.parts.clock()
        guard, own = work.found.guard, work.found.failure
        at_connection = guard.limited if verdict.kind is Kind.LIMITED else guard.failure
        previous = own if verdict.where is Where.KEY else at_connection
        failure = next_failure(
            verdict,
            previous,
            now=now,
            secret_version=credentials.version,
            settings_version=work.connection.asked_version,
        )
        kept = to_remember(failure, previous)
        per_host = verdict.where is Where.LIMIT and work.connection.provider.limit_per == "host"
        if per_host:
            parts.tokens.rest_host(host_of(work.connection.endpoints.token), failure.retry_at)
        elif verdict.where is not Where.KEY:
            settled = failure.refused or not verdict.outcome_unknown
            parts.tokens.put_guard(key.name, kept, settled=settled, seen=previous)
        due_at = None if kept.refused or work.connection.keep_warm == "never" else failure.retry_at
        parts.tokens.release(
            work.found,
            work.owner,
            now=now,
            # The host's rest is its own; here it is only shown, and takes no refusal's place.
            failure=kept if verdict.where is Where.KEY or (per_host and not (own and own.refused)) else None,
            unmark_refresh=refusal.nothing_left and work.marked,
            due_at=next_due(work.found.retired, due_at, now),
        )
        return error_of(failure, now)

    def _end_unsent(self, work: Work) -> None:
        self.parts.tokens.end_lease(work.key, work.owner, unmark_refresh=work.marked)

    def _give_up(self, work: Work, error: BrokerError) -> None:
        """Ends the lease where the provider was not even asked. What is missing is shown, and the sweep comes back."""
        now, connection, failure = self.parts.clock(), work.connection, None
        if isinstance(error, ConnectionMisconfigured):
            failure = Failure(
                error.code, error.detail, None, now, now + MISCONFIGURED_REST, 1, None, connection.asked_version, row=0
            )
        elif not isinstance(error, ProviderRateLimited):
            self._end_unsent(work)
            return
        has_token = work.found.token is not None
        is_warm = connection.keep_warm == "always" or (has_token and connection.keep_warm == "used")
        wait = error.retry_after or MISCONFIGURED_REST
        if failure is None and work.found.token is not None:
            # Behind a budget that is used up, those with the least time left come first, and the others seldom.
            wait += max(work.found.token.left(now), timedelta()) / 16
        due_at = now + wait if is_warm else None
        self.parts.tokens.release(
            work.found,
            work.owner,
            now=now,
            failure=failure,
            unmark_refresh=work.marked,
            due_at=next_due(work.found.retired, due_at, now),
        )


@dataclass(frozen=True, slots=True)
class _Ready:
    """What was learnt before asking."""

    credentials: Credentials
    order: Order


def error_of(failure: Failure, now: datetime) -> BrokerError:
    """The error that a remembered failure means for a caller."""
    if failure.misconfigured:
        return ConnectionMisconfigured(failure.detail)
    return PROVIDER_ERRORS[failure.code](
        failure.detail,
        retry_after=max(failure.retry_at - now, timedelta(seconds=1)),
        provider_error=failure.provider_error,
        in_a_row=failure.count,
    )


def _is_taken(record: TokenRecord, now: datetime) -> bool:
    """Whether a scope set has a live token, or is about to: every lease was written before it is counted here."""
    return (record.token is not None and record.token.alive(now)) or (
        record.lease is not None and record.lease.holds(now)
    )


def _retired_after(work: Work, token: Token, now: datetime) -> tuple[Retired, ...]:
    """The tokens that live on beside the new one. Those to be revoked stay; of the others, the latest few."""
    previous, kept = work.found.token, [item for item in work.found.retired if item.expires_at > now]
    is_superseded = previous is not None and previous.alive(now) and previous.token_id != token.token_id
    if previous is not None and is_superseded and not work.connection.issue_revokes_previous:
        kept.append(Retired.of(previous, revoke=False))
    others = [item for item in kept if item.token_id != token.token_id]
    idle = [item for item in others if not item.revoke][-MAX_RETIRED:]
    return tuple(item for item in others if item.revoke or item in idle)

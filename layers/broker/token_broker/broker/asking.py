"""Asking a provider: credentials as they are now, a grant over the network, and how long its answer lives."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from token_broker.broker.parts import Parts
from token_broker.core.connections import Connection
from token_broker.core.credentials import Credentials, check_scope_of, parse_credentials
from token_broker.core.exchange import TransportError, Unreachable
from token_broker.core.failures import Kind, Verdict, Where
from token_broker.core.grants import Flow, Order, Refusal, flow_for
from token_broker.core.lifetimes import DEFAULT_LIFE, Lifetime, lifetime
from token_broker.core.names import TokenKey
from token_broker.core.policy import RenewalPolicy, TokenRequest
from token_broker.core.replies import Issued, Unusable
from token_broker.core.tokens import TokenRecord
from token_broker.errors import ConnectionMisconfigured

MAX_UNRESOLVED_LOGINS = 2


@dataclass(frozen=True, slots=True)
class Work:
    """One acquisition under a lease. `found`: the record when the lease was taken; `deadline`: when to stop."""

    connection: Connection
    policy: RenewalPolicy
    found: TokenRecord
    request: TokenRequest
    owner: str
    deadline: datetime
    lease_until: datetime

    @property
    def key(self) -> TokenKey:
        return self.found.key

    @property
    def marked(self) -> bool:
        """Whether this lease's write is what marked the refresh token as sent."""
        return self.found.refresh is not None and not self.found.refresh.sent


@dataclass(frozen=True, slots=True)
class Answer:
    """What a grant brought, and when the request that brought it went out."""

    issued: Issued = field(repr=False)
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class Asker:
    """Runs grants for whoever holds the key's lease. Stores nothing but the count of logins."""

    parts: Parts

    def exchange(self, work: Work, order: Order) -> tuple[Answer, Lifetime]:
        """Asks the provider and reads the answer. Raises Refusal.

        A login is counted before it goes out: an account locks by count, and an outcome may stay unknown.
        """
        unresolved = 0
        if order.provider.grant == "login":
            unresolved = self.parts.tokens.begin_attempt(work.key.name, work.owner, order.credentials.version)
        if unresolved > MAX_UNRESOLVED_LOGINS:
            raise _unresolved_refusal()
        try:
            answer = self._run(flow_for(order), work)
            return answer, self._life(work.connection, answer)
        except Refusal as refusal:
            if refusal.verdict.outcome_unknown and unresolved >= MAX_UNRESOLVED_LOGINS:
                raise _unresolved_refusal() from None
            raise

    def credentials(self, connection: Connection, scope: str, stage: str = "AWSCURRENT") -> Credentials:
        """The secret as it is now. Raises ConnectionMisconfigured."""
        secret = self.parts.vault.read(connection.name, stage)
        if secret is None:
            raise ConnectionMisconfigured(f"There is no secret for {connection.name}, or it has no value yet.")
        credentials = parse_credentials(connection.name, connection.provider, secret)
        check_scope_of(connection.name, connection.provider, credentials, scope)
        return credentials

    def _run(self, flow: Flow, work: Work) -> Answer:
        """Drives a grant over the network, 8 s an exchange and until the deadline in all."""
        parts, network, nothing_left = self.parts, self.parts.network(work.connection), True
        try:
            request = next(flow)
            while True:
                sent_at = parts.clock()
                try:
                    if sent_at >= work.deadline:
                        raise Unreachable("no time is left")
                    response = parts.send(request, network, min(parts.times.exchange, work.deadline - sent_at))
                except TransportError as error:
                    nothing_left = nothing_left and isinstance(error, Unreachable)
                    request = flow.throw(error)
                else:
                    nothing_left = False
                    request = flow.send(response)
        except Refusal as refusal:
            refusal.nothing_left = nothing_left
            raise
        except StopIteration as done:
            return Answer(done.value, sent_at)

    def _life(self, connection: Connection, answer: Answer) -> Lifetime:
        parts = self.parts
        try:
            return lifetime(
                answer.issued,
                sent_at=answer.sent_at,
                cap=parts.scaled(connection.lifetime_cap),
                untold=parts.scaled(connection.untold_lifetime),
                default=DEFAULT_LIFE * parts.switches.time_scale,
            )
        except Unusable as reason:
            detail = f"The provider's answer is no usable token: {reason}."
            raise Refusal(Verdict(16, Kind.INVALID, Where.CONNECTION, detail)) from None


def _unresolved_refusal() -> Refusal:
    detail = "Logins went out whose outcome nobody knows; more could lock the account."
    refusal = Refusal(Verdict(2, Kind.REFUSED, Where.CONNECTION, detail))
    refusal.nothing_left = True
    return refusal

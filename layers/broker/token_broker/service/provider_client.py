"""Asks a provider for a token: reads the secret, runs the grant over the network, works out when the token expires."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar
from urllib.parse import urlsplit

from token_broker.core.connections import Connection, NetworkOptions
from token_broker.core.credentials import Credentials, Secret, check_scope_without_secret, parse_credentials
from token_broker.core.failures import broker_failed
from token_broker.core.health import ConnectionHealth
from token_broker.errors import BrokerUnavailable, ConnectionMisconfigured
from token_broker.oauth.exchange import HttpRequest, HttpResponse, TransportError, Unreachable
from token_broker.oauth.grants import GrantFailed, token_flow
from token_broker.oauth.lifetimes import DEFAULT_LIFETIME, Expiry, expiry_of
from token_broker.oauth.outcomes import too_many_unresolved_logins, unusable_response
from token_broker.oauth.requests import GrantRequest
from token_broker.oauth.responses import IssuedToken, UnusableResponse
from token_broker.ports import Clock, SecretNotReadable, Send
from token_broker.service.context import BrokerContext
from token_broker.service.lease import LeaseContext
from token_broker.service.records import save_health

T = TypeVar("T")
MAX_UNRESOLVED_LOGINS = 2


@dataclass(frozen=True, slots=True)
class GrantResult:
    """An issued token, and when the request that brought it was sent."""

    issued: IssuedToken = field(repr=False)
    sent_at: datetime


def run_flow(
    flow: Generator[HttpRequest, HttpResponse, T],
    network: NetworkOptions,
    *,
    send: Send,
    clock: Clock,
    exchange_limit: timedelta,
    deadline: datetime,
) -> tuple[T, datetime]:
    """Runs a flow over the network: each exchange within its limit, all of them before the deadline.

    Returns what the flow returns, and when its last request was sent. Raises GrantFailed, also where a further
    assertion cannot be signed: what was sent stays sent.
    """
    nothing_sent = True
    try:
        request = next(flow)
        while True:
            sent_at = clock()
            try:
                if sent_at >= deadline:
                    raise Unreachable("no time is left")
                response = send(request, network, min(exchange_limit, deadline - sent_at))
            except TransportError as error:
                nothing_sent = nothing_sent and isinstance(error, Unreachable)
                request = flow.throw(error)
            else:
                nothing_sent = False
                request = flow.send(response)
    except GrantFailed as failed:
        failed.nothing_sent = nothing_sent
        raise
    except (BrokerUnavailable, ConnectionMisconfigured) as error:
        raise GrantFailed(broker_failed(error.detail), nothing_sent=nothing_sent) from None
    except StopIteration as done:
        return done.value, sent_at


def check_not_expired(expiry: Expiry) -> None:
    """Raises GrantFailed for a token that expired when it was issued."""
    if expiry.expired is not None:
        raise GrantFailed(unusable_response(expiry.expired))


def check_api_host(connection: Connection, health: ConnectionHealth, api_base_url: str | None) -> None:
    """Raises GrantFailed for another API host than the first that a response named under these settings."""
    host = urlsplit(api_base_url or "").hostname
    if host is not None and not health.allows_api_host(host, connection.settings_digest):
        raise GrantFailed(
            unusable_response("its API host is not the one that was seen first; changed settings allow another one")
        )


@dataclass(frozen=True, slots=True)
class ProviderClient:
    """Runs grants for whoever holds the key's lease. Stores only the count of logins."""

    context: BrokerContext

    def secret(self, connection: Connection, stage: str = "AWSCURRENT") -> Secret | None:
        """The secret's version at a stage; None if there is none.

        Raises ConnectionMisconfigured where it may not be read, or BrokerUnavailable.
        """
        try:
            return self.context.secrets.read(connection.name, stage)
        except SecretNotReadable:
            raise ConnectionMisconfigured(
                f"The broker may not read the secret of {connection.name}. If the secret has a KMS key of its own, the "
                "stack's parameter SecretKeyArns must name it, and the key's policy must allow the broker's roles."
            ) from None

    def credentials(self, connection: Connection, scope: str, stage: str = "AWSCURRENT") -> Credentials:
        """The secret's value at a stage. Raises ConnectionMisconfigured or BrokerUnavailable."""
        secret = self.secret(connection, stage)
        if secret is None:
            missing = ConnectionMisconfigured(f"There is no secret for {connection.name}, or it has no value yet.")
            missing.secret_missing = True
            raise missing
        credentials = parse_credentials(connection.name, connection.provider, secret)
        check_scope_without_secret(connection.name, connection.provider, credentials, scope)
        return credentials

    def count_login(self, lease: LeaseContext, credentials: Credentials) -> LeaseContext:
        """Counts a login before it is sent: providers lock an account by count, and an outcome can stay unknown.

        Does nothing for other grants. Raises BrokerUnavailable.
        """
        if not lease.connection.provider.grant.counts_logins:
            return lease
        health = save_health(
            self.context,
            lease.key.name,
            lease.record.health,
            lambda current: current.login_counted(credentials.version),
        )
        return lease.with_health(health)

    def request_token(self, lease: LeaseContext, request: GrantRequest) -> tuple[GrantResult, Expiry]:
        """Runs the grant. The token can have expired at once. Raises GrantFailed."""
        context = self.context
        unresolved = lease.record.health.unresolved_logins if request.provider.grant.counts_logins else 0
        if unresolved > MAX_UNRESOLVED_LOGINS:
            raise GrantFailed(too_many_unresolved_logins(), nothing_sent=True)
        try:
            issued, sent_at = run_flow(
                token_flow(request),
                context.network(lease.connection),
                send=context.send,
                clock=context.clock,
                exchange_limit=context.limits.exchange,
                deadline=lease.deadline,
            )
        except GrantFailed as failed:
            if failed.failure.outcome_unknown and unresolved >= MAX_UNRESOLVED_LOGINS:
                raise GrantFailed(too_many_unresolved_logins(), nothing_sent=True) from None
            raise
        result = GrantResult(issued, sent_at)
        return result, self._expiry(lease.connection, result)

    def _expiry(self, connection: Connection, result: GrantResult) -> Expiry:
        scaled = self.context.scaled
        cap = connection.lifetime_cap
        try:
            return expiry_of(
                result.issued,
                sent_at=result.sent_at,
                cap=None if cap is None else scaled(cap),
                default=scaled(connection.default_lifetime or DEFAULT_LIFETIME),
            )
        except UnusableResponse as unusable:
            refresh_token = result.issued.issued_refresh_token(self.context.clock())
            raise GrantFailed(unusable_response(str(unusable)), status=200, refresh_token=refresh_token) from None

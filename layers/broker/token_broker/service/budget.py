"""The budget of an endpoint: our share of the provider's published request limit."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from token_broker.core.connections import Connection
from token_broker.core.credentials import Credentials
from token_broker.core.providers import Limit
from token_broker.errors import ProviderRateLimited
from token_broker.service.context import BrokerContext


def check_budget(context: BrokerContext, connection: Connection, *, renewal: bool = False) -> None:
    """Raises ProviderRateLimited while the endpoint's budget is used up or its cooldown lasts. Takes nothing.

    A budget per client is not looked at: the client is known only after the secret was read.
    """
    limit = connection.provider.limit
    if limit is None or limit.limit_per == "client":
        return
    now = context.clock()
    busy_until = context.budgets.busy_until(
        _counted_by(connection, limit, None), now=now, limit=_budget(limit, renewal), period=limit.period
    )
    if busy_until is not None:
        raise _used_up(busy_until - now)


def take_from_budget(
    context: BrokerContext, connection: Connection, credentials: Credentials, *, renewal: bool = False
) -> None:
    """Takes one request from the budget of this period. Raises ProviderRateLimited when it is used up.

    The budget is half of the provider's limit: any sliding minute touches two calendar minutes. Renewals may use two
    thirds of it. A provider without a published limit has no budget.
    """
    limit = connection.provider.limit
    if limit is None:
        return
    now = context.clock()
    busy_until = context.budgets.take(
        _counted_by(connection, limit, credentials), now=now, limit=_budget(limit, renewal), period=limit.period
    )
    if busy_until is not None:
        raise _used_up(busy_until - now)


def _counted_by(connection: Connection, limit: Limit, credentials: Credentials | None) -> str:
    """What the vendor counts requests by: the host, or one client or connection there."""
    host = connection.endpoints.token_host
    if limit.limit_per == "connection":
        return f"{host}#{connection.name}"
    if limit.limit_per == "client" and credentials is not None:
        return f"{host}#{hashlib.sha256(credentials.client_id.encode()).hexdigest()[:16]}"
    return host


def _budget(limit: Limit, renewal: bool) -> int:
    budget = limit.requests // 2
    return budget * 2 // 3 if renewal else budget


def _used_up(wait: timedelta) -> ProviderRateLimited:
    return ProviderRateLimited(
        "The broker's share of the provider's request limit is used up for now.", retry_after=wait
    )

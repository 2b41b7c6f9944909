"""The budget of an endpoint: our share of the provider's published request limit."""

from __future__ import annotations

from datetime import timedelta

from token_broker.core.connections import Connection
from token_broker.errors import ProviderRateLimited
from token_broker.service.context import BrokerContext


def check_budget(context: BrokerContext, connection: Connection, *, renewal: bool = False) -> None:
    """Raises ProviderRateLimited while the endpoint's budget is used up or its cooldown lasts. Takes nothing."""
    published = connection.provider.requests_per_minute
    if published is None:
        return
    now = context.clock()
    busy_until = context.budgets.busy_until(connection.endpoints.token_host, now=now, limit=_budget(published, renewal))
    if busy_until is not None:
        raise _used_up(busy_until - now)


def take_from_budget(context: BrokerContext, connection: Connection, *, renewal: bool = False) -> None:
    """Takes one request from the endpoint's budget for this minute. Raises ProviderRateLimited when it is used up.

    The budget is half of the provider's limit: any sliding minute touches two calendar minutes. Renewals may use two
    thirds of it. A provider without a published limit has no budget.
    """
    published = connection.provider.requests_per_minute
    if published is None:
        return
    now = context.clock()
    busy_until = context.budgets.take(connection.endpoints.token_host, now=now, limit=_budget(published, renewal))
    if busy_until is not None:
        raise _used_up(busy_until - now)


def _budget(published: int, renewal: bool) -> int:
    budget = published // 2
    return budget * 2 // 3 if renewal else budget


def _used_up(wait: timedelta) -> ProviderRateLimited:
    return ProviderRateLimited(
        "The broker's share of the provider's request limit is used up for now.", retry_after=wait
    )

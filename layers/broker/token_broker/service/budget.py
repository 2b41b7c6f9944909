"""The budget of an endpoint: our share of the provider's published request limit."""

from __future__ import annotations

from token_broker.core.connections import Connection
from token_broker.errors import ProviderRateLimited
from token_broker.service.context import BrokerContext


def take_from_budget(context: BrokerContext, connection: Connection, *, renewal: bool = False) -> None:
    """Takes one request from the endpoint's budget for this minute. Raises ProviderRateLimited when it is used up.

    The budget is half of the provider's limit: any sliding minute touches two calendar minutes. Renewals may use two
    thirds of it. A provider without a published limit has no budget.
    """
    published = connection.provider.requests_per_minute
    if published is None:
        return
    now, budget = context.clock(), published // 2
    free_at = context.tokens.take_budget(
        connection.endpoints.token_host, now=now, limit=budget * 2 // 3 if renewal else budget
    )
    if free_at is not None:
        raise ProviderRateLimited(
            "The broker's share of the provider's request limit is used up for now.", retry_after=free_at - now
        )

"""Bounds the scope sets of a connection."""

from __future__ import annotations

from datetime import datetime, timedelta

from token_broker.core.connections import Connection
from token_broker.core.records import TokenRecord
from token_broker.errors import TooManyScopeSets
from token_broker.service.context import BrokerContext

MAX_SCOPE_SETS = 32
SCOPE_SET_PERIOD = timedelta(hours=1)


def check_scope_sets(context: BrokerContext, connection: Connection, record: TokenRecord) -> None:
    """Bounds the scope sets of a connection: those with a live token, a lease, or a failure within the last hour.

    Raises TooManyScopeSets.
    """
    now = context.clock()
    if record.live_token(now) is not None:
        return
    others = (found for found in context.tokens.items(connection.name).records if found.key != record.key)
    taken = sum(1 for found in others if _takes_a_place(found, now))
    limit = 1 if connection.issue_revokes_previous else MAX_SCOPE_SETS
    if taken >= limit:
        raise TooManyScopeSets(f"{connection.name} already has tokens for {taken} scope set(s). Its limit is {limit}.")


def _takes_a_place(record: TokenRecord, now: datetime) -> bool:
    """Whether a scope set counts: it has a live token, a lease, or a failure within the last hour."""
    if record.live_token(now) is not None or record.leased(now):
        return True
    return record.failure is not None and now - record.failure.at < SCOPE_SET_PERIOD

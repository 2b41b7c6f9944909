"""Writes changes of records and health: applies a pure function, derives the schedule, saves, or tries again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from token_broker.core.health import ConnectionHealth
from token_broker.core.names import ConnectionName
from token_broker.core.records import TokenRecord
from token_broker.core.schedule import with_schedule
from token_broker.errors import BrokerUnavailable
from token_broker.service.context import BrokerContext

MAX_TRIES = 5
Change = Callable[[TokenRecord], TokenRecord | None]
HealthChange = Callable[[ConnectionHealth], ConnectionHealth]


def try_save(
    context: BrokerContext, before: TokenRecord, after: TokenRecord, *, reschedule: bool = False
) -> tuple[bool, TokenRecord]:
    """Saves a changed record with its schedule, if nobody changed it since `before` was read.

    `reschedule`: this answers the sweep's claim. Returns whether it was saved, and the record that is stored now.
    """
    after = with_schedule(before, after, context.clock(), reschedule=reschedule)
    after = replace(after, revision=new_revision(context))
    stored = context.tokens.save(before, after)
    return (True, after) if stored is None else (False, stored)


def save(context: BrokerContext, record: TokenRecord, change: Change) -> TokenRecord | None:
    """Applies a change to the stored record, again if somebody else changes it meanwhile.

    Returns the record as stored, or None if `change` returned None: it no longer applies. Raises BrokerUnavailable.
    """
    for _ in range(MAX_TRIES):
        after = change(record)
        if after is None:
            return None
        if after == record:
            return record
        saved, record = try_save(context, record, after)
        if saved:
            return record
    raise BrokerUnavailable("The token's item changes faster than it can be written.")


def save_health(
    context: BrokerContext, name: ConnectionName, health: ConnectionHealth, change: HealthChange
) -> ConnectionHealth:
    """Applies a change to the stored health of a connection. Raises BrokerUnavailable."""
    for _ in range(MAX_TRIES):
        after = change(health)
        if after == health:
            return health
        after = replace(after.with_delete_at(context.clock()), revision=new_revision(context))
        stored = context.health.save(name, health, after)
        if stored is None:
            return after
        health = stored
    raise BrokerUnavailable("The connection's health changes faster than it can be written.")


def new_revision(context: BrokerContext) -> str:
    """16 characters are enough to differ from the item's last revisions, and each costs a byte of every item."""
    return context.new_id()[:16]

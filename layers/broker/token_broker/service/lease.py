"""The lease on a token key: who holds it may ask the provider. Acquisitions and trials share it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from token_broker.core.connections import Connection
from token_broker.core.names import TokenKey
from token_broker.core.policy import RenewalPolicy, TokenCriteria
from token_broker.core.records import TokenRecord
from token_broker.service.context import BrokerContext


@dataclass(frozen=True, slots=True)
class LeaseContext:
    """A held lease. `record`: the item when the lease was taken. `deadline`: when to stop asking.

    `marked`: taking the lease marked the stored refresh token as sent.
    """

    connection: Connection
    policy: RenewalPolicy
    record: TokenRecord
    criteria: TokenCriteria
    owner: str
    deadline: datetime
    expires_at: datetime
    marked: bool

    @property
    def key(self) -> TokenKey:
        return self.record.key


def take_lease(
    context: BrokerContext,
    connection: Connection,
    record: TokenRecord,
    criteria: TokenCriteria,
    *,
    mark_refresh_token: bool,
) -> LeaseContext | None:
    """Takes the lease; None if somebody else holds it, or held it after `record` was read."""
    owner, now = context.new_id(), context.clock()
    deadline, expires_at = now + context.limits.acquisition, now + context.limits.lease
    mark = mark_refresh_token and record.refresh_token is not None
    taken, found = context.tokens.take_lease(record, owner, now=now, until=expires_at, mark_refresh=mark)
    if not taken:
        return None
    found = replace(found, health=record.health, lease=None)
    marked = mark and found.refresh_token is not None and not found.refresh_token.sent
    return LeaseContext(
        connection,
        context.policy(connection),
        found,
        criteria,
        owner,
        deadline=deadline,
        expires_at=expires_at,
        marked=marked,
    )

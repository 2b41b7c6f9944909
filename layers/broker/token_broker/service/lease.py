"""The lease on a token key: who holds it may ask the provider. Acquisitions and trials share it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from token_broker.core.connections import Connection
from token_broker.core.health import ConnectionHealth
from token_broker.core.names import TokenKey
from token_broker.core.policy import RenewalPolicy, TokenCriteria
from token_broker.core.records import Lease, TokenRecord
from token_broker.service.context import BrokerContext
from token_broker.service.records import save, try_save


@dataclass(frozen=True, slots=True)
class LeaseContext:
    """A held lease. `before_lease`: the record before it, `record`: with it. `deadline`: when to stop asking."""

    connection: Connection
    policy: RenewalPolicy
    before_lease: TokenRecord
    record: TokenRecord
    criteria: TokenCriteria
    owner: str
    deadline: datetime
    expires_at: datetime

    @property
    def key(self) -> TokenKey:
        return self.record.key

    def with_health(self, health: ConnectionHealth) -> LeaseContext:
        return replace(self, record=self.record.health_changed(health))


def take_lease(
    context: BrokerContext,
    connection: Connection,
    record: TokenRecord,
    criteria: TokenCriteria,
    *,
    mark_refresh_token: bool,
    reported: bool = False,
) -> LeaseContext | None:
    """Takes the lease; None if somebody holds it, or if the record changed since it was read.

    `reported`: a report causes the token request, which is taken from the key's bucket.
    """
    now = context.clock()
    if record.leased(now):
        return None
    lease = Lease(context.new_id(), since=now, until=now + context.limits.lease)
    after = record.lease_taken(
        lease,
        keep_warm=connection.renewal_mode,
        settings_digest=connection.settings_digest,
        mark_refresh_token=mark_refresh_token,
    )
    taken, stored = try_save(context, record, after.reported(now) if reported else after)
    if not taken:
        return None
    return LeaseContext(
        connection,
        context.policy(connection),
        record,
        stored,
        criteria,
        lease.owner,
        deadline=now + context.limits.acquisition,
        expires_at=lease.until,
    )


def end_lease(context: BrokerContext, lease: LeaseContext, *, nothing_sent: bool) -> None:
    """Ends a lease and changes nothing else. `nothing_sent`: no refresh token was sent, so its mark is restored."""

    def ended(current: TokenRecord) -> TokenRecord | None:
        if not current.last_leased_by(lease.owner):
            return None
        return current.lease_ended(lease.before_lease if nothing_sent else None)

    save(context, lease.record, ended)

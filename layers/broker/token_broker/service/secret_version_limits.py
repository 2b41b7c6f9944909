"""How often new versions of a secret may be tried, for a whole connection: providers lock an account by count."""

from __future__ import annotations

from datetime import datetime

from token_broker.core.credentials import Credentials
from token_broker.core.failures import Failure
from token_broker.core.health import NEW_VERSIONS_PERIOD, ConnectionHealth
from token_broker.errors import ProviderRateLimited
from token_broker.service.context import BrokerContext
from token_broker.service.lease import LeaseContext
from token_broker.service.records import save_health

MAX_NEW_VERSIONS = 3


def note_new_version(
    context: BrokerContext, lease: LeaseContext, credentials: Credentials, now: datetime
) -> LeaseContext:
    """Allows at most three new versions of a secret in an hour, because providers lock an account by count.

    Raises ProviderRateLimited.
    """
    health = lease.record.health
    recent = health.recent_versions(now)
    if credentials.version in {version for version, _ in recent}:
        return lease
    if len(recent) >= MAX_NEW_VERSIONS:
        wait = recent[0][1] + NEW_VERSIONS_PERIOD - now
        detail = (
            f"{MAX_NEW_VERSIONS} new versions of this secret were used within an hour. "
            "The broker waits, so that the account is not locked."
        )
        raise ProviderRateLimited(detail, retry_after=wait)
    noted = save_health(
        context, lease.key.name, health, lambda current: current.version_noted(credentials.version, now)
    )
    return lease.with_health(noted)


def take_one_more_try(context: BrokerContext, lease: LeaseContext, refusal: Failure) -> ConnectionHealth | None:
    """Takes the one more try after the first refusal of a secret's version, for all keys of the connection.

    The health with the try taken; None if somebody else was first.
    """
    taken: ConnectionHealth | None = None

    def take(current: ConnectionHealth) -> ConnectionHealth:
        nonlocal taken
        taken = current.one_more_try_taken(refusal, lease.expires_at)
        return taken or current

    health = save_health(context, lease.key.name, lease.record.health, take)
    return health if taken is not None else None

"""Remembers why no token came: stores a failure at the level of its cause, and says which error it means."""

from __future__ import annotations

from datetime import datetime, timedelta

from token_broker.core.credentials import Credentials
from token_broker.core.failures import (
    MISCONFIGURED_COOLDOWN,
    Failure,
    FailureKind,
    FailureLevel,
    broker_failure,
    failure_to_store,
    misconfigured_failure,
    next_failure,
)
from token_broker.core.records import TokenRecord
from token_broker.errors import (
    PROVIDER_ERRORS,
    BrokerError,
    BrokerUnavailable,
    ConnectionMisconfigured,
    ProviderRateLimited,
)
from token_broker.oauth.grants import GrantFailed
from token_broker.service.context import BrokerContext
from token_broker.service.lease import LeaseContext
from token_broker.service.records import save, save_health


def store_failure(
    context: BrokerContext, lease: LeaseContext, credentials: Credentials, failed: GrantFailed
) -> BrokerError:
    """Stores a failure at the level of its cause, ends the lease, and returns the error to raise."""
    exchange_failure = failed.failure
    connection = lease.connection
    key = lease.key
    now = context.clock()
    health = lease.record.health
    key_failure = lease.record.failure
    at_connection = health.rate_limit if exchange_failure.kind is FailureKind.RATE_LIMITED else health.failure
    previous = key_failure if exchange_failure.level is FailureLevel.KEY else at_connection
    failure = next_failure(
        exchange_failure,
        previous,
        now=now,
        secret_version=credentials.version,
        settings_digest=connection.settings_digest,
        refused_before=credentials.version in health.refused_versions,
        counts_logins=connection.provider.grant.counts_logins,
    )
    stored = failure_to_store(failure, previous)
    per_host = exchange_failure.level is FailureLevel.ENDPOINT and connection.provider.is_limited_per_host
    if per_host:
        context.budgets.cool_down(connection.endpoints.token_host, failure.retry_at)
    elif exchange_failure.level is not FailureLevel.KEY:
        reset_logins = failure.refused or not exchange_failure.outcome_unknown
        health = save_health(
            context,
            key.name,
            health,
            lambda current: current.failed(stored, replaced=previous, reset_logins=reset_logins),
        )
    # A host's cooldown is stored with the host. The key holds a copy to show, which never replaces a refusal.
    show_at_key = exchange_failure.level is FailureLevel.KEY or (per_host and not (key_failure and key_failure.refused))
    restore_mark_from = lease.before_lease if failed.nothing_sent else None

    def remembered(current: TokenRecord) -> TokenRecord | None:
        if not current.last_leased_by(lease.owner):
            return None
        return current.health_changed(health).failed(
            stored if show_at_key else None, restore_mark_from=restore_mark_from
        )

    save(context, lease.record, remembered)
    return error_of(failure, now)


def end_failed_lease(context: BrokerContext, lease: LeaseContext, error: BrokerError) -> None:
    """Ends a lease whose holder did not ask the provider. The record remembers why, and when to come back."""
    now = context.clock()
    digest = lease.connection.settings_digest
    stored = lease.record.failure

    def ended(current: TokenRecord) -> TokenRecord | None:
        if not current.last_leased_by(lease.owner):
            return None
        if isinstance(error, ProviderRateLimited):
            return current.lease_ended(lease.before_lease).deferred(deferred_until(context, current, error))
        failure = None
        if isinstance(error, ConnectionMisconfigured):
            failure = misconfigured_failure(
                error.code, error.detail, now=now, settings_digest=digest, secret_missing=error.secret_missing
            )
        elif isinstance(error, BrokerUnavailable):
            newest = broker_failure(error.detail, stored, now=now, settings_digest=digest)
            failure = failure_to_store(newest, stored)
        return current.failed(failure, restore_mark_from=lease.before_lease)

    try:
        save(context, lease.record, ended)
    except BrokerUnavailable:
        return
    if isinstance(error, BrokerUnavailable):
        error.remembered = True


def deferred_until(context: BrokerContext, record: TokenRecord, error: ProviderRateLimited) -> datetime:
    """When the sweep comes back to a key whose budget is used up: soon for a token that expires soon."""
    now = context.clock()
    wait = error.retry_after or MISCONFIGURED_COOLDOWN
    token = record.live_token(now)
    return now + wait + (token.remaining(now) / 16 if token is not None else timedelta())


def error_of(failure: Failure, now: datetime) -> BrokerError:
    """The error that a remembered failure means for a caller."""
    if failure.misconfigured:
        return ConnectionMisconfigured(failure.detail)
    retry_after = max(failure.retry_at - now, timedelta(seconds=1))
    if failure.code == FailureKind.BROKER.code:
        return BrokerUnavailable(failure.detail, retry_after=retry_after)
    return PROVIDER_ERRORS[failure.code](
        failure.detail,
        retry_after=retry_after,
        provider_error=failure.provider_error,
        consecutive_failures=failure.count,
    )

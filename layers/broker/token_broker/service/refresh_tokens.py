"""Refresh tokens of a token key: which one may be sent, and how a new one is stored (RFC 6749 section 6)."""

from __future__ import annotations

from datetime import datetime

from token_broker.core.names import fingerprint
from token_broker.core.records import REFRESH_TOKEN, RefreshToken, TokenRecord
from token_broker.errors import BrokerUnavailable
from token_broker.oauth.responses import IssuedToken
from token_broker.ports import Seal, SealBroken
from token_broker.service.context import BrokerContext
from token_broker.service.lease import LeaseContext
from token_broker.service.records import save


def refresh_token_to_send(context: BrokerContext, lease: LeaseContext, now: datetime) -> str | None:
    """The stored refresh token: never a second time, not after it expired, and only to its own endpoint."""
    previous = lease.before_lease.token
    refresh_token = lease.before_lease.refresh_token
    if refresh_token is None or refresh_token.sent or previous is None:
        return None
    if previous.token_endpoint != lease.policy.token_endpoint:
        return None
    if refresh_token.expires_at is not None and refresh_token.expires_at <= now:
        return None
    try:
        return context.sealer.open(refresh_token.sealed, lease.key.place, REFRESH_TOKEN)
    except SealBroken:
        return None


def seal_refresh_token(
    context: BrokerContext, lease: LeaseContext, seal: Seal | None, issued: IssuedToken
) -> RefreshToken | None:
    """The issued refresh token, sealed. One that cannot be sealed is dropped: the grant can start anew.

    `seal`: made before the request, where a refresh token was expected. A login has no use for one.
    That of a consent is stored with the consent.
    """
    if issued.refresh_token is None or not lease.connection.provider.grant.refreshes_keys:
        return None
    if seal is None:
        try:
            seal = context.sealer.prepare(lease.key.place, REFRESH_TOKEN)
        except BrokerUnavailable:
            return None
    return RefreshToken(
        refresh_id=fingerprint(issued.refresh_token),
        expires_at=issued.refresh_token_expires_at(context.clock()),
        sent=False,
        sealed=seal(issued.refresh_token),
    )


def keep_refresh_token(
    context: BrokerContext, lease: LeaseContext, refresh_token: RefreshToken | None, *, sent: bool
) -> TokenRecord | None:
    """Stores a refresh token under the lease. Returns the record, or None if the lease is not ours any more."""
    if refresh_token is None:
        return lease.record

    def rotated(current: TokenRecord) -> TokenRecord | None:
        return current.refresh_token_rotated(refresh_token, sent=sent) if current.last_leased_by(lease.owner) else None

    return save(context, lease.record, rotated)

"""Ends a person's consent by an operator's command: dropped, then revoked at the vendor where that can be."""

from __future__ import annotations

from dataclasses import dataclass

from token_broker.core.connections import Connection
from token_broker.core.consents import CONSENT_REFRESH_TOKEN, Consent
from token_broker.errors import BrokerUnavailable, WrongConsentState
from token_broker.ports import SealBroken, StoredSettings
from token_broker.service.consents import try_save_consent
from token_broker.service.context import BrokerContext
from token_broker.service.records import MAX_TRIES
from token_broker.service.revoke import Revoker

IN_USE = "in_use"


@dataclass(frozen=True, slots=True)
class DroppedConsent:
    """What was dropped. `refresh_id`: of the refresh token; None: there was no consent. `tokens`: live access tokens.

    `reason`: why the provider did not revoke the refresh token; None if it did, or if there was none.
    """

    refresh_id: str | None
    reason: str | None
    tokens: int


def drop_consent(context: BrokerContext, revoker: Revoker, stored: StoredSettings) -> DroppedConsent:
    """Drops the consent and the access tokens. The secret's refresh token does not begin another one.

    The refresh token that the write dropped is the one to revoke. If it was being sent, or its outcome is unknown, the
    reason is `in_use`: the provider may issue another one, which is not stored and cannot be revoked.
    Raises WrongConsentState if another consent was given meanwhile. Raises BrokerUnavailable, after which the refresh
    token may be dropped but not revoked. Both can be repeated.
    """
    if not context.catalogue[stored.name.provider].grant.needs_consent:
        return DroppedConsent(None, None, 0)
    connection = revoker.parsed(stored.name, stored.settings)
    consent = context.consents.read(stored.name)
    generation = consent.generation
    reason = None
    for _ in range(MAX_TRIES):
        if consent.token is None:
            break
        if consent.generation != generation:
            raise WrongConsentState("Another consent was given at the same moment. Look at it, then drop it.")
        spec = context.catalogue[stored.name.provider].refresh
        if try_save_consent(context, spec, consent, consent.dropped()) is not None:
            reason = _revoke(context, revoker, connection, consent)
            break
        consent = context.consents.read(stored.name)
    else:
        raise BrokerUnavailable("The consent changes faster than it can be dropped.")
    purged = revoker.purge(stored)
    return DroppedConsent(consent.token.refresh_id if consent.token is not None else None, reason, purged.count)


def _revoke(context: BrokerContext, revoker: Revoker, connection: Connection | None, consent: Consent) -> str | None:
    """Revokes the refresh token at the endpoint that issued it. Returns why not."""
    if consent.token is None:
        return None
    if connection is None:
        return "settings_invalid"
    if consent.issuer != connection.endpoints.token:
        return "issued_elsewhere"
    try:
        refresh_token = context.consent_sealer.open(consent.token.sealed, consent.place, CONSENT_REFRESH_TOKEN)
    except SealBroken:
        return "unreadable"
    except BrokerUnavailable:
        return "broker_unavailable"
    reason = revoker.revoke_at_provider(connection, connection.scope, refresh_token)
    in_use = consent.sent_at is not None or consent.leased(context.clock())
    return reason or (IN_USE if in_use else None)

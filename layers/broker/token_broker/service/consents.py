"""A person's consent as it is stored: how a new one begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from token_broker.core.connections import Connection
from token_broker.core.consents import CONSENT_REFRESH_TOKEN, Consent, ConsentToken, next_due
from token_broker.core.credentials import Credentials
from token_broker.core.health import ConnectionHealth
from token_broker.core.names import ConnectionName, fingerprint
from token_broker.errors import BrokerUnavailable
from token_broker.service.context import BrokerContext
from token_broker.service.records import save, save_health

REFRESH_TOKEN = "refresh_token"  # noqa: S105  # a field of the secret
MAX_TRIES = 5


def begin_consent(
    context: BrokerContext,
    connection: Connection,
    consent: Consent,
    refresh_token: str,
    *,
    credentials: Credentials,
    expires_at: datetime | None,
    scope: str | None,
    account: str | None,
    kept: Mapping[str, str],
) -> Consent | None:
    """Replaces the stored consent by a new one that a person confirmed, and ends the connection's cooldowns.

    `consent`: the stored one, as it was read. A refresh token in the secret is noted as known, so that it does not
    replace this one. Returns None if another consent began in between: then nothing was done. Raises BrokerUnavailable.
    """
    seal = context.consent_sealer.prepare(consent.place, CONSENT_REFRESH_TOKEN)
    token = ConsentToken(fingerprint(refresh_token), seal(refresh_token), expires_at)
    seed = credentials.values.get(REFRESH_TOKEN)
    for _ in range(MAX_TRIES):
        now = context.clock()
        after = consent.begun(
            token,
            issuer=connection.endpoints.token,
            client_id=credentials.client_id,
            seed_id=fingerprint(seed) if seed is not None else None,
            now=now,
            scope=scope,
            account=account,
            kept=kept,
        )
        due_at = next_due(after, connection.provider.refresh, now)
        after = replace(after, due_at=due_at, revision=context.new_id()[:16])
        stored = context.consents.save(consent, after)
        if stored is None:
            _end_cooldowns(context, connection.name)
            return after
        # A refresh of the same consent may come in between. Another account must not.
        if (stored.generation, stored.account) != (consent.generation, consent.account):
            return None
        consent = stored
    raise BrokerUnavailable("The consent changes faster than it can be written.")


def _end_cooldowns(context: BrokerContext, name: ConnectionName) -> None:
    """No failure of the old consent holds any more. The next request or the sweep uses the new one."""
    records = context.tokens.items(name).records
    health = records[0].health if records else ConnectionHealth()
    if records:
        health = save_health(context, name, health, lambda current: current.cooldowns_ended())
    now = context.clock()
    for record in records:
        save(context, record, lambda current: current.cooldowns_ended(health).marked_stale(now))

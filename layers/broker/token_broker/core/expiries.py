"""Expiry dates beside those of access tokens: credentials, consents and refresh tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from token_broker.core.connections import Connection
from token_broker.core.records import TokenRecord

if TYPE_CHECKING:
    from token_broker.core.consents import Consent

CREDENTIALS = "credentials"
REFRESH_TOKEN = "refresh_token"  # noqa: S105  # a name
CONSENT = "consent"


@dataclass(frozen=True, slots=True)
class ExpiryDate:
    """When a connection's credentials (by its settings), its consent, or the refresh token of one `scope` expire."""

    what: str
    at: datetime
    scope: str | None = None

    def days_left(self, now: datetime) -> float:
        """Negative once it has passed."""
        return (self.at - now) / timedelta(days=1)


def expiry_dates(
    connection: Connection, records: Iterable[TokenRecord], consent: Consent | None = None
) -> tuple[ExpiryDate, ...]:
    """The known deadlines, the next one first. A refresh token that was sent does not count."""
    found = [
        ExpiryDate(REFRESH_TOKEN, record.refresh_token.expires_at, record.key.scope)
        for record in records
        if record.refresh_token is not None
        and not record.refresh_token.sent
        and record.refresh_token.expires_at is not None
    ]
    if consent is not None:
        from token_broker.core.consents import ends_at  # few connections have one

        end = ends_at(consent, connection.provider.refresh)
        found += [ExpiryDate(CONSENT, end)] if end is not None else []
    if connection.credentials_expire_at is not None:
        found.append(ExpiryDate(CREDENTIALS, connection.credentials_expire_at))
    return tuple(sorted(found, key=lambda deadline: deadline.at))

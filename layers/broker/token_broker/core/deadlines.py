"""What ends by itself, beside tokens: seen days ahead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from token_broker.core.connections import Connection
from token_broker.core.tokens import TokenRecord

CREDENTIALS, REFRESH_TOKEN = "credentials", "refresh_token"


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a connection's credentials end, as its settings say, or the refresh token of one `scope`."""

    what: str
    at: datetime
    scope: str | None = None

    def days_left(self, now: datetime) -> float:
        """Below zero once it has passed."""
        return (self.at - now) / timedelta(days=1)


def deadlines(connection: Connection, records: Iterable[TokenRecord]) -> tuple[Deadline, ...]:
    """All that is known to end, the next one first. A refresh token that was sent is of no more use."""
    found = [
        Deadline(REFRESH_TOKEN, record.refresh.expires_at, record.key.scope)
        for record in records
        if record.refresh is not None and not record.refresh.sent and record.refresh.expires_at is not None
    ]
    if connection.credentials_expire_at is not None:
        found.append(Deadline(CREDENTIALS, connection.credentials_expire_at))
    return tuple(sorted(found, key=lambda deadline: deadline.at))

"""Consents in memory, under the same contract as the store over DynamoDB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from token_broker.core.consents import Consent
from token_broker.core.names import ConnectionName
from token_broker.ports import DueConsent


class InMemoryConsentStore:
    """ConsentStore (see ports)."""

    def __init__(self) -> None:
        self.consents: dict[ConnectionName, Consent] = {}

    def read(self, name: ConnectionName) -> Consent:
        return self.consents.get(name, Consent(name))

    def save(self, before: Consent, after: Consent) -> Consent | None:
        stored = self.read(after.name)
        if stored.revision == after.revision:
            return None
        if stored.revision != before.revision:
            return stored
        # A claim moves the due time and no revision: it stays unless this write changes it.
        due_at = stored.due_at if before.due_at == after.due_at else after.due_at
        self.consents[after.name] = replace(after, due_at=due_at)
        return None

    def due(self, *, until: datetime) -> Sequence[DueConsent]:
        found = [DueConsent(name, stored.due_at) for name, stored in self.consents.items() if stored.due_at is not None]
        return sorted((due for due in found if due.due_at <= until), key=lambda due: due.due_at)

    def claim(self, due: DueConsent, *, until: datetime) -> bool:
        stored = self.consents.get(due.name)
        if stored is None or stored.due_at != due.due_at:
            return False
        self.consents[due.name] = replace(stored, due_at=until)
        return True

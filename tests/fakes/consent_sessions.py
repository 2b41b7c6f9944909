"""Consent sessions and their queue in memory, under the same contract as the store over DynamoDB."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from token_broker.core.consent_sessions import ConsentSession, SessionState
from token_broker.oauth.consents import is_issuer
from token_broker.ports import CodeReceipt


class InMemoryConsentSessionStore:
    """ConsentSessionStore (see ports)."""

    def __init__(self) -> None:
        self.sessions: dict[str, ConsentSession] = {}

    def read(self, consent_id: str) -> ConsentSession | None:
        return self.sessions.get(consent_id)

    def save(self, before: ConsentSession | None, after: ConsentSession) -> bool:
        stored = self.sessions.get(after.consent_id)
        if stored is not None and stored.revision == after.revision:
            return True
        if (stored.revision if stored is not None else None) != (before.revision if before is not None else None):
            return False
        self.sessions[after.consent_id] = after
        return True

    def receive(self, receipt: CodeReceipt, now: datetime) -> bool:
        stored = self.sessions.get(receipt.consent_id)
        if stored is None or stored.name.provider != receipt.provider or not stored.accepts_code(receipt.code_id, now):
            return False
        if not is_issuer(receipt.iss, stored.expected_iss):
            return False
        if receipt.failure is not None:
            after = stored.failed(receipt.failure)
        else:
            assert receipt.code_id is not None
            assert receipt.sealed_code is not None
            after = stored.code_received(receipt.code_id, receipt.sealed_code, receipt.kept, now)
        self.sessions[receipt.consent_id] = replace(after, revision=receipt.revision)
        return True

    def state_of(self, consent_id: str) -> SessionState:
        return self.sessions[consent_id].state


class FakeConsentQueue:
    """ConsentQueue (see ports)."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, timedelta]] = []

    def send(self, consent_id: str, delay: timedelta = timedelta()) -> None:
        self.messages.append((consent_id, delay))

    def take(self) -> list[tuple[str, timedelta]]:
        """Returns all messages and empties the queue."""
        taken = self.messages
        self.messages = []
        return taken

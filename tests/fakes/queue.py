"""A renewal queue that keeps what it is sent."""

from __future__ import annotations

from collections.abc import Sequence

from token_broker.ports import RenewalMessage


class FakeQueue:
    """RenewalQueue (see ports). `refused`: how many of the next messages it does not take, as SQS reports per entry."""

    def __init__(self) -> None:
        self.messages: list[RenewalMessage] = []
        self.batches: list[int] = []
        self.refused = 0

    def send(self, messages: Sequence[RenewalMessage]) -> Sequence[RenewalMessage]:
        self.batches.append(len(messages))
        unsent = messages[: self.refused]
        self.refused -= len(unsent)
        self.messages += messages[len(unsent) :]
        return unsent

    def take(self) -> list[RenewalMessage]:
        """All that waits; the queue is empty afterwards."""
        taken, self.messages = self.messages, []
        return taken

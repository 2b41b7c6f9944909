"""A renewal queue that keeps its messages."""

from __future__ import annotations

from collections.abc import Sequence

from token_broker.ports import RenewalMessage


class FakeQueue:
    """RenewalQueue (see ports). `unaccepted`: how many of the next messages it does not accept."""

    def __init__(self) -> None:
        self.messages: list[RenewalMessage] = []
        self.batches: list[int] = []
        self.unaccepted = 0

    def send(self, messages: Sequence[RenewalMessage]) -> Sequence[RenewalMessage]:
        self.batches.append(len(messages))
        unsent = messages[: self.unaccepted]
        self.unaccepted -= len(unsent)
        self.messages += messages[len(unsent) :]
        return unsent

    def take(self) -> list[RenewalMessage]:
        """Returns all messages and empties the queue."""
        taken = self.messages
        self.messages = []
        return taken

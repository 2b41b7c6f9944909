"""The renewal queue and its workers on virtual time, with the limits of template.yaml."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

from local.resources import load_template
from tests.simulation.loop import Loop
from token_broker.errors import BrokerUnavailable
from token_broker.ports import RenewalMessage
from token_broker.service import Broker


@dataclass(frozen=True)
class Limits:
    """The limits of queue and worker in template.yaml."""

    concurrency: int
    visibility_s: int
    max_receives: int


@cache
def limits() -> Limits:
    """The defaults of a deployment."""
    template = load_template()
    queue = template["Resources"]["RenewalQueue"]["Properties"]
    return Limits(
        concurrency=int(template["Parameters"]["RenewalConcurrency"]["Default"]),
        visibility_s=int(queue["VisibilityTimeout"]),
        max_receives=int(queue["RedrivePolicy"]["maxReceiveCount"]),
    )


class WorkedQueue:
    """RenewalQueue (see ports), and its workers. Each handles one message at a time."""

    def __init__(self, loop: Loop) -> None:
        self.dead_letters = 0
        self.broker: Callable[[], Broker]
        self._loop = loop
        self._limits = limits()
        self._visible: deque[tuple[RenewalMessage, int]] = deque()
        self._busy = 0

    def send(self, messages: Sequence[RenewalMessage]) -> Sequence[RenewalMessage]:
        for message in messages:
            # SQS delays by whole seconds.
            self._deliver(message, 1, round(message.delay.total_seconds()))
        return ()

    def _deliver(self, message: RenewalMessage, receives: int, delay_s: float) -> None:
        self._loop.after(delay_s, partial(self._arrived, message, receives))

    def _arrived(self, message: RenewalMessage, receives: int) -> None:
        self._visible.append((message, receives))
        self._start_workers()

    def _start_workers(self) -> None:
        while self._visible and self._busy < self._limits.concurrency:
            self._busy += 1
            message, receives = self._visible.popleft()
            self._loop.after(0, partial(self._work, message, receives))

    def _work(self, message: RenewalMessage, receives: int) -> None:
        try:
            self.broker().renew(message.name, message.scope_id, message.token_id)
        except BrokerUnavailable:
            if receives < self._limits.max_receives:
                self._deliver(message, receives + 1, self._limits.visibility_s)
            else:
                self.dead_letters += 1
        self._busy -= 1
        self._start_workers()

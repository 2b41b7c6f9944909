"""The renewal queue and its workers on virtual time, bounded as template.yaml bounds them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

from local.resources import load_template
from tests.simulation.loop import Loop
from token_broker.core.names import ConnectionName
from token_broker.errors import BrokerUnavailable
from token_broker.ports import RenewalMessage
from token_broker.service import Broker


@dataclass(frozen=True)
class Bounds:
    """What template.yaml says of queue and worker."""

    concurrency: int
    visibility_s: int
    most_receives: int


@cache
def bounds() -> Bounds:
    """The defaults of a deployment."""
    template = load_template()
    queue = template["Resources"]["RenewalQueue"]["Properties"]
    return Bounds(
        concurrency=int(template["Parameters"]["RenewalConcurrency"]["Default"]),
        visibility_s=int(queue["VisibilityTimeout"]),
        most_receives=int(queue["RedrivePolicy"]["maxReceiveCount"]),
    )


class WorkedQueue:
    """RenewalQueue (see ports), and the workers behind it: one message each at a time.

    `outcomes`: how messages ended, by provider and outcome. `longest_wait_s`: what a message waited for a free worker.
    """

    def __init__(self, loop: Loop) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.dead = 0
        self.longest_wait_s = 0.0
        self.broker: Callable[[], Broker]
        self._loop = loop
        self._bounds = bounds()
        self._visible: deque[tuple[RenewalMessage, int, float]] = deque()
        self._busy = 0

    def send(self, messages: Sequence[RenewalMessage]) -> Sequence[RenewalMessage]:
        for message in messages:
            # SQS knows whole seconds.
            self._deliver(message, 1, round(message.delay.total_seconds()))
        return ()

    def _deliver(self, message: RenewalMessage, receives: int, delay_s: float) -> None:
        self._loop.after(delay_s, partial(self._arrived, message, receives))

    def _arrived(self, message: RenewalMessage, receives: int) -> None:
        self._visible.append((message, receives, self._loop.seconds))
        self._start_workers()

    def _start_workers(self) -> None:
        while self._visible and self._busy < self._bounds.concurrency:
            self._busy += 1
            message, receives, since_s = self._visible.popleft()
            self.longest_wait_s = max(self.longest_wait_s, self._loop.seconds - since_s)
            self._loop.after(0, partial(self._work, message, receives))

    def _work(self, message: RenewalMessage, receives: int) -> None:
        provider, _, connection = message.pk.removeprefix("C#").partition("/")
        try:
            renewal = self.broker().renew(ConnectionName(provider, connection), message.scope_id)
            self.outcomes[provider, renewal.outcome.value] += 1
        except BrokerUnavailable:
            if receives < self._bounds.most_receives:
                self._deliver(message, receives + 1, self._bounds.visibility_s)
            else:
                self.dead += 1
        self._busy -= 1
        self._start_workers()

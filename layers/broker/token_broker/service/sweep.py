"""The sweep: each minute it queues the token keys that are due, the most urgent first, spread over the minute.

It queues the consents that are due too.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from token_broker.core.consents import RESEND_SPACING
from token_broker.core.schedule import SHARDS, SWEEP_INTERVAL
from token_broker.ports import DueKey, RenewalMessage
from token_broker.service.context import BrokerContext

LOOK_AHEAD_INTERVALS = 2
MAX_DELAY = timedelta(minutes=15)
BATCH = 10
THREADS = 8


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What one sweep did. `deferred`: due, but left to the next sweep for lack of time or because the queue failed."""

    due: int
    queued: int
    claimed_elsewhere: int
    deferred: int


def sweep(context: BrokerContext, *, scheduled_at: datetime, deadline: datetime, threads: int = THREADS) -> SweepReport:
    """Claims and queues what is due within two intervals of `scheduled_at`. Stops before `deadline`.

    A claim moves the key's due time on, so that a key whose message is lost comes due again. `threads`: batches at
    once. Raises BrokerUnavailable.
    """
    interval = context.scaled(SWEEP_INTERVAL)
    horizon = scheduled_at + interval * LOOK_AHEAD_INTERVALS
    found = [due for shard in range(SHARDS) for due in context.due_index.due(shard, until=horizon)]
    found.sort(key=lambda due: due.due_at)
    offsets = [(due, interval * (number / len(found))) for number, due in enumerate(found)]

    def queue(start: int) -> tuple[int, int]:
        return _queue(context, offsets[start : start + BATCH]) if context.clock() < deadline else (0, 0)

    # Each claim is a round trip. One at a time, ten thousand would take longer than a minute.
    with ThreadPoolExecutor(threads) as pool:
        batches = list(pool.map(queue, range(0, len(found), BATCH)))
    queued = sum(batch_queued for batch_queued, _ in batches)
    claimed_elsewhere = sum(batch_claimed for _, batch_claimed in batches)
    deferred = len(found) - queued - claimed_elsewhere
    consents_due, consents_queued = _queue_consents(context, horizon)
    return SweepReport(
        len(found) + consents_due,
        queued + consents_queued,
        claimed_elsewhere,
        deferred=deferred + consents_due - consents_queued,
    )


def _queue_consents(context: BrokerContext, horizon: datetime) -> tuple[int, int]:
    """Queues the consents whose refresh token must be sent. Returns how many are due, and how many were queued.

    They are few, and each is due once in weeks. One whose message is lost or fails is due again after the claim.
    """
    found = context.consents.due(until=horizon)
    now = context.clock()
    messages = []
    for due in found:
        delay = max(due.due_at - now, timedelta())
        if context.consents.claim(due, until=now + delay + RESEND_SPACING):
            messages.append(RenewalMessage(due.name, None, delay))
    not_queued = context.queue.send(messages) if messages else ()
    return len(found), len(messages) - len(not_queued)


def _queue(context: BrokerContext, offsets: Sequence[tuple[DueKey, timedelta]]) -> tuple[int, int]:
    """Claims and queues one batch. Returns how many keys were queued, and how many another sweep had claimed.

    A message is delayed until its key is due. The messages of overdue keys are spread over the minute.
    """
    now = context.clock()
    claims: dict[RenewalMessage, DueKey] = {}
    for due, offset in offsets:
        delay = min(due.due_at - now if due.due_at > now else offset, MAX_DELAY)
        until = now + delay + 2 * context.scaled(SWEEP_INTERVAL) + context.limits.lease
        if context.due_index.claim(due, until=until):
            claims[RenewalMessage(due.name, due.scope_id, delay, due.token_id)] = replace(due, due_at=until)
    not_queued = context.queue.send(list(claims)) if claims else ()
    for message in not_queued:
        # The next sweep takes it up at once, and not when the claim ends.
        context.due_index.claim(claims[message], until=now)
    return len(claims) - len(not_queued), len(offsets) - len(claims)

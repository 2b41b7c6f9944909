"""The sweep: each minute it queues the keys that come due, most urgent first, and spreads them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from token_broker.broker.parts import Parts
from token_broker.ports import DueKey, RenewalMessage

SHARDS = 8
SWEEP_INTERVAL = timedelta(seconds=60)
LOOK_AHEAD = 2
MAX_DELAY = timedelta(minutes=15)
BATCH = 10


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What one sweep did. `deferred`: seen as due and left to the next sweep, for want of time or of the queue."""

    due: int
    queued: int
    claimed_elsewhere: int
    deferred: int


def sweep(parts: Parts, *, scheduled_at: datetime, deadline: datetime) -> SweepReport:
    """Claims and queues what is due by two intervals after `scheduled_at`. Stops before `deadline`.

    A claim moves the key's due time on, so a lost message comes due again by itself. Raises BrokerUnavailable.
    """
    interval = SWEEP_INTERVAL * parts.switches.time_scale
    horizon = scheduled_at + interval * LOOK_AHEAD
    found = [due for shard in range(SHARDS) for due in parts.tokens.due(shard, until=horizon)]
    found.sort(key=lambda due: due.due_at)
    queued = taken = 0
    for start in range(0, len(found), BATCH):
        if parts.clock() >= deadline:
            break
        claims: dict[RenewalMessage, DueKey] = {}
        for position, due in enumerate(found[start : start + BATCH], start):
            now = parts.clock()
            delay = _delay(due, now, interval, position / len(found))
            until = now + delay + 2 * interval + parts.times.lease
            if parts.tokens.claim_due(due, until=until):
                claims[RenewalMessage(due.pk, due.sk, delay)] = replace(due, due_at=until)
            else:
                taken += 1
        unsent = parts.queue.send(list(claims)) if claims else ()
        for message in unsent:
            # Not to be missed for the length of a claim: the next sweep finds it again.
            parts.tokens.claim_due(claims[message], until=now)
        queued += len(claims) - len(unsent)
    return SweepReport(len(found), queued, taken, deferred=len(found) - queued - taken)


def _delay(due: DueKey, now: datetime, interval: timedelta, position: float) -> timedelta:
    """Until a key is due; what is overdue is spread over the interval in the order of its urgency."""
    wait = due.due_at - now if due.due_at > now else interval * position
    return min(wait, MAX_DELAY)

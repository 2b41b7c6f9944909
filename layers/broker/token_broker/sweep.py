"""The sweep: each minute it queues the keys that come due, most urgent first, and spreads them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zlib import crc32

from token_broker.broker.parts import Parts
from token_broker.core.names import TokenKey
from token_broker.ports import DueKey, RenewalMessage

SHARDS = 8
SWEEP_INTERVAL = timedelta(seconds=60)
LOOK_AHEAD = 2
MAX_DELAY = timedelta(minutes=15)
BATCH = 10
HANDS = 8


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What one sweep did. `deferred`: seen as due and left to the next sweep, for want of time or of the queue."""

    due: int
    queued: int
    claimed_elsewhere: int
    deferred: int


def shard_of(key: TokenKey) -> int:
    """The shard of the due index that a key stands on. By its connection too: most keys of a provider share a scope."""
    return crc32(f"{key.pk} {key.sk}".encode()) % SHARDS


def sweep(parts: Parts, *, scheduled_at: datetime, deadline: datetime, hands: int = HANDS) -> SweepReport:
    """Claims and queues what is due by two intervals after `scheduled_at`. Stops before `deadline`.

    `hands`: batches under way at once. A claim moves the key's due time on, so a lost message comes due again by
    itself. Raises BrokerUnavailable.
    """
    interval = SWEEP_INTERVAL * parts.switches.time_scale
    horizon = scheduled_at + interval * LOOK_AHEAD
    found = [due for shard in range(SHARDS) for due in parts.tokens.due(shard, until=horizon)]
    found.sort(key=lambda due: due.due_at)
    turns = [(due, interval * (number / len(found))) for number, due in enumerate(found)]

    def queue(start: int) -> tuple[int, int]:
        return _queue(parts, turns[start : start + BATCH]) if parts.clock() < deadline else (0, 0)

    # A claim is a round trip of its own: one after the other, ten thousand would not fit into a minute.
    with ThreadPoolExecutor(hands) as pool:
        batches = list(pool.map(queue, range(0, len(found), BATCH)))
    queued, taken = (sum(counts) for counts in zip((0, 0), *batches, strict=True))
    return SweepReport(len(found), queued, taken, deferred=len(found) - queued - taken)


def _queue(parts: Parts, turns: Sequence[tuple[DueKey, timedelta]]) -> tuple[int, int]:
    """Claims and queues one batch: how many keys are queued, and how many another sweep had claimed.

    A key goes out for the time at which it is due; one that is overdue when its turn among all of them comes.
    """
    now = parts.clock()
    claims: dict[RenewalMessage, DueKey] = {}
    for due, turn in turns:
        delay = min(due.due_at - now if due.due_at > now else turn, MAX_DELAY)
        until = now + delay + 2 * SWEEP_INTERVAL * parts.switches.time_scale + parts.times.lease
        if parts.tokens.claim_due(due, until=until):
            claims[RenewalMessage(due.pk, due.sk, delay)] = replace(due, due_at=until)
    unsent = parts.queue.send(list(claims)) if claims else ()
    for message in unsent:
        # Not to be missed for the length of a claim: the next sweep finds it again.
        parts.tokens.claim_due(claims[message], until=now)
    return len(claims) - len(unsent), len(turns) - len(claims)

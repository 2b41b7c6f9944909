"""What follows from a record's state: when the sweep must look at the key, when its item may be deleted.

`with_schedule` is called at every write, so no path can forget to schedule a key.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from zlib import crc32

from token_broker.core.failures import Failure
from token_broker.core.names import TokenKey
from token_broker.core.records import TokenRecord

SHARDS = 8
SWEEP_INTERVAL = timedelta(seconds=60)
IDLE_TIME = timedelta(hours=24)
# How often the sweep compares a refused key with settings and secret.
LOOK_AGAIN = timedelta(minutes=15)
# An item stays this long after all in it is over.
KEEP = timedelta(days=2)
MAX_REFRESH_TOKEN_KEEP = timedelta(days=90)


def shard_of(key: TokenKey) -> int:
    """The shard of the due index that a key belongs to. The connection counts too: many keys share a scope."""
    return crc32(f"{key.name} {key.scope_id}".encode()) % SHARDS


def with_schedule(before: TokenRecord, after: TokenRecord, now: datetime, *, reschedule: bool = False) -> TokenRecord:
    """`after` with its schedule.

    A claim of the sweep stays if nothing changed that the schedule follows from, unless the claim is answered
    (`reschedule`).
    """
    due_at = next_due(after, now, looked_at=reschedule)
    claimed = before.due_at is not None and not reschedule
    if due_at is not None and claimed and _same_schedule(before, after):
        due_at = before.due_at
    after = replace(after, due_at=due_at)
    return replace(after, delete_at=delete_at(after, now))


def next_due(record: TokenRecord, now: datetime, *, looked_at: bool = False) -> datetime | None:
    """When the sweep must look at a key; None: the key is not kept warm.

    A token is renewed at `renew_at`, a stale or missing one at once, none before its cooldown ends. A refused key is
    looked at every 15 min, and at once if it was marked stale since: the provider is asked only if secret or settings
    changed, or once more after the first refusal of a secret's version. `looked_at`: the worker just looked.
    """
    if not is_kept_warm(record, now):
        return None
    due_at = record.token.renew_at if record.token is not None and record.stale_at is None else now
    if record.deferred_until is not None:
        due_at = max(due_at, record.deferred_until)
    for failure in record.failures():
        if not _concerns(failure, record):
            continue
        if not failure.needs_change:
            due_at = max(due_at, failure.retry_at)
        elif looked_at or record.stale_at is None or record.stale_at < failure.at:
            due_at = max(due_at, failure.retry_at if failure.one_more_try else now + LOOK_AGAIN)
    return due_at


def is_kept_warm(record: TokenRecord, now: datetime) -> bool:
    """Whether the key is renewed in advance: always, or while it was used within a day."""
    if record.keep_warm == "used":
        return record.last_used_at is not None and now - record.last_used_at <= IDLE_TIME
    return record.keep_warm == "always"


def delete_at(record: TokenRecord, now: datetime) -> datetime | None:
    """When the item may be deleted: two days after all in it is over. None: never, because it is always kept warm."""
    if record.keep_warm == "always":
        return None
    ends = [record.due_at, record.stale_at, record.deferred_until, record.reports_until]
    if record.token is not None:
        ends.append(record.token.expires_at)
    if record.refresh_token is not None and record.token is not None:
        longest = record.token.issued_at + MAX_REFRESH_TOKEN_KEEP
        ends.append(min(record.refresh_token.expires_at or longest, longest))
    if record.lease is not None:
        ends.append(record.lease.until)
    if record.failure is not None:
        ends.append(record.failure.retry_at)
    if record.last_used_at is not None:
        ends.append(record.last_used_at + IDLE_TIME)
    return max((end for end in ends if end is not None), default=now) + KEEP


def _concerns(failure: Failure, record: TokenRecord) -> bool:
    """Whether a failure still holds: a rate limit does, any other one only with the settings that it met."""
    if failure.rate_limited or record.settings_digest is None:
        return True
    return failure.settings_digest == record.settings_digest


def _same_schedule(before: TokenRecord, after: TokenRecord) -> bool:
    return (
        before.token == after.token
        and before.stale_at == after.stale_at
        and before.deferred_until == after.deferred_until
        and before.keep_warm == after.keep_warm
        and before.settings_digest == after.settings_digest
        and before.failures() == after.failures()
    )

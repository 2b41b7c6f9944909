"""When the sweep must look at a key and when its item may be deleted, as tables and properties of `with_schedule`."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.any_record import CHANGES, FAILURES, HEALTH, RECORDS, TOKENS, Change
from tests.unit.records import (
    KEY,
    NOW,
    failure,
    lease,
    minutes,
    rate_limited,
    record,
    refused,
    seconds,
    token,
)
from token_broker.core.health import ConnectionHealth
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import RefreshToken, TokenRecord
from token_broker.core.schedule import (
    IDLE_TIME,
    KEEP,
    LOOK_AGAIN,
    MAX_REFRESH_TOKEN_KEEP,
    SHARDS,
    delete_at,
    is_kept_warm,
    next_due,
    shard_of,
    with_schedule,
)

TOKEN = token(renew_at=NOW + seconds(2000))
# A sweep's claim lasts for its delay of a minute, two intervals and a lease.
CLAIM = seconds(197)


def warm(**changes: Any) -> TokenRecord:
    return record(**{"keep_warm": "always", "settings_digest": "s1", **changes})


def of_connection(**failures: Any) -> dict[str, Any]:
    return {"health": ConnectionHealth(**failures)}


# ------------------------------------------------------------------ the due time
COOLDOWN_ENDS = NOW + seconds(20)
NEXT_LOOK = NOW + LOOK_AGAIN
OTHER_SETTINGS: dict[str, Any] = {"settings_digest": "s0"}
FIRST_REFUSAL = refused(cooldown=20, one_more_try=True)
ROWS: list[tuple[str, dict[str, Any], datetime]] = [
    ("a token is due at renew_at", {"found": TOKEN}, TOKEN.renew_at),
    ("no token: at once", {}, NOW),
    ("an overdue token: at its renew_at", {"found": token(renew_at=NOW - minutes(5))}, NOW - minutes(5)),
    ("a stale token: at once", {"found": TOKEN, "stale_at": NOW - minutes(5)}, NOW),
    ("a failure: when its cooldown ends", {"failure": failure()}, COOLDOWN_ENDS),
    ("a cooldown that ended: at once", {"failure": failure(cooldown=-5)}, NOW),
    ("a failure of the connection", of_connection(failure=failure()), COOLDOWN_ENDS),
    ("the longest cooldown", {"failure": failure(cooldown=9), **of_connection(failure=failure())}, COOLDOWN_ENDS),
    ("a failure before renew_at: at renew_at", {"found": TOKEN, "failure": failure()}, TOKEN.renew_at),
    ("a stale token that fails", {"found": TOKEN, "stale_at": NOW, "failure": failure()}, COOLDOWN_ENDS),
    ("a rate limit: when it ends", of_connection(rate_limit=rate_limited(cooldown=20)), COOLDOWN_ENDS),
    ("a rate limit with other settings", {"failure": rate_limited(cooldown=20, **OTHER_SETTINGS)}, COOLDOWN_ENDS),
    ("a failure with other settings: at once", {"failure": failure(**OTHER_SETTINGS)}, NOW),
    ("a refusal: in 15 min", {"failure": refused(cooldown=86_400)}, NEXT_LOOK),
    ("a refusal whose cooldown ended: in 15 min", {"failure": refused(cooldown=-5)}, NEXT_LOOK),
    ("a refusal of the connection: in 15 min", of_connection(failure=refused()), NEXT_LOOK),
    ("a first refusal: at its one more try", of_connection(failure=FIRST_REFUSAL), COOLDOWN_ENDS),
    ("a refusal with other settings: at once", {"failure": refused(**OTHER_SETTINGS)}, NOW),
    ("a secret that changed after a refusal", {"failure": refused(ago=10), "stale_at": NOW - seconds(9)}, NOW),
    ("a secret that changed before a refusal", {"failure": refused(ago=10), "stale_at": NOW - seconds(11)}, NEXT_LOOK),
    ("a used-up budget: when it is free", {"deferred_until": COOLDOWN_ENDS}, COOLDOWN_ENDS),
    ("a budget that is free again: at once", {"deferred_until": NOW - seconds(40)}, NOW),
    ("a lease changes nothing", {"found": TOKEN, "lease": lease()}, TOKEN.renew_at),
]  # fmt: skip


@pytest.mark.parametrize(("state", "due_at"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_each_state_has_its_due_time(state: dict[str, Any], due_at: datetime) -> None:
    assert next_due(warm(**state), NOW) == due_at


def test_a_refused_key_that_was_just_looked_at_is_looked_at_in_15_min() -> None:
    """The secret's event concerned something else. The provider is not asked, and nobody looks each minute."""
    found = warm(failure=refused(ago=10), stale_at=NOW)
    assert next_due(found, NOW, looked_at=True) == NOW + LOOK_AGAIN


@pytest.mark.parametrize(
    ("keep_warm", "used_ago", "is_warm"),
    [
        ("always", None, True),
        ("always", 2 * IDLE_TIME, True),
        ("used", None, False),
        ("used", timedelta(), True),
        ("used", IDLE_TIME, True),
        ("used", IDLE_TIME + timedelta(milliseconds=1), False),
        ("never", timedelta(), False),
        ("suspended", timedelta(), False),
    ],
)
def test_a_key_is_kept_warm_always_or_while_it_was_used_within_a_day(
    keep_warm: str, used_ago: timedelta | None, is_warm: bool
) -> None:
    found = record(TOKEN, keep_warm=keep_warm, last_used_at=None if used_ago is None else NOW - used_ago)
    assert is_kept_warm(found, NOW) is is_warm
    assert (next_due(found, NOW) is not None) is is_warm


@given(RECORDS, RECORDS, st.booleans())
def test_a_key_is_in_the_index_exactly_if_it_is_kept_warm(
    before: TokenRecord, after: TokenRecord, reschedule: bool
) -> None:
    """P12: whatever its token, stale mark, failures, refusals and budget."""
    derived = with_schedule(before, after, NOW, reschedule=reschedule)
    assert (derived.due_at is not None) is is_kept_warm(after, NOW)


@given(
    found=st.none() | TOKENS,
    stale=st.booleans(),
    own=st.none() | FAILURES,
    health=HEALTH,
    deferred=st.none() | st.integers(-600, 600),
)
def test_a_warm_key_is_looked_at_when_its_token_or_a_cooldown_ends_and_within_15_min_if_refused(
    found: object, stale: bool, own: object, health: ConnectionHealth, deferred: int | None
) -> None:
    deferred_until = None if deferred is None else NOW + seconds(deferred)
    state = warm(
        found=found, stale_at=NOW if stale else None, failure=own, health=health, deferred_until=deferred_until
    )
    due_at = next_due(state, NOW)
    assert due_at is not None
    latest = [NOW, NOW + LOOK_AGAIN if any(met.refused for met in state.failures()) else NOW]
    latest += [met.retry_at for met in state.failures() if not met.refused]
    latest += [deferred_until] if deferred_until is not None else []
    latest += [state.token.renew_at] if state.token is not None and not stale else []
    assert due_at <= max(latest)


# ------------------------------------------------------------------ claims
@pytest.mark.parametrize("change", ["used", "lease taken", "lease ended", "reported"])
def test_a_claim_survives_what_the_schedule_does_not_follow_from(change: str) -> None:
    claimed = warm(found=TOKEN, due_at=TOKEN.renew_at + CLAIM, last_used_at=NOW)
    changed = {
        "used": claimed.used(NOW),
        "lease taken": claimed.lease_taken(lease(), keep_warm="always", settings_digest="s1", mark_refresh_token=True),
        "lease ended": claimed.lease_ended(),
        "reported": claimed.reported(NOW),
    }[change]
    assert with_schedule(claimed, changed, NOW).due_at == claimed.due_at


@given(RECORDS, st.integers(0, 600))
def test_a_claim_survives_use_and_lease_in_every_state(found: TokenRecord, later: int) -> None:
    claimed = replace(found, keep_warm="always", settings_digest="s1", due_at=NOW + seconds(later))
    if claimed.token is not None:
        claimed = replace(claimed, token=replace(claimed.token, settings_digest="s1"))
    used = with_schedule(claimed, claimed.used(NOW), NOW)
    leased = used.lease_taken(lease(), keep_warm="always", settings_digest="s1", mark_refresh_token=True)
    assert with_schedule(used, leased, NOW).due_at == claimed.due_at


@pytest.mark.parametrize(
    ("changed", "due_at"),
    [
        (warm(found=replace(TOKEN, sealed=b"new"), due_at=NOW + CLAIM), TOKEN.renew_at),
        (warm(found=TOKEN, stale_at=NOW, due_at=NOW + CLAIM), NOW),
        (warm(found=TOKEN, failure=refused(), due_at=NOW + CLAIM), TOKEN.renew_at),
        (warm(found=None, failure=failure(), due_at=NOW + CLAIM), NOW + seconds(20)),
        (warm(found=TOKEN, deferred_until=NOW + minutes(60), due_at=NOW + CLAIM), NOW + minutes(60)),
        (warm(found=TOKEN, keep_warm="never", due_at=NOW + CLAIM), None),
        (warm(found=TOKEN, settings_digest="s2", due_at=NOW + CLAIM), TOKEN.renew_at),
        (warm(found=TOKEN, **of_connection(failure=failure(cooldown=3000)), due_at=NOW + CLAIM), NOW + seconds(3000)),
    ],
    ids=["token", "stale", "refused", "failure", "budget", "never", "settings", "health"],
)
def test_a_claim_ends_with_what_the_schedule_follows_from(changed: TokenRecord, due_at: datetime | None) -> None:
    claimed = warm(found=TOKEN, due_at=NOW + CLAIM)
    assert with_schedule(claimed, changed, NOW).due_at == due_at


@given(RECORDS)
def test_an_answered_claim_ends(found: TokenRecord) -> None:
    claimed = replace(found, due_at=NOW + CLAIM)
    assert with_schedule(claimed, found, NOW, reschedule=True).due_at == next_due(found, NOW, looked_at=True)


def test_a_key_that_comes_back_to_the_index_has_no_claim() -> None:
    idle = record(TOKEN, keep_warm="used", settings_digest="s1", last_used_at=NOW - 2 * IDLE_TIME)
    assert with_schedule(idle, idle.used(NOW), NOW).due_at == TOKEN.renew_at


# ------------------------------------------------------------------ the life of an item
@given(RECORDS, RECORDS, st.booleans())
def test_an_item_outlives_its_due_time_and_all_in_it_by_two_days(
    before: TokenRecord, after: TokenRecord, reschedule: bool
) -> None:
    derived = with_schedule(before, after, NOW, reschedule=reschedule)
    if after.keep_warm == "always":
        assert derived.delete_at is None
        return
    assert derived.delete_at is not None
    ends = [derived.due_at, after.stale_at, after.deferred_until, after.reports_until, after.last_used_at]
    ends += [after.token.expires_at] if after.token is not None else []
    ends += [after.lease.until] if after.lease is not None else []
    ends += [after.failure.retry_at] if after.failure is not None else []
    assert all(derived.delete_at >= end + KEEP for end in ends if end is not None)


@pytest.mark.parametrize(
    ("expires_at", "kept_until"),
    [
        (NOW + timedelta(days=30), NOW + timedelta(days=30)),
        (None, TOKEN.issued_at + MAX_REFRESH_TOKEN_KEEP),
        (NOW + timedelta(days=400), TOKEN.issued_at + MAX_REFRESH_TOKEN_KEEP),
    ],
)
def test_a_refresh_token_keeps_its_item_for_90_days_at_most(expires_at: datetime | None, kept_until: datetime) -> None:
    found = record(TOKEN, refresh_token=RefreshToken("r", expires_at, sent=False, sealed=b""))
    assert delete_at(found, NOW) == kept_until + KEEP


def test_an_empty_item_is_kept_for_two_days() -> None:
    """It fences whoever read the key before a purge."""
    assert delete_at(record(), NOW) == NOW + KEEP


def test_a_key_of_a_deleted_connection_leaves_the_index_and_may_be_deleted() -> None:
    found = warm(found=TOKEN, failure=refused(), due_at=NOW)
    gone = with_schedule(found, found.purged(deleted=True), NOW)
    assert (gone.keep_warm, gone.due_at, gone.delete_at) == ("never", None, NOW + KEEP)


# ------------------------------------------------------------------ sequences
@given(st.lists(st.tuples(st.integers(0, 20_000), CHANGES, st.booleans()), max_size=12))
def test_after_any_sequence_of_changes_a_warm_key_is_in_the_index_and_its_item_is_kept(
    steps: list[tuple[int, Change, bool]],
) -> None:
    """Each step: the time since the last one, a change, and whether the sweep claimed the key before, if it was due."""
    now = NOW
    stored = TokenRecord(KEY)
    for gap, change, claims in steps:
        now += seconds(gap)
        if claims and stored.due_at is not None and stored.due_at <= now:
            stored = replace(stored, due_at=now + CLAIM)
        stored = with_schedule(stored, change.apply(stored, now), now)
        assert (stored.due_at is not None) is is_kept_warm(stored, now)
        if stored.due_at is not None:
            assert stored.delete_at is None or stored.delete_at >= stored.due_at + KEEP
        assert (stored.delete_at is None) is (stored.keep_warm == "always")


# ------------------------------------------------------------------ shards
def test_keys_are_spread_evenly_over_the_shards_and_keep_theirs() -> None:
    keys = [TokenKey(ConnectionName("unidy", f"c{number}"), "users:read") for number in range(8000)]
    counts = Counter(shard_of(key) for key in keys)
    assert set(counts) == set(range(SHARDS))
    assert max(counts.values()) < 1.2 * min(counts.values())
    assert shard_of(KEY) == shard_of(replace(KEY))

"""The changes of a token key's record: pure functions, as tables and properties."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.any_record import CHANGES, DIGESTS, KEEP_WARM, RECORDS, TOKENS, Change
from tests.unit.records import (
    CURRENT,
    KEY,
    NOW,
    OTHER,
    failure,
    lease,
    minutes,
    record,
    refused,
    seconds,
    token,
)
from token_broker.core.health import ConnectionHealth
from token_broker.core.records import (
    REPORT_BURST,
    REPORT_INTERVAL,
    OpenedToken,
    RefreshToken,
    RetiredToken,
    Token,
    TokenRecord,
)

REFRESH = RefreshToken("0f0e0d0c0b0a0908", None, sent=False, sealed=b"refresh")


def as_leased(found: TokenRecord, *, mark: bool = True) -> TokenRecord:
    return found.lease_taken(lease(), keep_warm="used", settings_digest="s1", mark_refresh_token=mark)


# ------------------------------------------------------------------ every change
@given(RECORDS, CHANGES)
def test_a_change_keeps_the_key_the_revision_and_the_due_time(found: TokenRecord, change: Change) -> None:
    """The schedule is derived at the write, and nowhere else."""
    changed = change.apply(found, NOW)
    assert (changed.key, changed.revision, changed.due_at) == (found.key, found.revision, found.due_at)


@given(RECORDS, CHANGES)
def test_only_a_lease_takes_a_lease_and_only_a_commit_brings_a_token(found: TokenRecord, change: Change) -> None:
    changed = change.apply(found, NOW)
    assert change.name == "lease_taken" or changed.lease in (None, found.lease)
    assert change.name == "committed" or changed.token in (None, found.token)


# ------------------------------------------------------------------ leases
def test_a_lease_marks_the_refresh_token_as_sent() -> None:
    assert as_leased(record(token(), refresh_token=REFRESH)).refresh_token == replace(REFRESH, sent=True)
    assert as_leased(record(token(), refresh_token=REFRESH), mark=False).refresh_token == REFRESH
    assert as_leased(record(token())).refresh_token is None


@pytest.mark.parametrize("was_sent", [False, True])
def test_if_nothing_was_sent_the_mark_is_restored(was_sent: bool) -> None:
    before = record(token(), refresh_token=replace(REFRESH, sent=was_sent))
    assert as_leased(before).lease_ended(before).refresh_token == before.refresh_token
    assert as_leased(before).failed(failure(), restore_mark_from=before).refresh_token == before.refresh_token


def test_if_something_was_sent_the_mark_stays() -> None:
    leased = as_leased(record(token(), refresh_token=REFRESH))
    for ended in (leased.lease_ended(), leased.failed(failure())):
        assert ended.lease is None
        assert ended.refresh_token == replace(REFRESH, sent=True)


def test_a_lease_belongs_to_its_owner_until_another_takes_it() -> None:
    found = record(lease=lease(-60))
    assert found.last_leased_by("another")
    assert not found.leased(NOW)
    assert not found.last_leased_by("mine")
    assert not record().last_leased_by("another")


@given(RECORDS, KEEP_WARM, DIGESTS)
def test_the_lease_write_applies_the_settings_as_a_put_does(found: TokenRecord, keep_warm: str, digest: str) -> None:
    held = lease()
    leased = found.lease_taken(held, keep_warm=keep_warm, settings_digest=digest, mark_refresh_token=False)
    applied = found.settings_applied(keep_warm=keep_warm, settings_digest=digest, now=held.since, resumed=False)
    assert leased == replace(applied, lease=held)


# ------------------------------------------------------------------ commits
def committed(
    found: TokenRecord, issued: Token, *, at_lease: TokenRecord | None = None, used: bool = False
) -> TokenRecord:
    return found.committed(issued, None, at_lease=at_lease or found, now=NOW, used=used)


@given(RECORDS, TOKENS)
def test_the_same_live_token_never_gets_a_later_expiry(found: TokenRecord, issued: Token) -> None:
    stored = committed(found, issued).token
    assert stored is not None
    held = found.live_token(NOW)
    if held is not None and held.token_id == issued.token_id:
        assert stored.expires_at == min(held.expires_at, issued.expires_at)
        assert stored.renew_at <= held.expires_at
    else:
        assert stored.expires_at == issued.expires_at


@pytest.mark.parametrize("learns", [True, False])
@given(found=RECORDS, issued=TOKENS)
def test_a_commit_learns_whether_the_provider_reissues(learns: bool, found: TokenRecord, issued: Token) -> None:
    after = found.committed(issued, None, at_lease=found, now=NOW, used=False, learns_reissue=learns)
    is_alive = found.live_token(NOW) is not None
    is_same = found.token is not None and found.token.token_id == issued.token_id
    assert after.reissues is (learns and (is_same or (found.reissues and not is_alive)))
    assert after.token is not None
    if after.reissues:
        assert after.token.renew_at == after.token.expires_at
    if is_same and not is_alive:
        assert after.token.reissued


@given(RECORDS, TOKENS, st.booleans())
def test_a_commit_ends_lease_failure_and_deferral(found: TokenRecord, issued: Token, used: bool) -> None:
    stored = committed(found, issued, used=used)
    assert (stored.lease, stored.failure, stored.deferred_until) == (None, None, None)
    assert stored.last_used_at == (NOW if used else found.last_used_at)
    assert stored.health.failures == ()


@given(RECORDS, TOKENS)
def test_a_stale_mark_survives_a_commit_if_it_came_after_the_lease(found: TokenRecord, issued: Token) -> None:
    issued = replace(issued, settings_digest="s1")
    leased = as_leased(found)
    assert committed(leased, issued, at_lease=leased).stale_at is None
    later = NOW + timedelta(days=1)
    assert committed(leased.marked_stale(later), issued, at_lease=leased).stale_at == later


@given(RECORDS, TOKENS)
def test_a_token_is_stale_from_the_start_if_the_settings_changed_since_the_lease(
    found: TokenRecord, issued: Token
) -> None:
    """Whether or not the token before it was stale already, or there was none."""
    issued = replace(issued, settings_digest="s1")
    leased = as_leased(found)
    changed = leased.settings_applied(keep_warm="used", settings_digest="s2", now=NOW, resumed=False)
    assert committed(changed, issued, at_lease=leased).stale_at == NOW
    unknown = replace(issued, settings_digest=None)
    assert committed(leased, unknown, at_lease=leased).stale_at is None


def test_a_failure_that_came_after_the_lease_survives_a_commit() -> None:
    """Another scope set of the connection failed meanwhile."""
    newer = refused(ago=0)
    leased = as_leased(record(health=ConnectionHealth(failure=failure(), unresolved_logins=1)))
    assert committed(leased, token(), at_lease=leased).health.failure is None
    failed_since = leased.health_changed(ConnectionHealth(failure=newer))
    assert committed(failed_since, token(), at_lease=leased).health.failure == newer


# ------------------------------------------------------------------ failures
def test_a_failure_of_the_connection_leaves_the_keys_own_one() -> None:
    own = failure()
    assert record(failure=own, lease=lease()).failed(None) == record(failure=own)


def test_a_record_has_the_failures_of_its_connection_and_its_own() -> None:
    own, of_connection, limit = failure(), refused(), failure(code="provider_rate_limited")
    found = record(failure=own, health=ConnectionHealth(failure=of_connection, rate_limit=limit))
    assert found.failures() == (of_connection, limit, own)
    assert record().failures() == ()


def test_a_successful_trial_ends_all_cooldowns() -> None:
    found = record(token(), failure=refused(), health=ConnectionHealth(failure=refused()))
    assert found.cooldowns_ended(found.health.cooldowns_ended()) == record(token())


# ------------------------------------------------------------------ reports
@given(st.lists(st.integers(0, 200), min_size=1, max_size=80))
def test_reports_are_a_bucket_of_5_that_refills_by_one_a_minute(gaps: list[int]) -> None:
    """Against the bucket as the contract describes it: a level from 0 to 5."""
    found, now, level = record(token()), NOW, Fraction(5)
    for gap in gaps:
        now += seconds(gap)
        level = min(Fraction(5), level + Fraction(gap, 60))
        allowed_at = found.report_allowed_at()
        assert (allowed_at is None or allowed_at <= now) is (level >= 1)
        if level >= 1:
            level -= 1
            found = found.reported(now)
        else:
            assert allowed_at == now + timedelta(seconds=float((1 - level) * 60))


def test_five_reports_are_allowed_at_once_and_then_one_a_minute() -> None:
    found = record(token())
    for _ in range(REPORT_BURST):
        allowed_at = found.report_allowed_at()
        assert allowed_at is None or allowed_at <= NOW
        found = found.reported(NOW)
    assert found.report_allowed_at() == NOW + REPORT_INTERVAL


# ------------------------------------------------------------------ use
def test_only_a_token_can_be_used() -> None:
    assert record(token()).used(NOW).last_used_at == NOW
    assert record().used(NOW) == record()


# ------------------------------------------------------------------ secret and settings
@given(RECORDS, KEEP_WARM, DIGESTS, st.booleans())
def test_settings_mark_a_token_stale_exactly_if_it_has_other_ones_or_a_suspension_ended(
    found: TokenRecord, keep_warm: str, digest: str, resumed: bool
) -> None:
    applied = found.settings_applied(keep_warm=keep_warm, settings_digest=digest, now=NOW, resumed=resumed)
    assert (applied.keep_warm, applied.settings_digest) == (keep_warm, digest)
    has_other_settings = found.token is not None and found.token.settings_digest not in (None, digest)
    ended = resumed or (found.keep_warm == "suspended" and keep_warm != "suspended")
    must_mark = found.token is not None and (has_other_settings or ended)
    if found.stale_at is not None:
        assert applied.stale_at == found.stale_at
    else:
        assert applied.stale_at == (NOW if must_mark else None)
    assert replace(applied, keep_warm=found.keep_warm, settings_digest=found.settings_digest, stale_at=None) == replace(
        found, stale_at=None
    )


@given(RECORDS, KEEP_WARM, DIGESTS, st.booleans())
def test_settings_can_be_applied_again(found: TokenRecord, keep_warm: str, digest: str, resumed: bool) -> None:
    """A PUT can be repeated, and each reader applies them too."""

    def applied(to: TokenRecord, at: datetime) -> TokenRecord:
        return to.settings_applied(keep_warm=keep_warm, settings_digest=digest, now=at, resumed=resumed)

    once = applied(found, NOW)
    assert applied(once, NOW + minutes(1)) == once


@given(RECORDS)
def test_a_changed_secret_marks_a_record_stale_whatever_its_state(found: TokenRecord) -> None:
    assert found.marked_stale(NOW) == replace(found, stale_at=NOW)


# ------------------------------------------------------------------ purges
@given(RECORDS, st.booleans())
def test_a_purge_drops_everything_but_how_the_key_is_kept_warm(found: TokenRecord, deleted: bool) -> None:
    """The report bucket stays too: a purge must not refill it. So do the digest and what is not of the key itself."""
    assert found.purged(deleted=deleted) == TokenRecord(
        found.key,
        keep_warm="never" if deleted else found.keep_warm,
        settings_digest=found.settings_digest,
        reports_until=found.reports_until,
        health=found.health,
        due_at=found.due_at,
        revision=found.revision,
    )


def test_a_superseded_token_expires_by_itself_unless_it_must_be_revoked() -> None:
    retired = RetiredToken.of(KEY, token())
    assert (retired.token_id, retired.token_endpoint, retired.expires_at) == (
        CURRENT,
        token().token_endpoint,
        token().expires_at,
    )
    assert (retired.revoke, retired.settings, retired.due_at) == (False, None, None)
    to_revoke = retired.to_revoke({"scope": "a"}, NOW)
    assert to_revoke == replace(retired, revoke=True, settings={"scope": "a"}, due_at=NOW)


@pytest.mark.parametrize("revocation_url", [None, "https://id.example.com/revoke"])
@pytest.mark.parametrize("api_base_url", [None, "https://eu.example.com/"])
@pytest.mark.parametrize("credentials", [{}, {"client_id": "a\nb|ü"}])
def test_a_sealed_token_carries_what_its_callers_and_its_revocation_need(
    revocation_url: str | None, api_base_url: str | None, credentials: dict[str, str]
) -> None:
    opened = OpenedToken("tok-1", revocation_url, api_base_url, credentials)
    assert OpenedToken.unpack(opened.pack()) == opened
    assert "tok-1" not in repr(opened)


def test_nothing_sealed_is_printed() -> None:
    found = record(token(token_id=OTHER), refresh_token=REFRESH)
    assert "sealed" not in repr(found)
    assert (
        "settings="
        not in repr(RetiredToken.of(KEY, token()).to_revoke({"scope": "a"}, NOW)).partition("RetiredToken")[2]
    )

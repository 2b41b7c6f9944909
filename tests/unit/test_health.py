"""Connection health: what is remembered of a connection's credentials, and how it changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.any_record import FAILURES, HEALTH, RATE_LIMITS, VERSIONS
from tests.unit.records import NOW, failure, minutes, rate_limited, refused, seconds
from token_broker.core.failures import MAX_RATE_LIMIT_COOLDOWN, REFUSED_COOLDOWNS, Failure
from token_broker.core.health import HEALTH_KEEP, NEW_VERSIONS_PERIOD, ConnectionHealth


# ------------------------------------------------------------------ failures
@pytest.mark.parametrize("settled", [False, True])
def test_a_failure_and_a_rate_limit_are_kept_side_by_side(settled: bool) -> None:
    both = ConnectionHealth(failure=refused(), rate_limit=rate_limited(), unresolved_logins=2)
    newer_failure = failure(ago=0, cooldown=1000)
    newer_limit = rate_limited(ago=0, cooldown=1000)
    logins = 0 if settled else 2
    after_failure = both.failed(newer_failure, replaced=both.failure, reset_logins=settled)
    assert after_failure == replace(both, failure=newer_failure, unresolved_logins=logins)
    after_limit = both.failed(newer_limit, replaced=both.rate_limit, reset_logins=settled)
    assert after_limit == replace(both, rate_limit=newer_limit, unresolved_logins=logins)
    assert both.failures == (both.failure, both.rate_limit)


@given(HEALTH, FAILURES | RATE_LIMITS, FAILURES | st.none())
def test_a_failure_stored_meanwhile_stays_if_its_cooldown_is_longer(
    found: ConnectionHealth, met: Failure, replaced: Failure | None
) -> None:
    """P4: `replaced` is the failure that the new one was derived from."""
    stored = found.rate_limit if met.rate_limited else found.failure
    failed = found.failed(met, replaced=replaced, reset_logins=False)
    now_stored = failed.rate_limit if met.rate_limited else failed.failure
    if stored is None or stored == replaced:
        assert now_stored == met
    else:
        assert now_stored == (stored if stored.retry_at > met.retry_at else met)


@given(HEALTH, HEALTH)
def test_a_success_ends_the_failures_that_were_known_and_no_newer_ones(
    read_as: ConnectionHealth, current: ConnectionHealth
) -> None:
    after = current.succeeded(read_as)
    assert after.failure == (None if current.failure == read_as.failure else current.failure)
    assert after.rate_limit == (None if current.rate_limit == read_as.rate_limit else current.rate_limit)
    assert after.unresolved_logins == 0
    assert after.new_versions == (() if current.failure == read_as.failure else current.new_versions)
    assert read_as.succeeded(read_as).failures == ()


@given(HEALTH)
def test_a_successful_trial_of_the_current_credentials_ends_every_cooldown(found: ConnectionHealth) -> None:
    ended = found.cooldowns_ended()
    assert (ended.failures, ended.unresolved_logins, ended.new_versions) == ((), 0, ())
    assert (ended.trials, ended.login_version, ended.revision) == (
        found.trials,
        found.login_version,
        found.revision,
    )


# ------------------------------------------------------------------ logins
@given(st.lists(st.sampled_from(["begun", "settled"]), max_size=20))
def test_logins_are_counted_before_they_are_sent_and_settled_one_by_one(events: list[str]) -> None:
    found = ConnectionHealth()
    open_logins = 0
    for event in events:
        found = found.login_counted("v1") if event == "begun" else found.login_settled()
        open_logins = open_logins + 1 if event == "begun" else max(open_logins - 1, 0)
        assert found.unresolved_logins == open_logins


@given(HEALTH, VERSIONS)
def test_logins_with_another_version_of_the_secret_do_not_count(found: ConnectionHealth, version: str) -> None:
    begun = found.login_counted(version)
    assert begun.login_version == version
    assert begun.unresolved_logins == (found.unresolved_logins + 1 if found.login_version == version else 1)


# ------------------------------------------------------------------ new versions of a secret
def test_the_versions_of_the_last_hour_are_remembered_newest_last() -> None:
    found = ConnectionHealth()
    for number in range(5):
        found = found.version_noted(f"v{number}", NOW + minutes(20 * number))
    assert [version for version, _ in found.new_versions] == ["v2", "v3", "v4"]
    last = found.new_versions[-1][1]
    assert found.recent_versions(last + NEW_VERSIONS_PERIOD - seconds(1)) == (("v4", last),)
    assert found.recent_versions(last + NEW_VERSIONS_PERIOD) == ()


# ------------------------------------------------------------------ trials and the life of an item
@pytest.mark.parametrize(
    ("tried", "version", "wait"),
    [
        ([], "v1", None),
        ([("v1", 0)], "v1", 5),
        ([("v1", 0)], "v2", None),
        ([("v1", 4), ("v2", 0)], "v1", 1),
        ([("v1", 5)], "v1", None),
        ([("v1", 8), ("v2", 6), ("v3", 4), ("v4", 2)], "v5", None),
        ([("v1", 8), ("v2", 6), ("v3", 4), ("v4", 2), ("v5", 1)], "v6", 7),
        ([("v1", 15), ("v2", 6), ("v3", 4), ("v4", 2), ("v5", 1)], "v6", None),
    ],
)
def test_when_the_next_trial_is_allowed(tried: list[tuple[str, int]], version: str, wait: int | None) -> None:
    """`tried`: versions and how many minutes ago."""
    found = ConnectionHealth()
    for name, ago in tried:
        found = found.trial_begun(name, NOW - minutes(ago), is_new=False)
    assert found.next_trial_at(version, NOW) == (None if wait is None else NOW + minutes(wait))


def test_a_trial_of_a_pending_version_counts_among_the_new_ones() -> None:
    found = ConnectionHealth().trial_begun("v1", NOW, is_new=True).trial_begun("v1", NOW + minutes(6), is_new=True)
    assert found.new_versions == (("v1", NOW),)
    assert ConnectionHealth().trial_begun("v1", NOW, is_new=False).new_versions == ()


@given(HEALTH)
def test_an_item_is_kept_for_30_days_after_its_last_change(found: ConnectionHealth) -> None:
    """Longer than any cooldown: an account is not locked by forgetting a refusal or a login."""
    assert found.with_delete_at(NOW) == replace(found, delete_at=NOW + timedelta(days=30))
    assert max(*REFUSED_COOLDOWNS, MAX_RATE_LIMIT_COOLDOWN) < HEALTH_KEEP

"""Consecutive failures at every provider: growing cooldowns, one second chance, few logins, what ends a refusal."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.integration.faults.outcomes import INVALID, LOGINS, REFUSED, UNAVAILABLE
from tests.integration.faults.provider_faults import Disrupt, RespondWith
from tests.integration.faults.stage import DONE, Stage, moment
from tests.integration.handlers.problems import assert_problem
from tests.integration.handlers.world import PROVIDERS

OUTAGE = RespondWith(500)
REFUSAL = RespondWith(401, code="invalid_client")
HOUR_S = 3600


def cooldowns(stage: Stage, name: str, slug: str, times: int) -> list[int]:
    """The cooldown in seconds after each of `times` consecutive failures. The next request follows when it ends."""
    found = []
    for _ in range(times):
        before = stage.requests(slug).sent
        assert stage.token(name).status in (502, 503)
        assert stage.requests(slug).sent > before
        failure = stage.state(name).body["last_failure"]
        found.append(int((moment(failure["retry_at"]) - stage.clock()).total_seconds()))
        stage.clock.advance(found[-1])
    return found


@pytest.mark.parametrize("slug", PROVIDERS)
def test_the_cooldown_grows_during_an_outage(stage: Stage, slug: str) -> None:
    name = stage.connect(slug)
    OUTAGE(stage, slug)
    assert cooldowns(stage, name, slug, 7) == [2, 30, 60, 120, 240, 300, 300]
    stage.heal(slug)
    assert stage.token(name).status == 200


@pytest.mark.parametrize("slug", PROVIDERS)
def test_an_outage_of_an_hour_causes_few_requests_however_many_call(stage: Stage, slug: str) -> None:
    name = stage.connect(slug)
    OUTAGE(stage, slug)
    start = stage.clock()
    for second in range(0, HOUR_S, 15):
        stage.clock.advance(to=start + timedelta(seconds=second))
        assert_problem(stage.token_again(name), 503, UNAVAILABLE)
    # After 2, 30, 60, 120, 240 s, then every 300 s, each at the next call.
    assert stage.requests(slug).token <= 6 + HOUR_S // 300


@pytest.mark.parametrize("slug", PROVIDERS)
def test_a_refusal_is_repeated_after_60_s_except_a_login_then_15_min_1_4_and_24_hours(stage: Stage, slug: str) -> None:
    name = stage.connect(slug)
    REFUSAL(stage, slug)
    if slug not in LOGINS:
        assert cooldowns(stage, name, slug, 1) == [60]
    assert cooldowns(stage, name, slug, 5) == [900, HOUR_S, 4 * HOUR_S, 24 * HOUR_S, 24 * HOUR_S]
    stage.heal(slug)
    assert stage.token(name).status == 200


@pytest.mark.parametrize("slug", PROVIDERS)
def test_a_new_version_of_the_secret_ends_a_refusal(stage: Stage, slug: str) -> None:
    name = stage.connect(slug)
    REFUSAL(stage, slug)
    assert_problem(stage.token(name), 502, REFUSED)
    stage.heal(slug)
    assert_problem(stage.token(name), 502, REFUSED)
    stage.connect(slug)
    assert stage.token(name).status == 200


@pytest.mark.parametrize("slug", PROVIDERS)
def test_a_successful_trial_ends_a_refusal(stage: Stage, slug: str) -> None:
    name = stage.connect(slug)
    REFUSAL(stage, slug)
    assert_problem(stage.token(name), 502, REFUSED)
    stage.heal(slug)
    assert stage.api.call("POST", f"/v1/connections/{name}/trial").status == 200
    assert stage.token(name).status == 200


@pytest.mark.parametrize("slug", PROVIDERS)
@pytest.mark.parametrize(
    "fault", [RespondWith(200, {"status": "FAILED"}), RespondWith(401, "<html>", html=True)], ids=["FAILED", "401"]
)
def test_credentials_that_worked_get_one_second_chance(stage: Stage, fault: RespondWith, slug: str) -> None:
    name = stage.connect(slug)
    stage.advance_near_expiry(stage.token(name), remaining=timedelta(0))
    fault(stage, slug)
    assert_problem(stage.token(name), 503, UNAVAILABLE)
    stage.clock.advance(60)
    assert_problem(stage.token(name), 502, REFUSED)
    stage.clock.advance(60)
    requests = stage.requests(slug)
    assert_problem(stage.token(name), 502, REFUSED)
    assert stage.requests(slug) == requests


@pytest.mark.parametrize("slug", PROVIDERS)
def test_an_error_code_that_nobody_knows_counts_as_a_refusal_the_second_time(stage: Stage, slug: str) -> None:
    name = stage.connect(slug)
    RespondWith(200, {"error": "invalid_client_secret"})(stage, slug)
    assert_problem(stage.token(name), 502, INVALID)
    stage.clock.advance(60)
    assert_problem(stage.token(name), 502, REFUSED)
    requests = stage.requests(slug)
    stage.clock.advance(899)
    assert_problem(stage.token(name), 502, REFUSED)
    assert stage.requests(slug) == requests
    stage.heal(slug)
    stage.connect(slug)
    assert stage.token(name).status == 200


@pytest.mark.parametrize("slug", PROVIDERS)
def test_an_error_code_that_nobody_knows_is_no_refusal_if_a_token_came_in_between(stage: Stage, slug: str) -> None:
    name = stage.connect(slug)
    for _ in range(2):
        RespondWith(200, {"error": "maintenance"})(stage, slug)
        assert_problem(stage.token(name), 502, INVALID)
        stage.heal(slug)
        stage.clock.advance(60)
        token = stage.token(name)
        assert token.status == 200
        stage.advance_near_expiry(token, remaining=timedelta(0))


@pytest.mark.parametrize("when", ["before", "after"])
def test_two_logins_with_an_unknown_outcome_count_as_a_refusal(stage: Stage, when: str) -> None:
    name = stage.connect("unicommerce")
    Disrupt("reset", {"when": when})(stage, "unicommerce")
    assert_problem(stage.token(name), 503, UNAVAILABLE)
    stage.clock.advance(2)
    assert_problem(stage.token(name), 502, REFUSED)
    stage.clock.advance(899)
    assert_problem(stage.token(name), 502, REFUSED)
    assert stage.requests("unicommerce").token == 2


def test_the_broker_does_not_lock_an_account_that_locks_after_three_wrong_passwords(stage: Stage) -> None:
    """Somebody changes the password at the vendor and changes it back. Callers ask three times a minute for an hour."""
    slug = "unicommerce"
    stage.simulator(slug).configure(lock_after=3)
    name = stage.connect(slug)
    stage.advance_near_expiry(stage.token(name), remaining=timedelta(0))
    secret = dict(stage.simulator(slug).accounts["demo"].secret)
    stage.simulator(slug).rotate_secret({"password": "changed at the vendor"})
    for minute in range(60):
        for _ in range(3):
            stage.token_again(name)
        if minute == 5:
            stage.simulator(slug).rotate_secret(secret)
        stage.clock.advance(60)
    assert stage.simulator(slug).report()["locked_accounts"] == []
    assert stage.token(name).status == 200


@pytest.mark.parametrize("slug", PROVIDERS)
def test_the_worker_does_not_ask_a_failing_provider_during_a_cooldown(stage: Stage, slug: str) -> None:
    name = stage.connect(slug)
    stage.advance_near_expiry(stage.token(name))
    OUTAGE(stage, slug)
    before, start = stage.requests(slug).token, stage.clock()
    for second in (0, 1, 2, 3, 20, 31, 32, 33, 60, 91, 92, 93):
        stage.clock.advance(to=start + timedelta(seconds=second))
        assert stage.renew(name) == DONE
    assert stage.requests(slug).token - before <= 4

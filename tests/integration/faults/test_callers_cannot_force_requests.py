"""min_ttl and rejected cannot force many requests, and an endpoint's budget holds. The provider counts, over HTTP."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.integration.faults.provider_faults import RespondWith
from tests.integration.faults.stage import DONE, MEMORY, MOTO, Stage
from tests.integration.handlers.functions import BrokerResponse
from tests.integration.handlers.problems import assert_problem
from tests.integration.handlers.world import PROVIDERS
from token_broker.core.records import REPORT_BURST

CALLERS = 50
OAUTH = tuple(slug for slug in PROVIDERS if slug != "unicommerce")


def usable(response: BrokerResponse) -> bool:
    return response.status == 200 and response.body["expires_in"] > 0


@pytest.mark.parametrize("slug", PROVIDERS)
def test_fifty_callers_who_report_every_token_get_few_new_ones(stage: Stage, slug: str) -> None:
    """For 8 min, each caller reports the token that it got last. An honest caller always gets a token meanwhile."""
    stage.simulator(slug).configure(rate_limit=None, lifetime_s=3600)
    name = stage.connect(slug)
    held = stage.token(name).body["token_id"]
    start, before = stage.clock(), stage.requests(slug).token
    forced_at = []
    for second in range(0, 481, 15):
        stage.clock.advance(to=start + timedelta(seconds=second))
        # The first caller reaches a new instance, the others the same one.
        for caller in range(CALLERS if second == 0 else 3):
            get = stage.token if caller == 0 else stage.token_again
            count = stage.requests(slug).token
            response = get(name, rejected=held)
            if stage.requests(slug).token > count:
                forced_at.append(second)
            if response.status == 200:
                held = response.body["token_id"]
            else:
                assert_problem(response, 429, "too_many_rejections")
                assert 1 <= int(response.headers["retry-after"]) <= 60
            assert usable(stage.token_again(name)), "an honest caller got no token"
    # Five at once, then one a minute, however many callers report.
    assert forced_at == [0] * REPORT_BURST + list(range(60, 481, 60))
    assert stage.requests(slug).token - before == len(forced_at)


@pytest.mark.parametrize("slug", PROVIDERS)
def test_a_report_of_a_token_that_was_replaced_causes_no_request(stage: Stage, slug: str) -> None:
    stage.simulator(slug).configure(reuse=False)
    name = stage.connect(slug)
    first = stage.token(name)
    second = stage.token(name, rejected=first.body["token_id"])
    requests = stage.requests(slug)
    for _ in range(10):
        late = stage.token(name, rejected=first.body["token_id"])
        assert (late.status, late.body["token_id"]) == (200, second.body["token_id"])
    assert stage.requests(slug) == requests


@pytest.mark.parametrize("slug", PROVIDERS)
def test_fifty_callers_with_a_min_ttl_that_is_too_long_cause_one_request_in_thirty_seconds(
    stage: Stage, slug: str
) -> None:
    """min_ttl is the lifetime of a new token, so a token one second old is too short."""
    stage.simulator(slug).configure(set_fields={"expires_in": 3600}, lifetime_s=3600, reuse=False, rate_limit=None)
    stage.simulator(slug).configure(**({"jwt_lifetime_s": 7200} if slug == "ucommerce" else {}))
    name = stage.connect(slug)
    stage.token(name)
    start, before = stage.clock(), stage.requests(slug).token
    for second in range(1, 122, 5):
        stage.clock.advance(to=start + timedelta(seconds=second))
        for caller in range(CALLERS if second == 1 else 3):
            get = stage.token if caller == 0 else stage.token_again
            assert usable(get(name, min_ttl="3600"))
    assert stage.requests(slug).token - before <= 4


@pytest.mark.parametrize("slug", OAUTH)
def test_a_min_ttl_over_the_lifetime_causes_no_request(stage: Stage, slug: str) -> None:
    stage.simulator(slug).configure(set_fields={"expires_in": 600})
    name = stage.connect(slug)
    stage.token(name)
    for _ in range(10):
        stage.clock.advance(31)
        response = stage.token(name, min_ttl="3600")
        assert (response.status, response.body["warnings"]) == (200, ["min_ttl_unmet"])
    assert stage.requests(slug).token == 1


@pytest.mark.parametrize("stage", [MEMORY, MOTO], indirect=True)
def test_a_budget_is_half_the_published_limit_of_a_minute_and_counted_per_endpoint(stage: Stage) -> None:
    """Commerce Layer allows 30 a minute and address. The broker uses 15 of them, for all connections together."""
    slug = "commerce-layer"
    names = [stage.connect(slug, name=f"shop-{index}") for index in range(18)]
    responses = [stage.token(name) for name in names]
    assert [response.status for response in responses] == [200] * 15 + [503] * 3
    for response in responses[15:]:
        assert_problem(response, 503, "provider_rate_limited")
        assert response.headers["retry-after"] == "60"
    report = stage.simulator(slug).report()
    assert (report["token_requests"], report["rate_limited"]) == (15, 0)
    # A used-up budget is not a failure.
    state = stage.state(names[-1])
    assert (state.body["state"], state.body["last_failure"]) == ("idle", None)
    stage.clock.advance(60)
    assert [stage.token(name).status for name in names[15:]] == [200] * 3
    assert stage.simulator(slug).report()["rate_limited"] == 0


def test_renewals_leave_callers_a_third_of_the_budget(stage: Stage) -> None:
    slug = "commerce-layer"
    names = [stage.connect(slug, name=f"shop-{index}") for index in range(12)]
    responses = [stage.token(name) for name in names]
    stage.advance_near_expiry(responses[0])
    stage.clock.advance(to=stage.clock().replace(second=0) + timedelta(minutes=1))
    before = stage.requests(slug).token
    for name in names:
        assert stage.renew(name) == DONE
    assert stage.requests(slug).token - before == 10
    # The keys that were put off come due in the next minute. Callers keep their tokens meanwhile.
    assert [stage.token(name).status for name in names] == [200] * 12
    assert stage.requests(slug).token - before == 10
    for _ in range(5):
        newcomer = stage.connect(slug, name=f"new-{stage.requests(slug).token}")
        assert stage.token(newcomer).status == 200
    assert_problem(stage.token(stage.connect(slug, name="late")), 503, "provider_rate_limited")


def test_trials_and_revocations_count_against_the_budget(stage: Stage) -> None:
    slug = "commerce-layer"
    names = [stage.connect(slug, name=f"shop-{index}") for index in range(13)]
    assert [stage.token(name).status for name in names] == [200] * 13
    assert stage.api.call("POST", f"/v1/connections/{names[0]}/trial").status == 200
    assert stage.api.call("DELETE", f"/v1/tokens/{names[1]}").status == 200
    assert_problem(stage.token(stage.connect(slug, name="late")), 503, "provider_rate_limited")


def test_a_rate_limit_per_address_applies_to_all_connections_there(stage: Stage) -> None:
    slug = "commerce-layer"
    first, second = (stage.connect(slug, name=name) for name in ("one", "two"))
    RespondWith(429)(stage, slug)
    assert_problem(stage.token(first), 503, "provider_rate_limited")
    assert_problem(stage.token(second), 503, "provider_rate_limited")
    assert stage.requests(slug).token == 1
    stage.heal(slug)
    stage.clock.advance(60)
    assert [stage.token(name).status for name in (first, second)] == [200, 200]


@pytest.mark.parametrize("slug", [slug for slug in PROVIDERS if slug != "commerce-layer"])
def test_a_rate_limit_of_a_connection_applies_to_no_other(stage: Stage, slug: str) -> None:
    first, second = (stage.connect(slug, name=name) for name in ("one", "two"))
    RespondWith(429)(stage, slug)
    assert_problem(stage.token(first), 503, "provider_rate_limited")
    stage.heal(slug)
    assert stage.token(second).status == 200
    assert_problem(stage.token(first), 503, "provider_rate_limited")
    assert stage.requests(slug).token == 2

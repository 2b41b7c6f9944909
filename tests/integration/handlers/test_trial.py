"""POST /v1/connections/{provider}/{connection}/trial: credentials are tried, no token is kept."""

from __future__ import annotations

import json

import pytest

from local.providers import DEFAULT_ACCOUNTS

from .functions import BrokerResponse
from .problems import assert_problem
from .world import PROVIDERS, World

WRONG = {"client_id": "fake", "client_secret": "wrong"}


def trial(world: World, name: str, **query: str) -> BrokerResponse:
    return world.api.call("POST", f"/v1/connections/{name}/trial", query)


def let_another_be(world: World, name: str) -> None:
    """As five minutes later."""
    world.aws.dynamodb.update_item(
        TableName=world.stack.token_table,
        Key={"pk": {"S": f"C#{name}"}, "sk": {"S": "HEALTH"}},
        UpdateExpression="REMOVE trial_at",
    )


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_trial_tells_what_the_credentials_bring_and_keeps_nothing(world: World, provider: str) -> None:
    name = world.connect(provider)
    answer = trial(world, name)
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert {"expires_in", "scope", "token_id"} <= set(answer.body)
    assert answer.body["expires_in"] > 200
    assert len(answer.body["token_id"]) == 16
    assert "access_token" not in answer.text
    assert not any("token" in item for item in world.aws.token_items(name))
    can_revoke = provider in ("unidy", "commerce-layer", "oauth2")
    assert len(world.report(provider)["live_tokens"]) == (0 if can_revoke else 1)


def test_a_trial_takes_the_pending_version_first(world: World) -> None:
    name = world.connect("unidy")
    assert world.api.token(name).status == 200
    world.aws.secrets.put_secret_value(
        SecretId=world.aws.secret_id(name),
        SecretString=json.dumps(WRONG),
        VersionStages=["AWSPENDING"],
    )
    assert_problem(trial(world, name), 502, "provider_refused")
    # The current credentials are as good as before.
    world.functions.restart()
    first = world.api.token(name)
    assert first.status == 200
    assert first.body["warnings"] == []
    again = world.api.token(name, rejected=first.body["token_id"])
    assert again.status == 200


def test_a_success_with_the_current_version_ends_the_rests(world: World) -> None:
    name = world.connect("unidy", secret=WRONG)
    assert_problem(world.api.token(name), 502, "provider_refused")
    # The partner was created at the vendor meanwhile: same secret, other answer.
    world.simulator("unidy").add_account({"name": "late", "secret": WRONG})
    assert trial(world, name).status == 200
    assert world.api.token(name).status == 200


def test_a_success_with_the_pending_version_ends_no_rest(world: World) -> None:
    name = world.connect("unidy", secret=WRONG)
    assert_problem(world.api.token(name), 502, "provider_refused")
    good = DEFAULT_ACCOUNTS["unidy"]["secret"]
    world.aws.secrets.put_secret_value(
        SecretId=world.aws.secret_id(name),
        SecretString=json.dumps(good),
        VersionStages=["AWSPENDING"],
    )
    assert trial(world, name).status == 200
    assert_problem(world.api.token(name), 502, "provider_refused")


def test_a_refused_trial_tells_the_providers_code(world: World) -> None:
    answer = trial(world, world.connect("unidy", secret=WRONG))
    assert_problem(answer, 502, "provider_refused")
    assert answer.body["provider_error"] == "invalid_client"


def test_a_trial_that_finds_the_provider_down_does_not_end_a_refusals_rest(world: World) -> None:
    """Repeating refused credentials after 2 s because a trial met an outage would hammer the account."""
    name = world.connect("unidy", secret=WRONG)
    assert_problem(world.api.token(name), 502, "provider_refused")
    world.simulator("unidy").fail("status", status=503)
    assert_problem(trial(world, name), 503, "provider_unavailable")
    assert_problem(world.api.token(name), 502, "provider_refused")


def test_a_trial_whose_scope_is_refused_does_not_condemn_the_other_scopes(world: World) -> None:
    name = world.connect("oauth2", scope="api.none", allowed_scopes=["api.none", "api.read"])
    refused = trial(world, name)
    assert_problem(refused, 502, "provider_refused")
    assert refused.body["provider_error"] == "invalid_scope"
    assert world.api.token(name, scope="api.read").status == 200


def test_a_trial_is_counted_against_a_lock_of_the_account_as_a_login(world: World) -> None:
    """A login whose outcome nobody knows counts, whoever made it; two in a rest count as a refusal."""
    name = world.connect("unicommerce")
    world.simulator("unicommerce").fail("reset", times=None)
    assert_problem(trial(world, name), 503, "provider_unavailable")
    (health,) = [item for item in world.aws.items(world.stack.token_table) if item["sk"]["S"] == "HEALTH"]
    assert health.get("unresolved") == {"N": "1"}


def test_a_live_token_is_not_revoked_by_a_trial_that_gets_it_again(world: World) -> None:
    name = world.connect("commerce-layer")
    given = world.api.token(name)
    answer = trial(world, name)
    assert answer.body["token_id"] == given.body["token_id"]
    assert world.resource(given).status_code == 200


def test_force_admits_what_would_revoke(world: World) -> None:
    world.simulator("oauth2").configure(revoke_previous=True)
    name = world.connect("oauth2", issue_revokes_previous=True)
    given = world.api.token(name)
    assert_problem(trial(world, name), 409, "would_revoke")
    assert world.resource(given).status_code == 200
    assert trial(world, name, force="true").status == 200


def test_a_suspended_or_unknown_connection_is_not_tried(world: World) -> None:
    assert_problem(trial(world, world.connect("unidy", suspended=True)), 409, "connection_suspended")
    assert_problem(trial(world, "unidy/elsewhere"), 404, "unknown_connection")
    assert_problem(trial(world, "acme/demo"), 404, "unknown_provider")
    assert world.report("unidy")["token_requests"] == 0


def test_a_trial_may_be_repeated_after_five_minutes(world: World) -> None:
    name = world.connect("unidy")
    assert trial(world, name).status == 200
    assert_problem(trial(world, name), 429, "too_many_trials")
    let_another_be(world, name)
    assert trial(world, name).status == 200


def test_a_trial_leaves_no_key_behind_that_counts_or_comes_due(world: World) -> None:
    name = world.connect("unidy")
    assert trial(world, name).status == 200
    assert all("due_at" not in item for item in world.aws.token_items(name))
    assert world.sweep()["due"] == 0

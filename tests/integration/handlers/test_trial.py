"""POST /v1/connections/{provider}/{connection}/trial: tries credentials and keeps no token."""

from __future__ import annotations

import json

import pytest

from .functions import BrokerResponse
from .problems import assert_problem
from .world import PROVIDERS, World

WRONG = {"client_id": "fake", "client_secret": "wrong"}


def trial(world: World, name: str, **query: str) -> BrokerResponse:
    return world.api.call("POST", f"/v1/connections/{name}/trial", query)


def allow_next_trial(world: World, name: str) -> None:
    """Forgets the last trial, as after five minutes."""
    world.aws.dynamodb.update_item(
        TableName=world.stack.token_table,
        Key={"pk": {"S": f"C#{name}"}, "sk": {"S": "HEALTH"}},
        UpdateExpression="REMOVE trials",
    )


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_trial_reports_the_token_and_keeps_nothing(world: World, provider: str) -> None:
    name = world.connect(provider)
    response = trial(world, name)
    assert response.status == 200
    assert response.headers["cache-control"] == "no-store"
    assert {"expires_in", "scope", "token_id"} <= set(response.body)
    assert response.body["expires_in"] > 200
    assert len(response.body["token_id"]) == 16
    assert "access_token" not in response.text
    assert not any("token" in item for item in world.aws.token_items(name))
    can_revoke = provider in ("unidy", "commerce-layer", "oauth2")
    assert len(world.report(provider)["live_tokens"]) == (0 if can_revoke else 1)


def test_a_trial_uses_the_pending_version_first(world: World) -> None:
    name = world.connect("unidy")
    assert world.api.token(name).status == 200
    world.aws.secrets.put_secret_value(
        SecretId=world.aws.secret_id(name),
        SecretString=json.dumps(WRONG),
        VersionStages=["AWSPENDING"],
    )
    assert_problem(trial(world, name), 502, "provider_refused")
    # The current credentials still work.
    world.functions.restart()
    first = world.api.token(name)
    assert first.status == 200
    assert first.body["warnings"] == []
    again = world.api.token(name, rejected=first.body["token_id"])
    assert again.status == 200


def test_a_refused_trial_shows_the_providers_code(world: World) -> None:
    response = trial(world, world.connect("unidy", secret=WRONG))
    assert_problem(response, 502, "provider_refused")
    assert response.body["provider_error"] == "invalid_client"


def test_a_trial_tells_of_a_credential_that_was_copied_with_a_space(world: World) -> None:
    spaced = {"client_id": "fake-spaced", "client_secret": "fake-copied "}
    name = world.connect("unidy", secret=spaced)
    refused = trial(world, name)
    assert_problem(refused, 502, "provider_refused")
    world.simulator("unidy").add_account({"name": "spaced", "secret": spaced})
    allow_next_trial(world, name)
    accepted = trial(world, name)
    assert accepted.status == 200
    assert accepted.body["warnings"] == ["client_secret begins or ends with a space."]
    assert accepted.body["warnings"][0] in refused.body["detail"]
    assert "copied" not in refused.text + accepted.text


def test_force_allows_a_trial_that_revokes_the_live_token(world: World) -> None:
    world.simulator("oauth2").configure(revoke_previous=True)
    name = world.connect("oauth2", issue_revokes_previous=True)
    given = world.api.token(name)
    assert_problem(trial(world, name), 409, "would_revoke")
    assert world.resource(given).status_code == 200
    assert trial(world, name, force="true").status == 200


def test_a_trial_may_be_repeated_after_five_minutes(world: World) -> None:
    name = world.connect("unidy")
    assert trial(world, name).status == 200
    assert_problem(trial(world, name), 429, "too_many_trials")
    allow_next_trial(world, name)
    assert trial(world, name).status == 200


def test_a_trial_leaves_no_key_that_counts_or_is_due(world: World) -> None:
    name = world.connect("unidy")
    assert trial(world, name).status == 200
    assert all("due_at" not in item for item in world.aws.token_items(name))
    assert world.sweep()["due"] == 0

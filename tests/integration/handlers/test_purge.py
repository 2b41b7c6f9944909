"""DELETE /v1/tokens/{provider}/{connection}: the tokens are gone for callers first, then at the provider."""

from __future__ import annotations

from datetime import timedelta

import pytest

from .functions import BrokerResponse
from .problems import assert_problem
from .world import World


def purge(world: World, name: str, **query: str) -> BrokerResponse:
    answer = world.api.call("DELETE", f"/v1/tokens/{name}", query)
    assert answer.headers["cache-control"] == "no-store"
    return answer


@pytest.mark.parametrize("provider", ["unidy", "commerce-layer", "oauth2"])
def test_a_purged_token_is_revoked_where_the_provider_can(world: World, provider: str) -> None:
    given = world.api.token(world.connect(provider))
    answer = purge(world, f"{provider}/demo")
    assert answer.status == 200
    assert answer.body == {"dropped": 1, "revoked": [given.body["token_id"]], "not_revoked": []}
    assert world.resource(given).status_code == 401
    assert world.report(provider)["live_tokens"] == []


@pytest.mark.parametrize("provider", ["unified-services", "unicommerce", "ucommerce"])
def test_what_a_provider_cannot_revoke_is_told_with_its_end(world: World, provider: str) -> None:
    given = world.api.token(world.connect(provider))
    answer = purge(world, f"{provider}/demo")
    left = {"token_id": given.body["token_id"], "reason": "not_supported", "expires_at": given.body["expires_at"]}
    assert answer.body == {"dropped": 1, "revoked": [], "not_revoked": [left]}


def test_the_next_request_issues_anew(world: World) -> None:
    name = world.connect("unidy")
    first = world.api.token(name)
    purge(world, name)
    second = world.api.token(name)
    assert second.body["source"] == "provider"
    assert second.body["token_id"] != first.body["token_id"]


def test_another_instance_issues_anew_as_well(world: World) -> None:
    name = world.connect("unidy")
    first = world.api.token(name)
    purge(world, name)
    world.functions.restart()
    assert world.api.token(name).body["token_id"] != first.body["token_id"]


def test_the_superseded_token_that_still_lives_is_revoked_too(world: World) -> None:
    name = world.connect("unidy")
    old = world.api.token(name)
    new = world.api.token(name, rejected=old.body["token_id"])
    answer = purge(world, name)
    assert answer.body["dropped"] == 1
    assert set(answer.body["revoked"]) == {old.body["token_id"], new.body["token_id"]}
    assert world.report("unidy")["live_tokens"] == []


def test_a_scope_purges_its_own_token_alone(world: World) -> None:
    name = world.connect("unidy")
    read, write = world.api.token(name), world.api.token(name, scope="users:write")
    answer = purge(world, name, scope="users:write")
    assert answer.body["revoked"] == [write.body["token_id"]]
    assert world.resource(read).status_code == 200


def test_without_a_scope_all_are_purged(world: World) -> None:
    name = world.connect("unidy")
    given = [world.api.token(name), world.api.token(name, scope="users:write")]
    answer = purge(world, name)
    assert answer.body["dropped"] == 2
    assert sorted(answer.body["revoked"]) == sorted(item.body["token_id"] for item in given)


def test_a_purge_works_with_the_secret_gone(world: World) -> None:
    name = world.connect("unidy")
    given = world.api.token(name)
    world.aws.secrets.delete_secret(SecretId=world.aws.secret_id(name), ForceDeleteWithoutRecovery=True)
    answer = purge(world, name)
    assert answer.status == 200
    (left,) = answer.body["not_revoked"]
    assert (left["token_id"], left["reason"]) == (given.body["token_id"], "credentials_missing")
    world.functions.restart()
    assert_problem(world.api.token(name), 409, "connection_misconfigured")


def test_the_worker_goes_on_with_what_the_provider_did_not_take(world: World) -> None:
    name = world.connect("unidy")
    given = world.api.token(name)
    world.simulator("unidy").fail("status", on="revoke", status=503)
    answer = purge(world, name)
    assert [left["reason"] for left in answer.body["not_revoked"]] == ["provider_unavailable"]
    assert world.resource(given).status_code == 200
    world.aws.change_token_item(name, due_at=-timedelta(seconds=1))
    assert world.sweep()["queued"] == 1
    (message,) = world.aws.messages()
    assert world.work(message) == {"batchItemFailures": []}
    assert world.resource(given).status_code == 401


def test_the_worker_comes_back_to_what_the_provider_still_does_not_take(world: World) -> None:
    name = world.connect("unidy")
    given = world.api.token(name)
    world.simulator("unidy").fail("status", on="revoke", status=503, times=2)
    purge(world, name)
    for _ in range(2):
        world.aws.change_token_item(name, due_at=-timedelta(seconds=1))
        world.sweep()
        for message in world.aws.messages():
            world.work(message)
    assert world.resource(given).status_code == 401


def test_a_purge_of_nothing_is_a_success(world: World) -> None:
    answer = purge(world, world.connect("unidy"))
    assert answer.body == {"dropped": 0, "revoked": [], "not_revoked": []}
    assert_problem(purge(world, "unidy/elsewhere"), 404, "unknown_connection")


def test_a_suspended_connection_can_be_purged(world: World) -> None:
    name = world.connect("unidy")
    given = world.api.token(name)
    assert world.api.put(name, world.settings("unidy", suspended=True)).status == 200
    assert purge(world, name).body["revoked"] == [given.body["token_id"]]


def test_nobody_but_a_caller_issues_after_a_purge(world: World) -> None:
    """The sweep that revokes what was left over is no caller: what was purged stays away until somebody asks."""
    name = world.connect("unidy")
    world.api.token(name)
    purge(world, name)
    world.aws.change_token_item(name, due_at=-timedelta(seconds=1))
    world.sweep()
    for message in world.aws.messages():
        world.work(message)
    assert world.report("unidy")["token_requests"] == 1

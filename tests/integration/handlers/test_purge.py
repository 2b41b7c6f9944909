"""DELETE /v1/tokens/{provider}/{connection}: callers no longer get the tokens, then the provider revokes them."""

from __future__ import annotations

import pytest

from .functions import BrokerResponse
from .problems import assert_problem
from .world import World


def purge(world: World, name: str, **query: str) -> BrokerResponse:
    response = world.api.call("DELETE", f"/v1/tokens/{name}", query)
    assert response.headers["cache-control"] == "no-store"
    return response


@pytest.mark.parametrize("provider", ["unidy", "commerce-layer", "oauth2"])
def test_a_purged_token_is_revoked_if_the_provider_supports_it(world: World, provider: str) -> None:
    given = world.api.token(world.connect(provider))
    response = purge(world, f"{provider}/demo")
    assert response.status == 200
    assert response.body == {"dropped": 1, "revoked": [given.body["token_id"]], "not_revoked": []}
    assert world.resource(given).status_code == 401
    assert world.report(provider)["live_tokens"] == []


@pytest.mark.parametrize("provider", ["unified-services", "unicommerce", "ucommerce"])
def test_a_token_that_cannot_be_revoked_is_reported_with_its_expiry(world: World, provider: str) -> None:
    given = world.api.token(world.connect(provider))
    response = purge(world, f"{provider}/demo")
    left = {"token_id": given.body["token_id"], "reason": "not_supported", "expires_at": given.body["expires_at"]}
    assert response.body == {"dropped": 1, "revoked": [], "not_revoked": [left]}


def test_the_next_request_gets_a_new_token(world: World) -> None:
    name = world.connect("unidy")
    first = world.api.token(name)
    purge(world, name)
    second = world.api.token(name)
    assert second.body["source"] == "provider"
    assert second.body["token_id"] != first.body["token_id"]


def test_another_instance_gets_a_new_token_too(world: World) -> None:
    name = world.connect("unidy")
    first = world.api.token(name)
    purge(world, name)
    world.functions.restart()
    assert world.api.token(name).body["token_id"] != first.body["token_id"]


def test_a_retired_token_is_revoked_too(world: World) -> None:
    name = world.connect("unidy")
    old = world.api.token(name)
    new = world.api.token(name, rejected=old.body["token_id"])
    response = purge(world, name)
    assert response.body["dropped"] == 1
    assert set(response.body["revoked"]) == {old.body["token_id"], new.body["token_id"]}
    assert world.report("unidy")["live_tokens"] == []


def test_a_scope_purges_only_its_own_token(world: World) -> None:
    name = world.connect("unidy")
    read, write = world.api.token(name), world.api.token(name, scope="users:write")
    response = purge(world, name, scope="users:write")
    assert response.body["revoked"] == [write.body["token_id"]]
    assert world.resource(read).status_code == 200


def test_without_a_scope_all_tokens_are_purged(world: World) -> None:
    name = world.connect("unidy")
    given = [world.api.token(name), world.api.token(name, scope="users:write")]
    response = purge(world, name)
    assert response.body["dropped"] == 2
    assert sorted(response.body["revoked"]) == sorted(item.body["token_id"] for item in given)


def test_a_purge_works_without_the_secret(world: World) -> None:
    name = world.connect("unidy")
    given = world.api.token(name)
    world.aws.secrets.delete_secret(SecretId=world.aws.secret_id(name), ForceDeleteWithoutRecovery=True)
    response = purge(world, name)
    assert response.status == 200
    (left,) = response.body["not_revoked"]
    assert (left["token_id"], left["reason"]) == (given.body["token_id"], "credentials_missing")
    world.functions.restart()
    assert_problem(world.api.token(name), 409, "connection_misconfigured")


def test_the_worker_retries_a_failed_revocation(world: World) -> None:
    name = world.connect("unidy")
    given = world.api.token(name)
    world.simulator("unidy").fail("status", on="revoke", status=503)
    response = purge(world, name)
    assert [left["reason"] for left in response.body["not_revoked"]] == ["provider_unavailable"]
    assert world.resource(given).status_code == 200
    world.aws.make_retired_due(name)
    assert world.sweep()["queued"] == 1
    (message,) = world.aws.messages()
    assert world.work(message) == {"batchItemFailures": []}
    assert world.resource(given).status_code == 401


def test_the_worker_keeps_retrying_a_failed_revocation(world: World) -> None:
    name = world.connect("unidy")
    given = world.api.token(name)
    world.simulator("unidy").fail("status", on="revoke", status=503, times=2)
    purge(world, name)
    for _ in range(2):
        world.aws.make_retired_due(name)
        assert world.sweep()["queued"] == 1
        for message in world.aws.messages():
            world.work(message)
    assert world.resource(given).status_code == 401
    assert world.aws.retired_items(name) == []


def test_a_purge_without_tokens_succeeds(world: World) -> None:
    response = purge(world, world.connect("unidy"))
    assert response.body == {"dropped": 0, "revoked": [], "not_revoked": []}
    assert_problem(purge(world, "unidy/elsewhere"), 404, "unknown_connection")


def test_a_suspended_connection_can_be_purged(world: World) -> None:
    name = world.connect("unidy")
    given = world.api.token(name)
    assert world.api.put(name, world.settings("unidy", suspended=True)).status == 200
    assert purge(world, name).body["revoked"] == [given.body["token_id"]]


def test_only_a_caller_causes_a_new_token_after_a_purge(world: World) -> None:
    """The worker revokes what a purge left. It does not acquire a new token; that waits for a caller."""
    name = world.connect("unidy")
    world.api.token(name)
    world.simulator("unidy").fail("status", on="revoke", status=503)
    purge(world, name)
    items = [*world.aws.token_items(name), *world.aws.retired_items(name)]
    assert len(items) == 2
    for item in items:
        assert world.work(world.aws.renewal_message(item)) == {"batchItemFailures": []}
    assert world.report("unidy")["live_tokens"] == []
    assert world.report("unidy")["token_requests"] == 1

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


def test_a_scope_purges_only_its_own_token(world: World) -> None:
    name = world.connect("unidy")
    read, write = world.api.token(name), world.api.token(name, scope="users:write")
    response = purge(world, name, scope="users:write")
    assert response.body["revoked"] == [write.body["token_id"]]
    assert world.resource(read).status_code == 200


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


def test_a_purge_without_tokens_succeeds(world: World) -> None:
    response = purge(world, world.connect("unidy"))
    assert response.body == {"dropped": 0, "revoked": [], "not_revoked": []}
    assert_problem(purge(world, "unidy/elsewhere"), 404, "unknown_connection")

"""The sweep claims and queues keys that are due, and the worker renews them before callers have to wait."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from token_broker.core.names import ConnectionName, TokenKey

from .handlers.world import World

OVERDUE = {"due_at": -timedelta(minutes=1), "renew_at": -timedelta(minutes=1)}


def key_of(name: str, scope: str) -> TokenKey:
    return TokenKey(ConnectionName(*name.split("/")), scope)


@pytest.mark.parametrize("provider", ["unicommerce", "ucommerce", "unidy"])
def test_a_due_key_is_renewed_before_a_caller_asks(world: World, provider: str) -> None:
    name = world.connect(provider)
    old = world.api.token(name)
    world.aws.change_token_item(name, **OVERDUE)
    assert world.sweep() == {"due": 1, "queued": 1, "claimed_elsewhere": 0, "deferred": 0}
    (message,) = world.aws.messages()
    assert world.work(message) == {"batchItemFailures": []}
    new = world.api.token(name)
    assert (new.status, new.body["source"], new.body["warnings"]) == (200, "table", [])
    assert new.body["token_id"] != old.body["token_id"]
    assert world.resource(new).status_code == 200


def test_commerce_layer_gets_a_renewal_only_in_its_reissue_window(world: World) -> None:
    name = world.connect("commerce-layer", scope="market:id:abc")
    old = world.api.token(name)
    world.aws.change_token_item(name, due_at=-timedelta(minutes=1), renew_at=-timedelta(minutes=1))
    world.sweep()
    (message,) = world.aws.messages()
    world.work(message)
    # The token has two hours left. Commerce Layer would return the same one.
    assert world.report("commerce-layer")["token_requests"] == 1
    world.aws.change_token_item(name, expires_at=timedelta(minutes=10), **OVERDUE)
    world.simulator("commerce-layer").configure(reuse=False)
    world.sweep()
    (message,) = world.aws.messages()
    world.work(message)
    assert world.api.token(name).body["token_id"] != old.body["token_id"]


def test_a_message_holds_the_key_and_nothing_else(world: World) -> None:
    name = world.connect("unidy")
    world.api.token(name)
    world.aws.change_token_item(name, **OVERDUE)
    world.sweep()
    (message,) = world.aws.messages()
    assert json.loads(message["Body"]) == {
        "version": 1,
        "provider": "unidy",
        "connection": "demo",
        "scope_id": key_of(name, "users:read").scope_id,
    }


def test_a_claimed_key_is_not_queued_by_the_next_sweep(world: World) -> None:
    name = world.connect("unidy")
    world.api.token(name)
    world.aws.change_token_item(name, **OVERDUE)
    now = datetime.now(UTC)
    assert world.sweep(now)["queued"] == 1
    assert world.sweep(now)["queued"] == 0


def test_the_sweep_looks_two_intervals_ahead_and_delays_the_message(world: World) -> None:
    name = world.connect("unidy")
    world.api.token(name)
    world.aws.change_token_item(name, due_at=timedelta(seconds=100))
    assert world.sweep()["queued"] == 1
    assert world.aws.messages() == []
    counts = world.aws.sqs.get_queue_attributes(QueueUrl=world.stack.renewal_queue_url, AttributeNames=["All"])
    assert counts["Attributes"]["ApproximateNumberOfMessagesDelayed"] == "1"


def test_a_key_that_is_due_later_is_queued_by_a_later_sweep(world: World) -> None:
    name = world.connect("unidy")
    world.api.token(name)
    world.aws.change_token_item(name, due_at=timedelta(seconds=150))
    assert world.sweep()["due"] == 0
    assert world.sweep(datetime.now(UTC) + timedelta(seconds=60))["due"] == 1


def test_a_scheduled_time_that_is_not_valid_counts_as_now(world: World) -> None:
    name = world.connect("unidy")
    world.api.token(name)
    world.aws.change_token_item(name, **OVERDUE)
    for event in ({"time": "soon"}, {"time": "2026-11-22T12:00:00"}, {}):
        world.aws.change_token_item(name, **OVERDUE)
        assert world.functions.invoke(world.stack.sweep_function, event)["queued"] == 1


def test_a_sweep_without_time_defers_its_keys_and_claims_none(world: World) -> None:
    name = world.connect("unidy")
    world.api.token(name)
    world.aws.change_token_item(name, **OVERDUE)
    world.functions.context["remaining_ms"] = 1000
    assert world.sweep() == {"due": 1, "queued": 0, "claimed_elsewhere": 0, "deferred": 1}
    world.functions.context.clear()
    assert world.sweep()["queued"] == 1


def test_a_refused_key_is_looked_at_again_and_the_provider_is_not_asked(world: World) -> None:
    name = world.connect("unidy")
    world.api.token(name)
    world.aws.change_token_item(name, **OVERDUE)
    world.simulator("unidy").rotate_secret({"client_secret": "changed at the vendor"})
    world.sweep()
    (message,) = world.aws.messages()
    assert world.work(message) == {"batchItemFailures": []}
    assert world.sweep(datetime.now(UTC) + timedelta(minutes=12))["due"] == 0
    for _ in range(2):
        world.aws.change_token_item(name, due_at=-timedelta(seconds=1))
        assert world.sweep()["queued"] == 1
        (message,) = world.aws.messages()
        assert world.work(message) == {"batchItemFailures": []}
    assert world.report("unidy")["token_requests"] == 2
    # Callers still get the valid token, with a warning.
    response = world.api.token(name)
    assert (response.status, response.body["warnings"]) == (200, ["renewal_failing"])


def test_a_refused_key_is_renewed_after_its_secret_was_mended(world: World) -> None:
    """Without an event of the change: the worker compares the secret's version."""
    name = world.connect("unidy")
    world.api.token(name)
    world.aws.change_token_item(name, **OVERDUE)
    world.simulator("unidy").rotate_secret({"client_secret": "fake-new-secret"})
    world.sweep()
    (message,) = world.aws.messages()
    world.work(message)
    credentials = {"client_id": world.simulator("unidy").accounts["demo"].secret["client_id"]}
    world.aws.secrets.put_secret_value(
        SecretId=world.aws.secret_id(name),
        SecretString=json.dumps({**credentials, "client_secret": "fake-new-secret"}),
    )
    world.aws.change_token_item(name, due_at=-timedelta(seconds=1))
    world.sweep()
    (message,) = world.aws.messages()
    assert world.work(message) == {"batchItemFailures": []}
    response = world.api.token(name)
    assert (response.status, response.body["source"], response.body["warnings"]) == (200, "table", [])
    assert world.report("unidy")["token_requests"] == 3

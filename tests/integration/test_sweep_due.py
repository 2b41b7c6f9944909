"""The sweep claims and queues keys that are due, and the worker renews them before callers have to wait."""

from __future__ import annotations

import json
from datetime import timedelta

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


def test_the_sweep_looks_two_intervals_ahead_and_delays_the_message(world: World) -> None:
    name = world.connect("unidy")
    world.api.token(name)
    world.aws.change_token_item(name, due_at=timedelta(seconds=100))
    assert world.sweep()["queued"] == 1
    assert world.aws.messages() == []
    counts = world.aws.sqs.get_queue_attributes(QueueUrl=world.stack.renewal_queue_url, AttributeNames=["All"])
    assert counts["Attributes"]["ApproximateNumberOfMessagesDelayed"] == "1"


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

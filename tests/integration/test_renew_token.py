"""The worker: a message succeeds even if the provider fails. Only our own failures return it to the queue."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from token_broker.adapters.sqs import write_message
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.ports import RenewalMessage

from .handlers.world import World

DONE: dict[str, Any] = {"batchItemFailures": []}
KEY = TokenKey(ConnectionName("unidy", "demo"), "users:read")


def message(body: str | None = None) -> dict[str, Any]:
    """A message as SQS delivers it."""
    text = write_message(RenewalMessage(KEY.name, KEY.scope_id)) if body is None else body
    return {"MessageId": "m-1", "ReceiptHandle": "r-1", "Body": text, "MD5OfBody": "0" * 32}


def used(world: World, **changes: timedelta) -> str:
    """A key in use whose renewal is due."""
    name = world.connect("unidy")
    token_id: str = world.api.token(name).body["token_id"]
    changes = {"due_at": -timedelta(minutes=1), "renew_at": -timedelta(minutes=1), **changes}
    world.aws.change_token_item(name, **changes)
    return token_id


def stored(world: World) -> dict[str, Any]:
    (item,) = world.aws.token_items("unidy/demo")
    return item


def test_a_due_key_is_renewed(world: World) -> None:
    old = used(world)
    assert world.work(message()) == DONE
    assert stored(world)["token_id"]["S"] != old


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 503}, {"kind": "malformed"}, {"kind": "reset"}])
def test_a_providers_failure_is_remembered_and_comes_due_again(world: World, fault: dict[str, Any]) -> None:
    old = used(world)
    world.simulator("unidy").fail(**fault)
    assert world.work(message()) == DONE
    item = stored(world)
    assert item["token_id"]["S"] == old
    assert datetime.fromtimestamp(int(item["due_at"]["N"]) / 1000, UTC) > datetime.now(UTC)
    assert world.aws.messages() == []


def test_a_failure_of_our_own_services_that_cannot_be_remembered_returns_the_message(world: World) -> None:
    used(world)
    world.functions.restart(TOKEN_TABLE="no-such-table")
    assert world.work(message()) == {"batchItemFailures": [{"itemIdentifier": "m-1"}]}


@pytest.mark.parametrize(
    "body",
    [
        "no json",
        "[]",
        json.dumps({"version": 2, "provider": "unidy", "connection": "demo", "scope_id": "0" * 64}),
        json.dumps({"version": 1, "provider": "Unidy", "connection": "demo", "scope_id": "0" * 64}),
        json.dumps({"version": 1, "provider": "unidy", "connection": "demo", "scope_id": "HEALTH"}),
        json.dumps({"version": 1}),
    ],
)
def test_an_unknown_message_goes_to_the_dead_letter_queue(world: World, body: str) -> None:
    assert world.work(message(body)) == {"batchItemFailures": [{"itemIdentifier": "m-1"}]}


def test_a_message_of_a_leased_key_is_queued_again(world: World) -> None:
    used(world)
    world.aws.take_lease("unidy/demo", timedelta(seconds=10))
    assert world.work(message()) == DONE
    assert world.report("unidy")["token_requests"] == 1
    attributes = world.aws.sqs.get_queue_attributes(QueueUrl=world.stack.renewal_queue_url, AttributeNames=["All"])
    assert attributes["Attributes"]["ApproximateNumberOfMessagesDelayed"] == "1"


def test_each_rotating_refresh_token_is_sent_once(world: World) -> None:
    name = world.connect("ucommerce")
    token_ids = {world.api.token(name).body["token_id"]}
    key = TokenKey(ConnectionName("ucommerce", "demo"), "")
    for _ in range(3):
        world.aws.change_token_item(name, due_at=-timedelta(minutes=1), renew_at=-timedelta(minutes=1))
        assert world.work(message(write_message(RenewalMessage(key.name, key.scope_id)))) == DONE
        (item,) = world.aws.token_items(name)
        token_ids.add(item["token_id"]["S"])
    assert len(token_ids) == 4
    report = world.report("ucommerce")
    assert (report["connect_requests"], report["replayed_refresh_tokens"]) == (1, 0)

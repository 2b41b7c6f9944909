"""Runs every path on which a secret could leak. Every test of this directory is checked for leaks too.

tests/security/leak_hunt.py says what is searched, and tests/security/test_leak_hunt.py checks that it finds leaks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from local.providers import DEFAULT_ACCOUNTS
from tests.security.leak_hunt import KNOWN, Hunt

from .handlers.world import PROVIDERS, World

OVERDUE = {"due_at": -timedelta(minutes=1), "renew_at": -timedelta(minutes=1)}


def renew(world: World, *, by_sweep: bool = False) -> None:
    """Makes the only key due and runs the worker on it. `by_sweep`: with the message that the sweep queued."""
    (item,) = [item for item in world.aws.items(world.stack.token_table) if item["sk"]["S"].startswith("T#")]
    world.aws.change_token_item(item["pk"]["S"].removeprefix("C#"), **OVERDUE)
    message: Mapping[str, Any] = world.aws.renewal_message(item)
    if by_sweep:
        world.sweep()
        (message,) = world.aws.messages()
    assert world.work(message) == {"batchItemFailures": []}


def end_cooldowns(world: World) -> None:
    """Drops all stored failures, as after the longest cooldown."""
    for item in world.aws.items(world.stack.token_table):
        key = {"pk": item["pk"], "sk": item["sk"]}
        if item["sk"]["S"] == "HEALTH":
            world.aws.dynamodb.delete_item(TableName=world.stack.token_table, Key=key)
        else:
            world.aws.dynamodb.update_item(
                TableName=world.stack.token_table, Key=key, UpdateExpression="REMOVE failure, reports_until"
            )


def fetch(world: World, name: str) -> None:
    for _ in range(2):
        assert world.api.token(name).status == 200
    world.functions.restart()
    assert world.api.token(name).status == 200
    renew(world, by_sweep=True)


def refusal(world: World, name: str) -> None:
    """A provider refuses, and repeats the credentials in its response."""
    provider = name.partition("/")[0]
    secret = json.dumps(DEFAULT_ACCOUNTS[provider]["secret"])
    echo = {"error": "invalid_client", "error_description": secret, "status": "FAILED", "message": secret}
    world.simulator(provider).fail("status", status=401, body=echo)
    assert world.api.token(name).status == 502
    world.simulator(provider).fail("status", status=400, body=echo)
    world.api.call("POST", f"/v1/connections/{name}/trial")
    renew(world)


def outage(world: World, name: str) -> None:
    """Responses that are lost, cut off, or malformed with a token in them, and redirects with a code."""
    simulator = world.simulator(name.partition("/")[0])
    first = world.api.token(name)
    token = first.body["access_token"]
    faults: list[dict[str, Any]] = [
        {"kind": "reset", "when": "after"},
        {"kind": "malformed", "body": first.text},
        {"kind": "truncate"},
        {"kind": "redirect", "location": f"https://elsewhere.example/?code={quote(token)}"},
    ]
    for fault in faults:
        simulator.fail(**fault)
        renew(world)
        end_cooldowns(world)
    simulator.fail("status", status=500, body=first.text, times=None)
    world.functions.restart()
    world.api.token(name, rejected=first.body["token_id"])
    world.api.call("GET", f"/v1/connections/{name}")


def purge(world: World, name: str) -> None:
    provider = name.partition("/")[0]
    assert world.api.token(name).status == 200
    if provider in ("unidy", "commerce-layer", "oauth2"):
        world.simulator(provider).fail("reset", on="revoke")
    assert world.api.call("DELETE", f"/v1/tokens/{name}").status == 200
    assert world.api.call("DELETE", f"/v1/connections/{name}").status == 200


def our_own_failure(world: World, name: str) -> None:
    assert world.api.token(name).status == 200
    world.functions.restart(SEALING_KEY_ARN="arn:aws:kms:eu-west-1:123456789012:key/none")
    world.api.token(name)
    renew(world)
    (item,) = world.aws.token_items(name)
    world.aws.dynamodb.update_item(
        TableName=world.stack.token_table,
        Key={"pk": item["pk"], "sk": item["sk"]},
        UpdateExpression="REMOVE token_endpoint",
    )
    world.functions.restart()
    assert world.api.token(name).code == "internal_error"


PLACES = ("log records", "log lines", "stdout", "responses", "requests to DynamoDB_20120810")
COURSES: list[tuple[str, Callable[[World, str], None]]] = [
    *((provider, course) for provider in PROVIDERS for course in (fetch, refusal, outage, purge)),
    ("unidy", our_own_failure),
]


@pytest.mark.parametrize(("provider", "course"), COURSES, ids=[f"{slug}-{course.__name__}" for slug, course in COURSES])
def test_nothing_leaks(world: World, hunt: Hunt, provider: str, course: Callable[[World, str], None]) -> None:
    course(world, world.connect(provider))
    # Checks that secrets were collected and texts were searched. What was found is checked after each test.
    assert len(hunt.secrets) > len(KNOWN) or course is refusal
    assert all(hunt.written.get(place) for place in PLACES)

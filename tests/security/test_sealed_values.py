"""A sealed value in the wrong place is not opened. It is counted, and a new token replaces it.

tests/integration/test_kms.py tests the sealer itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.handlers.functions import BrokerResponse
from tests.integration.handlers.world import World

Item = dict[str, Any]


def values(world: World, name: str, **changes: Any) -> Item:
    """Stores changed attributes in the item of the connection's only key."""
    (item,) = world.aws.token_items(name)
    if changes:
        world.aws.dynamodb.put_item(TableName=world.stack.token_table, Item={**item, **changes})
    return item


def moved(world: World, name: str) -> None:
    """A writer of the table gives a connection the token of another."""
    other = world.connect("ucommerce", name="other")
    assert world.api.token(other).status == 200
    values(world, name, token=values(world, other)["token"])


def swapped(world: World, name: str) -> None:
    item = values(world, name)
    values(world, name, token=item["refresh_token"], refresh_token=item["token"])


def tampered(world: World, name: str) -> None:
    sealed = bytearray(values(world, name)["token"]["B"])
    sealed[len(sealed) // 2] ^= 1
    values(world, name, token={"B": bytes(sealed)})


def under_another_key(world: World, _name: str) -> None:
    """Seals the token under another key, as if the sealing key had been replaced."""
    world.functions.restart(SEALING_KEY_ARN=world.aws.kms.create_key()["KeyMetadata"]["Arn"])


BROKEN = [moved, swapped, tampered, under_another_key]


@pytest.mark.parametrize("break_it", BROKEN)
def test_a_value_in_the_wrong_place_is_counted_and_replaced(
    world: World, break_it: Callable[[World, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    name = world.connect("ucommerce")
    first = world.api.token(name)
    break_it(world, name)
    issued = world.report("ucommerce")["issued"]
    world.functions.restart()
    capsys.readouterr()
    second = world.api.token(name)
    assert is_served(world, second, source="provider")
    assert second.body["access_token"] != first.body["access_token"]
    assert world.report("ucommerce")["issued"] == issued + 1
    assert '"BrokenSeals"' in capsys.readouterr().out
    world.functions.restart()
    assert world.api.token(name).body["access_token"] == second.body["access_token"]


def is_served(world: World, response: BrokerResponse, *, source: str) -> bool:
    """Checks that the provider accepts the token and that it is the right account's."""
    assert (response.status, response.body["source"]) == (200, source)
    return bool(world.resource(response).status_code == 200)

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


@pytest.mark.parametrize("code", ["AccessDeniedException", "DisabledException", "KMSInvalidStateException"])
def test_a_denial_of_kms_is_not_a_broken_seal(
    world: World, code: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a wrong policy would cause a new request for every token."""
    name = world.connect("unidy")
    assert world.api.token(name).status == 200
    client = world.functions._clients.client("kms")

    def denied(**_: Any) -> Any:
        raise client.exceptions.from_code(code)({"Error": {"Code": code, "Message": "names the caller"}}, "Decrypt")

    monkeypatch.setattr(client, "decrypt", denied)
    world.functions.restart()
    response = world.api.token(name)
    assert (response.status, response.code) == (503, "broker_unavailable")
    assert "names the caller" not in response.text
    assert '"BrokenSeals"' not in capsys.readouterr().out
    assert world.report("unidy")["token_requests"] == 1
    monkeypatch.undo()


def test_a_rotated_key_opens_older_values(world: World) -> None:
    """KMS keeps the old key material, so no new token is needed. See SECURITY.md."""
    name = world.connect("unidy")
    first = world.api.token(name)
    world.aws.kms.rotate_key_on_demand(KeyId=world.stack.sealing_key_arn)
    world.functions.restart()
    second = world.api.token(name)
    assert is_served(world, second, source="table")
    assert second.body["access_token"] == first.body["access_token"]


def test_the_sealing_key_rotates_automatically(world: World) -> None:
    status = world.aws.kms.get_key_rotation_status(KeyId=world.stack.sealing_key_arn)
    assert status["KeyRotationEnabled"] is True

"""A sealed value that does not belong where it stands is not opened: it is counted, and a new token takes its place.

The sealer by itself: tests/integration/test_sealing.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.handlers.functions import BrokerResponse
from tests.integration.handlers.world import World

Item = dict[str, Any]


def values(world: World, name: str, **changes: Any) -> Item:
    """The connection's only key as stored, after changes to single attributes."""
    (item,) = world.aws.token_items(name)
    if changes:
        world.aws.dynamodb.put_item(TableName=world.stack.token_table, Item={**item, **changes})
    return item


def moved(world: World, name: str) -> None:
    """Somebody who may write the table gives a connection the token of another."""
    other = world.connect("ucommerce", name="other")
    assert world.api.token(other).status == 200
    values(world, name, token=values(world, other)["token"])


def swapped(world: World, name: str) -> None:
    item = values(world, name)
    values(world, name, token=item["refresh"], refresh=item["token"])


def tampered(world: World, name: str) -> None:
    sealed = bytearray(values(world, name)["token"]["B"])
    sealed[len(sealed) // 2] ^= 1
    values(world, name, token={"B": bytes(sealed)})


def under_another_key(world: World, _name: str) -> None:
    """As when the sealing key is replaced by a new one."""
    world.functions.restart(SEALING_KEY_ARN=world.aws.kms.create_key()["KeyMetadata"]["Arn"])


BROKEN = [moved, swapped, tampered, under_another_key]


@pytest.mark.parametrize("break_it", BROKEN)
def test_a_value_that_does_not_belong_is_counted_and_replaced(
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


def is_served(world: World, answer: BrokerResponse, *, source: str) -> bool:
    """A token that the provider takes, and whose it is."""
    assert (answer.status, answer.body["source"]) == (200, source)
    return bool(world.resource(answer).status_code == 200)


@pytest.mark.parametrize("code", ["AccessDeniedException", "DisabledException", "KMSInvalidStateException"])
def test_kms_denied_is_no_broken_seal(
    world: World, code: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a wrong policy would have every token of the account asked for anew."""
    name = world.connect("unidy")
    assert world.api.token(name).status == 200
    client = world.functions._clients.client("kms")

    def denied(**_: Any) -> Any:
        raise client.exceptions.from_code(code)({"Error": {"Code": code, "Message": "names the caller"}}, "Decrypt")

    monkeypatch.setattr(client, "decrypt", denied)
    world.functions.restart()
    answer = world.api.token(name)
    assert (answer.status, answer.code) == (503, "broker_unavailable")
    assert "names the caller" not in answer.text
    assert '"BrokenSeals"' not in capsys.readouterr().out
    assert world.report("unidy")["token_requests"] == 1
    monkeypatch.undo()


def test_a_rotated_key_opens_what_it_sealed_before(world: World) -> None:
    """KMS keeps the old material: nothing is asked for anew. See SECURITY.md."""
    name = world.connect("unidy")
    first = world.api.token(name)
    world.aws.kms.rotate_key_on_demand(KeyId=world.stack.sealing_key_arn)
    world.functions.restart()
    second = world.api.token(name)
    assert is_served(world, second, source="table")
    assert second.body["access_token"] == first.body["access_token"]


def test_the_sealing_key_rotates_by_itself(world: World) -> None:
    status = world.aws.kms.get_key_rotation_status(KeyId=world.stack.sealing_key_arn)
    assert status["KeyRotationEnabled"] is True

"""The renewal queue over SQS: message bodies, batches and delays."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from token_broker.adapters.sqs import SqsRenewalQueue, read_message, write_message
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.errors import BrokerUnavailable
from token_broker.ports import RenewalMessage

from .handlers.world import World


def key(number: int) -> TokenKey:
    return TokenKey(ConnectionName("unidy", f"demo-{number}"), "users:read")


@pytest.fixture
def queue(world: World) -> SqsRenewalQueue:
    return SqsRenewalQueue(world.aws.sqs, url=world.stack.renewal_queue_url)


def test_a_message_is_read_back_as_its_key() -> None:
    message = RenewalMessage(key(1).name, key(1).scope_id)
    assert read_message(write_message(message)) == message


def test_a_message_of_a_retired_token_is_read_back() -> None:
    message = RenewalMessage(key(1).name, key(1).scope_id, token_id="9f86d081884c7d65")
    assert read_message(write_message(message)) == message


def test_a_message_of_a_consent_is_read_back() -> None:
    message = RenewalMessage(key(1).name, None)
    assert read_message(write_message(message)) == message


@pytest.mark.parametrize("scope_id", ["", "x", 7, "0" * 63])
def test_a_message_with_another_scope_id_is_refused(scope_id: object) -> None:
    body = json.loads(write_message(RenewalMessage(key(1).name, None)))
    for changed in ({**body, "scope_id": scope_id}, {name: body[name] for name in body if name != "scope_id"}):
        with pytest.raises(ValueError, match="does not name a token key"):
            read_message(json.dumps(changed))


@pytest.mark.parametrize("token_id", ["", "9F86D081884C7D65", "9f86d081884c7d6", 7, ["9f86d081884c7d65"]])
def test_a_message_with_another_token_id_is_refused(token_id: object) -> None:
    body = json.loads(write_message(RenewalMessage(key(1).name, key(1).scope_id)))
    with pytest.raises(ValueError, match="does not name a token"):
        read_message(json.dumps({**body, "token_id": token_id}))


def test_more_than_a_batch_is_sent_in_batches(world: World, queue: SqsRenewalQueue) -> None:
    sent = [RenewalMessage(key(number).name, key(number).scope_id) for number in range(23)]
    assert queue.send(sent) == []
    received = [message for _ in range(3) for message in world.aws.messages()]
    assert {read_message(message["Body"]).name.connection for message in received} == {f"demo-{n}" for n in range(23)}


def test_sending_nothing_calls_nothing(queue: SqsRenewalQueue) -> None:
    assert queue.send([]) == []


@pytest.mark.parametrize(
    ("delay", "seconds"), [(timedelta(hours=1), 900), (-timedelta(seconds=5), 0), (timedelta(seconds=61.4), 61)]
)
def test_a_delay_is_limited_to_what_sqs_accepts(
    queue: SqsRenewalQueue, delay: timedelta, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[int] = []

    def send_message_batch(**arguments: object) -> dict[str, object]:
        entries = arguments["Entries"]
        assert isinstance(entries, list)
        delays.extend(entry["DelaySeconds"] for entry in entries)
        return {}

    monkeypatch.setattr(queue._client, "send_message_batch", send_message_batch)
    queue.send([RenewalMessage(key(1).name, key(1).scope_id, delay)])
    assert delays == [seconds]


def test_messages_that_sqs_did_not_accept_are_returned(queue: SqsRenewalQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = {"Failed": [{"Id": "1", "SenderFault": False, "Code": "InternalError"}]}
    monkeypatch.setattr(queue._client, "send_message_batch", lambda **_: failed)
    first, second = (RenewalMessage(key(number).name, key(number).scope_id) for number in (1, 2))
    assert queue.send([first, second]) == [second]


def test_a_queue_that_fails_is_broker_unavailable(world: World) -> None:
    queue = SqsRenewalQueue(world.aws.sqs, url=world.stack.renewal_queue_url + "-gone")
    with pytest.raises(BrokerUnavailable):
        queue.send([RenewalMessage(key(1).name, key(1).scope_id)])

"""The renewal queue over SQS: what is sent can be read back, batches and delays are SQS's own."""

from __future__ import annotations

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


def test_a_message_reads_back_as_its_key() -> None:
    body = write_message(RenewalMessage(key(1).name, key(1).scope_id))
    assert read_message(body) == (key(1).name, key(1).scope_id)


def test_more_than_a_batch_is_sent_in_batches(world: World, queue: SqsRenewalQueue) -> None:
    sent = [RenewalMessage(key(number).name, key(number).scope_id) for number in range(23)]
    assert queue.send(sent) == []
    received = [message for _ in range(3) for message in world.aws.messages()]
    assert {read_message(message["Body"])[0].connection for message in received} == {f"demo-{n}" for n in range(23)}


def test_nothing_to_send_asks_nobody(queue: SqsRenewalQueue) -> None:
    assert queue.send([]) == []


@pytest.mark.parametrize(
    ("delay", "seconds"), [(timedelta(hours=1), 900), (-timedelta(seconds=5), 0), (timedelta(seconds=61.4), 61)]
)
def test_a_delay_is_kept_within_what_sqs_takes(
    queue: SqsRenewalQueue, delay: timedelta, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def send_message_batch(**arguments: object) -> dict[str, object]:
        entries = arguments["Entries"]
        assert isinstance(entries, list)
        asked.extend(entry["DelaySeconds"] for entry in entries)
        return {}

    monkeypatch.setattr(queue._client, "send_message_batch", send_message_batch)
    queue.send([RenewalMessage(key(1).name, key(1).scope_id, delay)])
    assert asked == [seconds]


def test_what_sqs_did_not_take_is_given_back(queue: SqsRenewalQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = {"Failed": [{"Id": "1", "SenderFault": False, "Code": "InternalError"}]}
    monkeypatch.setattr(queue._client, "send_message_batch", lambda **_: failed)
    first, second = (RenewalMessage(key(number).name, key(number).scope_id) for number in (1, 2))
    assert queue.send([first, second]) == [second]


def test_a_queue_that_does_not_answer_is_the_brokers_failure(world: World) -> None:
    queue = SqsRenewalQueue(world.aws.sqs, url=world.stack.renewal_queue_url + "-gone")
    with pytest.raises(BrokerUnavailable):
        queue.send([RenewalMessage(key(1).name, key(1).scope_id)])

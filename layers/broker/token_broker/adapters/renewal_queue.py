"""The renewal queue over SQS. A message names a key; it never carries a secret or a token."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from token_broker.adapters.aws import answering
from token_broker.core.names import ConnectionName, is_name
from token_broker.ports import RenewalMessage

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

VERSION = 1
BATCH = 10
MAX_DELAY_S = 900


class SqsRenewalQueue:
    """RenewalQueue (see ports)."""

    def __init__(self, client: SQSClient, *, url: str) -> None:
        self._client = client
        self._url = url

    def send(self, messages: Sequence[RenewalMessage]) -> Sequence[RenewalMessage]:
        unsent: list[RenewalMessage] = []
        for start in range(0, len(messages), BATCH):
            batch = messages[start : start + BATCH]
            with answering("SQS"):
                answer = self._client.send_message_batch(
                    QueueUrl=self._url,
                    Entries=[
                        {
                            "Id": str(index),
                            "MessageBody": write_message(message),
                            "DelaySeconds": min(max(round(message.delay.total_seconds()), 0), MAX_DELAY_S),
                        }
                        for index, message in enumerate(batch)
                    ],
                )
            unsent += [batch[int(failed["Id"])] for failed in answer.get("Failed", [])]
        return unsent


def write_message(message: RenewalMessage) -> str:
    """The body of a message: `{"version": 1, "provider": …, "connection": …, "key": "T#…", "reason": "due"}`."""
    provider, _, connection = message.pk.removeprefix("C#").partition("/")
    body = {"version": VERSION, "provider": provider, "connection": connection, "key": message.sk, "reason": "due"}
    return json.dumps(body, separators=(",", ":"))


def read_message(body: str) -> tuple[ConnectionName, str]:
    """The connection and sort key that a message names. Raises ValueError for a body that is none of ours."""
    data = json.loads(body)
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise ValueError("not a renewal message of this version")
    provider, connection, sk = data.get("provider"), data.get("connection"), data.get("key")
    if not (is_name(provider) and is_name(connection) and isinstance(sk, str) and sk.startswith("T#")):
        raise ValueError("a renewal message that names no token key")
    return ConnectionName(str(provider), str(connection)), sk

"""The queues over SQS. A message names a token key or a consent session, and never holds a secret or a token."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from token_broker.adapters.aws import aws_errors
from token_broker.core.names import CONSENT_ID, SCOPE_ID, TOKEN_ID, ConnectionName, is_name
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
        not_queued: list[RenewalMessage] = []
        for start in range(0, len(messages), BATCH):
            batch = messages[start : start + BATCH]
            with aws_errors("SQS"):
                response = self._client.send_message_batch(
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
            not_queued += [batch[int(failed["Id"])] for failed in response.get("Failed", [])]
        return not_queued


class SqsConsentQueue:
    """ConsentQueue (see ports)."""

    def __init__(self, client: SQSClient, *, url: str) -> None:
        self._client = client
        self._url = url

    def send(self, consent_id: str, delay: timedelta = timedelta()) -> None:
        with aws_errors("SQS"):
            self._client.send_message(
                QueueUrl=self._url,
                MessageBody=write_consent_message(consent_id),
                DelaySeconds=min(math.ceil(delay.total_seconds()), MAX_DELAY_S),
            )


def write_consent_message(consent_id: str) -> str:
    """The body of a message: `{"version": 1, "consent_id": …}`."""
    return json.dumps({"version": VERSION, "consent_id": consent_id}, separators=(",", ":"))


def read_consent_message(body: str) -> str:
    """The consent_id in a body. Raises ValueError for any other body."""
    data = json.loads(body)
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise ValueError("not a consent message of this version")
    consent_id = data.get("consent_id")
    if not isinstance(consent_id, str) or not CONSENT_ID.fullmatch(consent_id):
        raise ValueError("a consent message that does not name a session")
    return consent_id


def write_message(message: RenewalMessage) -> str:
    """The body of a message: `{"version": 1, "provider": …, "connection": …, "scope_id": …}`.

    `token_id` is added for a retired token. A consent has `"scope_id": null`.
    """
    body: dict[str, Any] = {
        "version": VERSION,
        "provider": message.name.provider,
        "connection": message.name.connection,
        "scope_id": message.scope_id,
    }
    if message.token_id is not None:
        body["token_id"] = message.token_id
    return json.dumps(body, separators=(",", ":"))


def read_message(body: str) -> RenewalMessage:
    """The message in a body. Raises ValueError for any other body."""
    data = json.loads(body)
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise ValueError("not a renewal message of this version")
    provider = data.get("provider")
    connection = data.get("connection")
    scope_id = data.get("scope_id", "")
    names_key = scope_id is None or (isinstance(scope_id, str) and SCOPE_ID.fullmatch(scope_id))
    if not (is_name(provider) and is_name(connection) and names_key):
        raise ValueError("a renewal message that does not name a token key")
    token_id = data.get("token_id")
    if token_id is not None and not (isinstance(token_id, str) and TOKEN_ID.fullmatch(token_id)):
        raise ValueError("a renewal message that does not name a token")
    return RenewalMessage(ConnectionName(str(provider), str(connection)), scope_id, token_id=token_id)

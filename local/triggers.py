"""Invokes functions as AWS does by itself: by the schedule, from the queue, and when a secret changed.

moto does none of this, so these threads do, with events in AWS's form.
"""

import logging
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from local.events import queue_event, schedule_event, secret_event

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

logger = logging.getLogger(__name__)
QUEUE_POLL_S: Final = 0.2
SECRETS_POLL_S: Final = 1.0
CLOSE_S: Final = 2.0


class Invokable(Protocol):
    """A function that can be invoked: a pool of environments."""

    def invoke(self, event: Any) -> Any:
        """The function's result. Raises an error of the pool."""


class Ticker:
    """Calls `tick` every `interval_s` in its own thread until closed. If a tick raises, this is logged."""

    def __init__(self, name: str, interval_s: float) -> None:
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread. The first tick comes after one interval."""
        self._thread.start()

    def tick(self) -> None:
        """Do one turn. A subclass must override it."""
        raise NotImplementedError

    @property
    def stopping(self) -> bool:
        """Whether close was called."""
        return self._stop.is_set()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self.tick()
            except Exception:
                if not self.stopping:  # while the stack ends, parts that a tick calls may be gone
                    logger.exception("%s: this tick failed", self._thread.name)

    def close(self) -> None:
        """Ask the thread to end and wait a moment. A function that still runs ends with its pool. Idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)


class Schedule(Ticker):
    """EventBridge Scheduler: invokes the sweep once per interval."""

    def __init__(self, pool: Invokable, schedule_input: str, interval_s: float) -> None:
        super().__init__("schedule", interval_s)
        self._pool = pool
        self._input = schedule_input

    def tick(self) -> None:
        self._pool.invoke(schedule_event(self._input, datetime.now(UTC)))


class QueuePump(Ticker):
    """The event source mapping of one queue with batch size 1. Several run side by side for concurrency.

    A message is deleted if its function succeeded. If it failed, or the id is among batchItemFailures, the message
    stays and is visible again after its visibility time-out.
    """

    def __init__(self, sqs: "SQSClient", queue_url: str, pool: Invokable, *, name: str = "queue") -> None:
        super().__init__(name, QUEUE_POLL_S)
        self._sqs = sqs
        self._queue_url = queue_url
        self._pool = pool
        queue = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
        self._queue_arn: str = queue["Attributes"]["QueueArn"]

    def tick(self) -> None:
        while not self.stopping and self._handle_one():
            pass

    def _handle_one(self) -> bool:
        # No long poll: it would hold the lock of the AWS endpoint while it waits.
        received: Mapping[str, Any] = self._sqs.receive_message(
            QueueUrl=self._queue_url, MaxNumberOfMessages=1, WaitTimeSeconds=0, MessageSystemAttributeNames=["All"]
        )
        messages = received.get("Messages", [])
        for message in messages:
            result = self._pool.invoke(queue_event(message, self._queue_arn)) or {}
            failed = {failure["itemIdentifier"] for failure in result.get("batchItemFailures", [])}
            if message["MessageId"] not in failed:
                self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"])
        return bool(messages)


class SecretWatch(Ticker):
    """CloudTrail and EventBridge for secrets: compares the secrets' versions each tick, sends an event per change."""

    def __init__(self, secrets: "SecretsManagerClient", pool: Invokable, prefix: str) -> None:
        super().__init__("secret-watch", SECRETS_POLL_S)
        self._secrets = secrets
        self._pool = pool
        self._prefix = prefix
        self._known = self._current_versions()

    def tick(self) -> None:
        now = self._current_versions()
        for arn in now.keys() | self._known.keys():
            event_name = _change(arn, self._known, now)
            if event_name:
                version_id = now.get(arn)
                self._pool.invoke(secret_event(event_name, arn, datetime.now(UTC), version_id=version_id))
            # After the call, so that the event is sent again if the function failed, as EventBridge does.
            self._known[arn] = now.get(arn)

    def _current_versions(self) -> dict[str, str | None]:
        """The AWSCURRENT version of each secret under the prefix, by ARN."""
        pages = self._secrets.get_paginator("list_secrets").paginate(
            Filters=[{"Key": "name", "Values": [self._prefix]}]
        )
        return {secret["ARN"]: _current(secret) for page in pages for secret in page["SecretList"]}


def _current(secret: Mapping[str, Any]) -> str | None:
    stages: Mapping[str, list[str]] = secret.get("SecretVersionsToStages") or {}
    return next((version for version, names in stages.items() if "AWSCURRENT" in names), None)


def _change(arn: str, before: Mapping[str, str | None], now: Mapping[str, str | None]) -> str | None:
    """The API call that explains the difference. None for a new secret: the rule does not match CreateSecret."""
    if arn not in before or before[arn] == now.get(arn):
        return None
    if before[arn] is None:
        return "RestoreSecret"
    return "PutSecretValue" if arn in now else "DeleteSecret"

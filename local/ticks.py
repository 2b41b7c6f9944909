"""What AWS does on its own: the schedule, the queue's event source mapping, and events of changed secrets.

moto fires no schedules, invokes nothing and sends no events, so these threads do, with events of AWS's shapes.
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
    """What runs on an event: a pool of environments."""

    def invoke(self, event: Any) -> Any:
        """The function's result; raises what went wrong."""


class Ticker:
    """Calls `tick` every `interval_s` in its own thread until closed. One that raises is logged, and the next comes."""

    def __init__(self, name: str, interval_s: float) -> None:
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; the first tick comes after one interval."""
        self._thread.start()

    def tick(self) -> None:
        """One turn; overridden by what ticks."""
        raise AssertionError(f"{type(self).__name__} does not say what a tick does")

    @property
    def stopping(self) -> bool:
        """Whether close was called."""
        return self._stop.is_set()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self.tick()
            except Exception:
                if not self.stopping:  # while the stack ends, what a tick calls may be gone already
                    logger.exception("%s: this tick failed", self._thread.name)

    def close(self) -> None:
        """Ask the thread to end and wait a moment: a function still running ends with its pool. Idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)


class Schedule(Ticker):
    """EventBridge Scheduler: invokes the sweep every interval."""

    def __init__(self, pool: Invokable, schedule_input: str, interval_s: float) -> None:
        super().__init__("schedule", interval_s)
        self._pool = pool
        self._input = schedule_input

    def tick(self) -> None:
        self._pool.invoke(schedule_event(self._input, datetime.now(UTC)))


class QueuePump(Ticker):
    """The event source mapping of one queue, batch size 1. Several run side by side for concurrency.

    A message is deleted once its function succeeded. A failure, or its id among batchItemFailures, leaves it to its
    visibility time-out.
    """

    def __init__(self, sqs: "SQSClient", queue_url: str, pool: Invokable, *, name: str = "queue") -> None:
        super().__init__(name, QUEUE_POLL_S)
        self._sqs = sqs
        self._queue_url = queue_url
        self._pool = pool
        answer = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
        self._queue_arn: str = answer["Attributes"]["QueueArn"]

    def tick(self) -> None:
        while not self.stopping and self._handle_one():
            pass

    def _handle_one(self) -> bool:
        # No long poll: it would hold moto's one lock for as long as it waits.
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
    """CloudTrail and EventBridge for secrets: compares what is there each tick, and tells the function what changed."""

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
            # Only now, so that a change whose function failed is told again, as EventBridge would.
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
    """The call that explains the difference. A secret that was never there before is none that the rule asks for."""
    if arn not in before or before[arn] == now.get(arn):
        return None
    if before[arn] is None:
        return "RestoreSecret"
    return "PutSecretValue" if arn in now else "DeleteSecret"

"""Many instances of the broker at once: threads in this process, or environments as processes."""

from __future__ import annotations

import queue
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Protocol, TypeVar

from local.events import queue_event, schedule_event, secret_event
from local.lambda_environments import EnvironmentPool
from local.sigv4 import LOCAL
from tests.integration.handlers.functions import BrokerResponse
from tests.integration.handlers.world import QUEUE_ARN, World
from token_broker.adapters.sqs import write_message
from token_broker.bootstrap import utc_now
from token_broker.core.callers import Caller
from token_broker.core.names import ConnectionName
from token_broker.errors import BrokerError
from token_broker.ports import RenewalMessage
from token_broker.service import Broker, TokenRequest
from token_broker.service.sweep import sweep

T = TypeVar("T")
INSTANCES: Final = 8
REQUEST_TIME: Final = timedelta(seconds=26)
RESPONSE_S: Final = 60.0
SWITCH_S: Final = 1e-4


@dataclass(frozen=True, slots=True)
class Got:
    """What a caller got: a token, or a problem's code."""

    code: str = ""
    token_id: str = ""
    source: str = ""
    warnings: tuple[str, ...] = ()
    access_token: str = field(default="", repr=False)


class Fleet(Protocol):
    """The broker's functions, each in several instances that share only the tables."""

    kind: str

    def get(self, name: str, rejected: str | None = None) -> Got:
        """GET /v1/tokens/{name}."""

    def purge(self, name: str) -> Mapping[str, Any]:
        """DELETE /v1/tokens/{name}. Returns what was dropped and revoked."""

    def put(self, name: str, settings: Mapping[str, Any]) -> None:
        """PUT /v1/connections/{name}."""

    def delete(self, name: str) -> None:
        """DELETE /v1/connections/{name}."""

    def sweep(self) -> int:
        """Runs the sweep once. Returns how many keys it queued."""

    def renew(self, name: str, scope_id: str | None, token_id: str | None = None) -> None:
        """Runs the worker on one message, of a token key or of one of its retired tokens."""

    def secret_changed(self, name: str) -> None:
        """Sends the event of a changed secret."""


class Instances:
    """Brokers in this process. Each handles one event at a time, as an environment does. Threads share them."""

    kind = "threads"

    def __init__(self, make: Callable[[], Broker], count: int = INSTANCES) -> None:
        self._make = make
        self._to_make = [None] * count
        self._idle: queue.SimpleQueue[Broker] = queue.SimpleQueue()

    def _take(self) -> Broker:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            pass
        try:
            self._to_make.pop()
        except IndexError:
            return self._idle.get()
        return self._make()

    def _run(self, call: Callable[[Broker], T]) -> T:
        broker = self._take()
        try:
            return call(broker)
        finally:
            self._idle.put(broker)

    def get(self, name: str, rejected: str | None = None) -> Got:
        request = TokenRequest(Caller(LOCAL.arn), named(name), utc_now() + REQUEST_TIME, rejected=rejected)
        try:
            given = self._run(lambda broker: broker.get_token(request))
        except BrokerError as error:
            return Got(error.code)
        return Got("", given.token.token_id, given.source, given.warnings, given.access_token)

    def purge(self, name: str) -> Mapping[str, Any]:
        done = self._run(lambda broker: broker.purge_and_revoke(named(name), None, deadline=utc_now() + REQUEST_TIME))
        return {"dropped": done.dropped, "revoked": list(done.revoked)}

    def put(self, name: str, settings: Mapping[str, Any]) -> None:
        self._run(lambda broker: broker.connections.put(named(name), settings, expected=None, absent=False))

    def delete(self, name: str) -> None:
        self._run(lambda broker: broker.connections.delete(named(name), expected=None))

    def sweep(self) -> int:
        now = utc_now()
        return self._run(lambda broker: sweep(broker.context, scheduled_at=now, deadline=now + REQUEST_TIME)).queued

    def renew(self, name: str, scope_id: str | None, token_id: str | None = None) -> None:
        self._run(lambda broker: broker.renew(named(name), scope_id, token_id))

    def secret_changed(self, name: str) -> None:
        self._run(lambda broker: broker.secret_changed(named(name)))


class Processes:
    """The real functions in pools of environments."""

    kind = "processes"

    def __init__(self, world: World, pools: Mapping[str, EnvironmentPool]) -> None:
        self._world = world
        self._pools = pools

    def get(self, name: str, rejected: str | None = None) -> Got:
        response = self._call("GET", f"/v1/tokens/{name}", {"rejected": rejected} if rejected else {})
        if response.code is not None:
            return Got(response.code)
        body = response.body
        return Got("", body["token_id"], body["source"], tuple(body["warnings"]), body["access_token"])

    def purge(self, name: str) -> Mapping[str, Any]:
        done: Mapping[str, Any] = self._succeed("DELETE", f"/v1/tokens/{name}").body
        return done

    def put(self, name: str, settings: Mapping[str, Any]) -> None:
        self._succeed("PUT", f"/v1/connections/{name}", body=settings)

    def delete(self, name: str) -> None:
        self._succeed("DELETE", f"/v1/connections/{name}")

    def sweep(self) -> int:
        stack = self._world.stack
        queued: int = self._pools[stack.sweep_function].invoke(schedule_event(stack.sweep_input, utc_now()))["queued"]
        return queued

    def renew(self, name: str, scope_id: str | None, token_id: str | None = None) -> None:
        body = write_message(RenewalMessage(named(name), scope_id, token_id=token_id))
        message = {"MessageId": uuid.uuid4().hex, "ReceiptHandle": "handle", "Body": body, "MD5OfBody": "unread"}
        result = self._pools[self._world.stack.renew_function].invoke(queue_event(message, QUEUE_ARN))
        assert result == {"batchItemFailures": []}

    def secret_changed(self, name: str) -> None:
        arn = f"arn:aws:secretsmanager:eu-west-1:123456789012:secret:{self._world.aws.secret_id(name)}-AbCdEf"
        event = secret_event("PutSecretValue", arn, utc_now())
        self._pools[self._world.stack.secret_changed_function].invoke(event)

    def _call(self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None) -> BrokerResponse:
        function, event = self._world.api.event(method, path, query or {}, body=body)
        return BrokerResponse.of(self._pools[function].invoke(event))

    def _succeed(self, method: str, path: str, body: Any = None) -> BrokerResponse:
        response = self._call(method, path, body=body)
        assert response.code is None, response.text
        return response


class Race:
    """Starts calls at the same moment, each in its own thread. Threads switch far more often than usual."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads

    def together(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """What each call returned, in the order of the calls."""
        start, interval = threading.Barrier(len(calls)), sys.getswitchinterval()

        def run(call: Callable[[], T]) -> T:
            start.wait(RESPONSE_S)
            return call()

        sys.setswitchinterval(SWITCH_S)
        try:
            running = [self._threads.submit(run, call) for call in calls]
            return [future.result(RESPONSE_S) for future in running]
        finally:
            sys.setswitchinterval(interval)

    def meanwhile(self, call: Callable[[], T]) -> Future[T]:
        """Starts a call. `.result(RESPONSE_S)` waits for it."""
        return self._threads.submit(call)


def named(name: str) -> ConnectionName:
    """The ConnectionName of provider/connection."""
    provider, _, connection = name.partition("/")
    return ConnectionName(provider, connection)

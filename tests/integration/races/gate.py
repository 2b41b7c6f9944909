"""A gate in front of the AWS endpoint. It holds single requests, so that a race stops at a chosen step."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from local.aws import Application, AwsServer

ARRIVAL_S = 10.0


class Held:
    """A request to hold: the next one whose action and body match."""

    def __init__(self, action: str, holding: str) -> None:
        self._action = action
        self._holding = holding.encode()
        self._arrived = threading.Event()
        self._go = threading.Event()

    def matches(self, action: str, body: bytes) -> bool:
        return not self._arrived.is_set() and action.endswith(f".{self._action}") and self._holding in body

    def stop(self) -> None:
        """Holds the request. Called in its thread."""
        self._arrived.set()
        self._go.wait(ARRIVAL_S)

    def wait(self) -> None:
        """Waits until the request has arrived and is held."""
        assert self._arrived.wait(ARRIVAL_S), f"no {self._action} came"

    def let_go(self) -> None:
        """Lets the request go on to AWS. Idempotent."""
        self._go.set()


class Gate:
    """A WSGI application in front of another. It holds only the requests that a test names."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._lock = threading.Lock()
        self._wanted: list[Held] = []

    def hold(self, action: str, *, holding: str = "") -> Held:
        """Holds the next request of this action (`UpdateItem`) whose body has this text."""
        held = Held(action, holding)
        with self._lock:
            self._wanted.append(held)
        return held

    def open(self) -> None:
        """Lets all held requests go on."""
        with self._lock:
            wanted, self._wanted = self._wanted, []
        for held in wanted:
            held.let_go()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        with self._lock:
            action = environ.get("HTTP_X_AMZ_TARGET", "")
            held = next((item for item in self._wanted if item.matches(action, body)), None)
            if held is not None:
                self._wanted.remove(held)
        if held is not None:
            held.stop()
        return self._application(environ, start_response)


@contextmanager
def gate_before(server: AwsServer) -> Iterator[Gate]:
    """Puts a gate in front of a running endpoint until the context ends."""
    application = server._server.app
    gate = Gate(application)
    server._server.app = gate
    try:
        yield gate
    finally:
        gate.open()
        server._server.app = application

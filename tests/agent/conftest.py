"""An agent on a Unix socket and on a port, before a fake broker."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import pytest

from token_broker_cli.agent.command import UnixConnection
from token_broker_cli.agent.door import PASSWORD_HEADER, Door
from token_broker_cli.agent.listeners import listen_on_port, listen_on_socket
from token_broker_cli.agent.metrics import CountedGet, Metrics
from token_broker_cli.agent.routes import Routes
from token_broker_cli.agent.server import Server
from token_broker_client.source import TokenSource
from token_broker_client.testing import FakeBroker

PASSWORD: Final = "p" * 40
TOKENS: Final = "/v1/tokens/unidy/eu-main"
HEADERS: Final = "/v1/headers/unidy/eu-main"
ALLOWED: Final = ("unidy/eu-main", "unicommerce/main")


@dataclass(frozen=True)
class Reply:
    """A response of the agent."""

    status: int
    headers: Message
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Agent:
    """A running agent. `broker` stands in for the broker's HTTP interface."""

    def __init__(self, socket_path: Path | None, *, any_connection: bool = False) -> None:
        self.broker = FakeBroker()
        self.metrics = Metrics(clock=self.broker._time)
        self.source = TokenSource(
            CountedGet(self.broker._respond, self.metrics), clock=self.broker._time, sleep=self.broker.advance
        )
        self._path = socket_path
        listener = listen_on_socket(socket_path) if socket_path else listen_on_port(0)
        self.port: int | None = None if socket_path else listener.getsockname()[1]
        self.password = None if socket_path else PASSWORD
        routes = Routes(
            self.source,
            Door(self.port, self.password),
            None if any_connection else ALLOWED,
            self.metrics,
            clock=self.broker._time,
        )
        self.server = Server(listener, routes)
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def connection(self) -> HTTPConnection:
        return UnixConnection(self._path) if self._path else HTTPConnection("127.0.0.1", self.port, timeout=10)

    def plain_socket(self) -> socket.socket:
        if self._path is None:
            return socket.create_connection(("127.0.0.1", self.port or 0), timeout=10)
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(10)
        plain.connect(str(self._path))
        return plain

    def ask(
        self, method: str, path: str, body: str | bytes | None = None, headers: Mapping[str, str | None] | None = None
    ) -> Reply:
        """One request with what the door wants. `headers` replace that; None leaves a header out."""
        wanted = {PASSWORD_HEADER: self.password, **(headers or {})}
        with closing(self.connection()) as connection:
            return ask(connection, method, path, body, {name: value for name, value in wanted.items() if value})

    def close(self) -> None:
        self.server.stop()
        self._thread.join(10)


def ask(
    connection: HTTPConnection, method: str, path: str, body: str | bytes | None, headers: Mapping[str, str]
) -> Reply:
    connection.request(method, path, body, dict(headers))
    response = connection.getresponse()
    return Reply(response.status, response.headers, response.read().decode())


@pytest.fixture(params=["socket", "port"])
def agent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Agent]:
    """An agent that serves two connections, on a Unix socket and on a port."""
    with closing(Agent(tmp_path / "agent.sock" if request.param == "socket" else None)) as agent:
        yield agent

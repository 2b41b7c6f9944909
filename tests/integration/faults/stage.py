"""Where the fault suite runs: the real functions, the simulated providers over loopback HTTP, one hand-driven clock.

The AWS side is either moto behind the real adapters, or fakes that pass the same contracts. The whole matrix over moto
takes minutes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from itertools import count
from types import TracebackType
from typing import Any, Final, Self

import pytest

from local.providers import DEFAULT_ACCOUNTS, ProvidersServer, default_settings
from tests.fakes import (
    FakeQueue,
    FakeSealer,
    FakeSecretStore,
    HandClock,
    InMemoryBudgets,
    InMemoryConnectionStore,
    InMemoryConsentStore,
    InMemoryDueIndex,
    InMemoryHealthStore,
    InMemoryTokenStore,
    InMemoryTokenTable,
)
from tests.integration.faults.outcomes import RequestCounts
from tests.integration.faults.provider_faults import NOW
from tests.integration.handlers.functions import BrokerResponse
from tests.integration.handlers.world import PROVIDERS, World
from token_broker import bootstrap
from token_broker.adapters.provider_http import ProviderHttp
from token_broker.adapters.sqs import write_message
from token_broker.catalogue import load_catalogue
from token_broker.core.connections import NetworkOptions
from token_broker.core.names import ConnectionName
from token_broker.core.records import TokenRecord
from token_broker.oauth.exchange import HttpRequest, HttpResponse
from token_broker.ports import RenewalMessage
from token_broker.service import Broker
from token_broker.service.context import BrokerContext

CATALOGUE: Final = lru_cache(maxsize=1)(load_catalogue)
MEMORY: Final = "memory"
MOTO: Final = "moto"
PORTS: Final = (
    "connections",
    "consents",
    "tokens",
    "health",
    "due_index",
    "budgets",
    "secrets",
    "sealer",
    "consent_sealer",
    "queue",
)
DONE: Final[dict[str, Any]] = {"batchItemFailures": []}
NEAR_EXPIRY: Final = timedelta(seconds=100)


class Fakes:
    """The AWS side in memory, shared by all instances of a test."""

    def __init__(self) -> None:
        self.connections = InMemoryConnectionStore()
        self.table = InMemoryTokenTable()
        self.tokens = InMemoryTokenStore(self.connections, self.table)
        self.health = InMemoryHealthStore(self.table)
        self.due_index = InMemoryDueIndex(self.table)
        self.budgets = InMemoryBudgets()
        self.consents = InMemoryConsentStore()
        self.secrets = FakeSecretStore()
        self.sealer = FakeSealer()
        self.consent_sealer = FakeSealer()
        self.queue = FakeQueue()


class Stage:
    """A world whose time moves only when a test moves it, for the broker and the providers.

    `exchange_limit`: how long an exchange may take, if that is less than the broker allows.
    """

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, aws: str = MEMORY) -> None:
        self.world = world
        self.api = world.api
        self.clock = HandClock(NOW)
        self.fakes = Fakes() if aws == MEMORY else None
        self.exchange_limit = timedelta(days=1)
        self.sent = 0
        self._versions = count(1)
        self._other: dict[str, ProvidersServer] = {}
        for slug in PROVIDERS:
            monkeypatch.setattr(world.simulator(slug), "now", self.now)
        # Reading the catalogue would be most of the time that an instance takes to start.
        monkeypatch.setattr(bootstrap, "load_catalogue", CATALOGUE)
        monkeypatch.setattr(bootstrap, "build_broker", partial(self._build, bootstrap.build_broker))
        # Nothing here uses TLS, and reading the system's certificates takes longer than the rest of an exchange.
        monkeypatch.setenv("SSL_CERT_FILE", os.devnull)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for server in self._other.values():
            server.close()

    def now(self) -> float:
        return self.clock().timestamp()

    def _build(self, original: Any, *arguments: Any) -> Broker:
        made: Broker = original(*arguments, send=self._send, clock=self.clock, sleep=self.clock.sleep)
        fakes = self.fakes
        if fakes is None:
            return made
        ports: dict[str, Any] = {name: getattr(fakes, name) for name in PORTS}
        return Broker(replace(made.context, **ports))

    def _send(self, request: HttpRequest, network: NetworkOptions, timeout: timedelta) -> HttpResponse:
        self.sent += 1
        return ProviderHttp(loopback=True)(request, network, min(timeout, self.exchange_limit))

    # Connections and providers

    def simulator(self, slug: str) -> Any:
        return self._other[slug].simulator(slug) if slug in self._other else self.world.simulator(slug)

    def provider_of_its_own(self, slug: str, port: int = 0) -> ProvidersServer:
        """A provider on its own port, so that it can be stopped. Later connections use it."""
        server = ProvidersServer(port, 1.0, self.now)
        self._other[slug] = server
        return server

    def connect(self, slug: str, name: str = "demo", **changes: Any) -> str:
        """A connection with its secret; returns provider/name."""
        if slug in self._other:
            changes = {**default_settings(slug, self._other[slug].url), **changes}
        if self.fakes is None:
            return self.world.connect(slug, name=name, **changes)
        full = ConnectionName(slug, name)
        settings, version = self.world.settings(slug, **changes), f"s{next(self._versions)}"
        self.fakes.connections.put(full, settings, version=version, expected=None, absent=False)
        self.fakes.secrets.put(full, DEFAULT_ACCOUNTS[slug]["secret"])
        return str(full)

    def heal(self, slug: str) -> None:
        """The provider responds normally again."""
        simulator = self.simulator(slug)
        simulator.clear_faults()
        simulator.configure(set_fields={}, omit_fields=())

    def requests(self, slug: str) -> RequestCounts:
        """The requests since the start of the test."""
        report = self.simulator(slug).report()
        return RequestCounts(report["token_requests"], report["connect_requests"], self.sent)

    @contextmanager
    def stopped(self, slug: str) -> Iterator[None]:
        """The provider on its own port is stopped. Nothing listens at the port, and no other process can take it."""
        server = self._other[slug]
        server.close()
        with socket.socket() as held:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", server.port))
            yield
        self.provider_of_its_own(slug, server.port)

    # What callers, the worker and operators do

    def token(self, name: str, **query: str) -> BrokerResponse:
        """GET /v1/tokens/… at a new instance, whose memory is empty."""
        self.world.functions.restart()
        return self.token_again(name, **query)

    def token_again(self, name: str, **query: str) -> BrokerResponse:
        """GET /v1/tokens/… at the same instance as the last request."""
        return self.api.token(name, **query)

    def state(self, name: str) -> BrokerResponse:
        response = self.api.call("GET", f"/v1/connections/{name}")
        assert response.status == 200, response
        return response

    def advance_near_expiry(self, response: BrokerResponse, remaining: timedelta = NEAR_EXPIRY) -> None:
        """Moves time to shortly before a token expires, when it is due."""
        self.clock.advance(to=datetime.fromisoformat(response.body["expires_at"]) - remaining)

    def renew(self, name: str) -> dict[str, Any]:
        """Runs the worker on the connection's only key."""
        (record,) = self.records(name)
        return self.work(RenewalMessage(record.key.name, record.key.scope_id))

    def work(self, message: RenewalMessage) -> dict[str, Any]:
        """Runs the worker on a message."""
        body = write_message(message)
        return self.world.work({"MessageId": "m-1", "ReceiptHandle": "r-1", "Body": body, "MD5OfBody": "0" * 32})

    def sweep(self) -> list[RenewalMessage]:
        """Runs the sweep once. Returns what it queued."""
        self.world.sweep(self.clock())
        assert self.fakes is not None
        return self.fakes.queue.take()

    def records(self, name: str) -> list[TokenRecord]:
        """Everything that the store knows of a connection's keys."""
        provider, _, connection = name.partition("/")
        return list(self._context().tokens.items(ConnectionName(provider, connection)).records)

    def cooldowns_at(self, name: str) -> set[str]:
        """What has a cooldown: `connection`, `key` and `endpoint`."""
        (record,) = self.records(name)
        health = record.health
        found = {"connection": (health.failure or health.rate_limit) is not None, "key": record.failure is not None}
        host = self.world.providers.url.partition("//")[2]
        # The budget is never used up, so only a cooldown can deny it.
        endpoint = self._context().budgets.busy_until(host, now=self.clock(), limit=10**6) is not None
        return {level for level, cooling_down in {**found, "endpoint": endpoint}.items() if cooling_down}

    def _context(self) -> BrokerContext:
        return bootstrap.broker().context


def moment(text: str) -> datetime:
    """Reads a timestamp of a response."""
    return datetime.fromisoformat(text).astimezone(UTC)

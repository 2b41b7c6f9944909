"""What the fault suite plays on: the real functions, the simulated providers over loopback HTTP, one hand-driven clock.

The AWS side is either moto behind the real adapters or the fakes that pass the same contracts: the whole matrix on the
former takes minutes.
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
from tests.fakes import FakeQueue, FakeSealer, FakeSecretStore, HandClock, InMemoryConnectionStore, InMemoryTokenStore
from tests.integration.faults.playing import NOW
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
from token_broker.ports import RenewalMessage, TokenStore
from token_broker.service import Broker

CATALOGUE: Final = lru_cache(maxsize=1)(load_catalogue)
MEMORY: Final = "memory"
MOTO: Final = "moto"
DONE: Final[dict[str, Any]] = {"batchItemFailures": []}
NEAR_END: Final = timedelta(seconds=100)


class Fakes:
    """The AWS side in memory, shared by all instances of a test."""

    def __init__(self) -> None:
        self.connections = InMemoryConnectionStore()
        self.tokens = InMemoryTokenStore(self.connections)
        self.secrets = FakeSecretStore()
        self.sealer = FakeSealer()
        self.queue = FakeQueue()


class Stage:
    """A world whose time stands still until it is moved: for the broker and for the providers alike.

    `patience`: how long an exchange may take, where that is less than the broker allows.
    """

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, aws: str = MEMORY) -> None:
        self.world = world
        self.api = world.api
        self.clock = HandClock(NOW)
        self.fakes = Fakes() if aws == MEMORY else None
        self.patience = timedelta(days=1)
        self.sent = 0
        self._versions = count(1)
        self._other: dict[str, ProvidersServer] = {}
        for slug in PROVIDERS:
            monkeypatch.setattr(world.simulator(slug), "now", self.now)
        # Read for every instance, it would be most of what an instance costs.
        monkeypatch.setattr(bootstrap, "load_catalogue", CATALOGUE)
        monkeypatch.setattr(bootstrap, "build_broker", partial(self._build, bootstrap.build_broker))
        # Reading the system's certificates takes longer than all the rest of an exchange; nothing here speaks TLS.
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
        ports: dict[str, Any] = {
            name: getattr(fakes, name) for name in ("connections", "tokens", "vault", "sealer", "queue")
        }
        return Broker(replace(made.context, **ports))

    def _send(self, request: HttpRequest, network: NetworkOptions, timeout: timedelta) -> HttpResponse:
        self.sent += 1
        return ProviderHttp(loopback=True)(request, network, min(timeout, self.patience))

    # Connections and providers

    def simulator(self, slug: str) -> Any:
        return self._other[slug].simulator(slug) if slug in self._other else self.world.simulator(slug)

    def provider_of_its_own(self, slug: str, port: int = 0) -> ProvidersServer:
        """A provider on a port of its own, so that it can go; connections made from now on are to it."""
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
        """The provider answers as it should again."""
        simulator = self.simulator(slug)
        simulator.clear_faults()
        simulator.configure(set_fields={}, omit_fields=())

    def asked(self, slug: str) -> tuple[int, int, int]:
        """Requests that the provider counted, to its token endpoint and to connect, and the broker's own count."""
        report = self.simulator(slug).report()
        return report["token_requests"], report["connect_requests"], self.sent

    @contextmanager
    def gone(self, slug: str) -> Iterator[None]:
        """A provider of its own is away: nobody listens at its port, and nobody else gets it meanwhile."""
        server = self._other[slug]
        server.close()
        with socket.socket() as held:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", server.port))
            yield
        self.provider_of_its_own(slug, server.port)

    # What callers, the worker and an engineer do

    def token(self, name: str, **query: str) -> BrokerResponse:
        """GET /v1/tokens/…, met by an instance without memory."""
        self.world.functions.restart()
        return self.token_again(name, **query)

    def token_again(self, name: str, **query: str) -> BrokerResponse:
        """GET /v1/tokens/…, met by the same instance as the last request."""
        return self.api.token(name, **query)

    def state(self, name: str) -> BrokerResponse:
        answer = self.api.call("GET", f"/v1/connections/{name}")
        assert answer.status == 200, answer
        return answer

    def near_the_end(self, answer: BrokerResponse, left: timedelta = NEAR_END) -> None:
        """On to shortly before the end of a token, when it is due."""
        self.clock.advance(to=datetime.fromisoformat(answer.body["expires_at"]) - left)

    def renew(self, name: str) -> dict[str, Any]:
        """The worker on the connection's only key."""
        (record,) = self.records(name)
        return self.work(RenewalMessage(record.key.name, record.key.scope_id))

    def work(self, message: RenewalMessage) -> dict[str, Any]:
        """The worker on a message."""
        body = write_message(message)
        return self.world.work({"MessageId": "m-1", "ReceiptHandle": "r-1", "Body": body, "MD5OfBody": "0" * 32})

    def sweep(self) -> list[RenewalMessage]:
        """One run of the schedule; what it queued."""
        self.world.sweep(self.clock())
        assert self.fakes is not None
        return self.fakes.queue.take()

    def records(self, name: str) -> list[TokenRecord]:
        """All that the store knows of a connection's keys."""
        provider, _, connection = name.partition("/")
        return self._tokens().records(ConnectionName(provider, connection))

    def rests_at(self, name: str) -> set[str]:
        """Where something rests: `connection`, `scope` (the token key) and `endpoint`."""
        (record,) = self.records(name)
        health = record.health
        found = {"connection": (health.failure or health.rate_limit) is not None, "scope": record.failure is not None}
        host = self.world.providers.url.partition("//")[2]
        # A budget that is never used up: only a rest can refuse it.
        endpoint = self._tokens().take_budget(host, now=self.clock(), limit=10**6) is not None
        return {place for place, rests in {**found, "endpoint": endpoint}.items() if rests}

    def _tokens(self) -> TokenStore:
        return bootstrap.broker().context.tokens


def moment(text: str) -> datetime:
    """A timestamp of the interface."""
    return datetime.fromisoformat(text).astimezone(UTC)

"""The five vendors as the broker's network: their simulators, with simulated latency and troubles."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from email.message import Message
from email.utils import formatdate
from typing import NamedTuple
from urllib.parse import urlsplit

from local.providers.accounts import Account
from local.providers.server import SIMULATORS
from local.providers.simulator import Simulator
from local.providers.wire import Request
from tests.simulation.loop import Loop
from tests.simulation.population import HOSTS, Key
from token_broker.core.connections import NetworkOptions
from token_broker.core.names import ConnectionName
from token_broker.oauth.exchange import (
    HttpRequest,
    HttpResponse,
    OutcomeUnknown,
    Unreachable,
    quoted_query,
)

LATENCY_S = (0.15, 0.6)
# The time of the broker's own AWS calls around each exchange. The stores of a day respond at once.
OWN_TIME_S = 0.05
SLOW_S = 5.0
_KINDS = {kind.slug: kind for kind in SIMULATORS}
_PROVIDER_AT = {host: provider for provider, host in HOSTS.items()}


@dataclass(frozen=True)
class Trouble:
    """A trouble of a provider from `start_s` of the day on. `kind`: 503, unreachable, hang, or slow."""

    provider: str
    kind: str
    start_s: float
    length_s: float

    @property
    def end_s(self) -> float:
        return self.start_s + self.length_s

    @property
    def is_outage(self) -> bool:
        return self.kind != "slow"

    def affects(self, provider: str, at_s: float) -> bool:
        return provider == self.provider and self.start_s <= at_s < self.end_s


class Exchange(NamedTuple):
    """A request as it left for a vendor. `operation`: token, connect or revoke."""

    at_s: float
    connection: str
    operation: str


class Vendors:
    """Send (see ports) to simulated vendors.

    `exchanges`: every request by provider. `rate_limited`: how many of them got a 429.
    """

    def __init__(self, loop: Loop, keys: Iterable[Key], troubles: Iterable[Trouble], seed: int) -> None:
        self.exchanges: dict[str, list[Exchange]] = {provider: [] for provider in HOSTS}
        self.rate_limited = 0
        self._loop = loop
        self._troubles = tuple(troubles)
        self._random = random.Random(seed)  # noqa: S311  # latency protects nothing
        self._simulators: dict[ConnectionName, Simulator] = {}
        shared = self._simulator("commerce-layer")
        for key in keys:
            simulator = shared if key.name.provider == shared.slug else self._simulator(key.name.provider)
            simulator.accounts[key.name.connection] = Account(key.name.connection, key.secret(1))
            self._simulators[key.name] = simulator

    def send(self, request: HttpRequest, _network: NetworkOptions, timeout: timedelta) -> HttpResponse:
        """The request takes effect when it arrives. Its response comes after the vendor's latency, or too late."""
        loop = self._loop
        time_left = timeout.total_seconds()
        loop.sleep(OWN_TIME_S)
        provider, name, path = _address(request)
        operation = _KINDS[provider].routes[path]
        self.exchanges[provider].append(Exchange(loop.seconds, name.connection, operation))
        kinds = {trouble.kind for trouble in self._troubles if trouble.affects(provider, loop.seconds)}
        if "hang" in kinds:
            loop.sleep(time_left)
            raise OutcomeUnknown("no response in time")
        if "unreachable" in kinds:
            raise Unreachable("nobody listens")
        response = HttpResponse(503) if "503" in kinds else self._answer(name, path, request)
        latency = SLOW_S if "slow" in kinds else self._random.uniform(*LATENCY_S)
        loop.sleep(min(latency, time_left))
        if latency > time_left:
            raise OutcomeUnknown("no response in time")
        return response

    def accepts(self, name: ConnectionName, token: str) -> bool:
        """Whether the vendor's API accepts a token for this connection now."""
        issued = self._simulators[name].tokens.find(token)
        now = self._loop().timestamp()
        return issued is not None and issued.account == name.connection and issued.live(now)

    def rotate(self, key: Key, version: int) -> None:
        """From now on the vendor accepts only the new credentials. Tokens stay valid."""
        self._simulators[key.name].rotate_secret(key.secret(version), account=key.name.connection)

    def _simulator(self, provider: str) -> Simulator:
        simulator = _KINDS[provider](time_scale=1, now=lambda: self._loop().timestamp())
        simulator.accounts = {}
        return simulator

    def _answer(self, name: ConnectionName, path: str, request: HttpRequest) -> HttpResponse:
        simulator = self._simulators[name]
        headers = Message()
        for header, value in request.headers.items():
            headers[header] = value
        read = Request(request.method, path, quoted_query(request.query), headers, request.body or b"")
        reply = simulator.answer(read, simulator.arrive(read))
        self.rate_limited += reply.status == 429
        date = formatdate(simulator.vendor_time(), usegmt=True)
        lowered = {header.lower(): value for header, value in reply.headers.items()}
        return HttpResponse(reply.status, {"date": date, **lowered}, reply.body)


def _address(request: HttpRequest) -> tuple[str, ConnectionName, str]:
    """The provider and connection of a request, and the path at that vendor.

    Commerce Layer has one address for all connections, so there the client_id tells the connection.
    """
    url = urlsplit(request.url)
    provider = _PROVIDER_AT[url.netloc]
    path = url.path
    if provider == "commerce-layer":
        connection = json.loads(request.body or b"{}")["client_id"]
    else:
        connection, _, rest = path.removeprefix("/").partition("/")
        path = f"/{rest}"
    return provider, ConnectionName(provider, connection), path

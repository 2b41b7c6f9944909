"""What the instances of a machine share: watched stores, one provider, and the stage that runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from tests.component.state_machine.promises import Promises
from tests.component.state_machine.servers import Hang, Received, Server, ServerTraits
from tests.component.state_machine.stage import Stage
from tests.component.state_machine.watched import WatchedConnectionStore, WatchedSecretStore, WatchedTokenStore
from tests.fakes import World
from token_broker.catalogue import load_catalogue
from token_broker.core.connections import NetworkOptions
from token_broker.oauth.exchange import HttpRequest, HttpResponse, OutcomeUnknown, TransportError
from token_broker.service import Broker

LATENCY_S = 0.2
PLAIN = ServerTraits()


@dataclass(frozen=True)
class ProviderCase:
    """A provider, its server's traits, and its connections.

    `other_host`: settings that name another host. `lifetimes_s`: of its tokens, None without `expires_in`. `limit`: its
    published requests per minute, if any.
    """

    provider: str
    traits: ServerTraits = PLAIN
    settings: Mapping[str, Any] = field(default_factory=dict)
    other_host: Mapping[str, Any] = field(default_factory=dict)
    scopes: tuple[str | None, ...] = (None,)
    connections: tuple[str, ...] = ("main",)
    lifetimes_s: tuple[int | None, ...] = (3600,)
    limit: int | None = None
    revocable: bool = True


class MachineWorld(World):
    """The world of the fakes on a stage: an operation can pause at every port call."""

    def __init__(self, stage_of: Callable[[World], Stage], case: ProviderCase) -> None:
        super().__init__()
        self.stage = stage_of(self)
        self.promises = Promises(self.stage, login=case.traits.login, limit=case.limit)
        self.connections = WatchedConnectionStore(self.stage, self.promises)
        self.secrets = WatchedSecretStore(self.stage)
        self.tokens = self.watched = WatchedTokenStore(self.connections, self.stage, self.promises)
        self.faults.every = self.stage.stop
        self.server = Server(self.stage, case.traits, self._requested, self.promises.breaks)
        catalogue = load_catalogue()
        if case.limit is not None:
            provider = replace(catalogue[case.provider], requests_per_minute=case.limit)
            catalogue = {**catalogue, case.provider: provider}
        self.catalogue = catalogue

    def fresh_instance(self) -> Broker:
        return self.instance(catalogue=self.catalogue, sleep=self.stage.sleep)

    def send(self, request: HttpRequest, _network: NetworkOptions, timeout: timedelta) -> HttpResponse:
        """The request arrives at once. The operation can pause before the response."""
        operation = self.stage.running
        assert operation is not None
        until = self.clock() + timeout
        trace = operation.trace
        is_revocation = request.url.endswith("/revoke")
        response = self.server.receive(request)
        trace.in_flight = not is_revocation
        self.stage.stop("response")
        trace.in_flight = False
        operation.own_time_s += timeout.total_seconds() if isinstance(response, Hang) else LATENCY_S
        self.clock.advance(to=until) if isinstance(response, Hang) else self.clock.advance(LATENCY_S)
        if self.clock() > until or operation.cut or isinstance(response, Hang):
            operation.cut = False
            trace.met = "lost" if not is_revocation else trace.met
            trace.met_at = self.clock()
            raise OutcomeUnknown("no response in time")
        trace.met_at = self.clock()
        if isinstance(response, TransportError):
            raise response
        return response

    def _requested(self, received: Received) -> None:
        assert self.stage.running is not None
        accepted = self.server.accepts(received.client, received.secret)
        self.promises.request(self.stage.running, received, accepted=accepted)

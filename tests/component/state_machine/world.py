"""What the instances of a machine share: stores that tell, one provider, and a stage on which all stand still."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from tests.component.state_machine.promises import Promises
from tests.component.state_machine.servers import Hang, Manners, Received, Server
from tests.component.state_machine.stage import Stage
from tests.component.state_machine.watched import WatchedConnectionStore, WatchedTokenStore, WatchedVault
from tests.fakes import World
from token_broker.catalogue import load_catalogue
from token_broker.core.connections import NetworkOptions
from token_broker.oauth.exchange import HttpRequest, HttpResponse, OutcomeUnknown, TransportError
from token_broker.service import Broker

LATENCY_S = 0.2
PLAIN = Manners()


@dataclass(frozen=True)
class Kind:
    """A provider with a server of certain manners. `limit`: requests per minute, where the server publishes one.

    `elsewhere`: the settings that lead to another host.
    """

    provider: str
    manners: Manners = PLAIN
    settings: Mapping[str, Any] = field(default_factory=dict)
    wrong_redirect: Mapping[str, Any] = field(default_factory=dict)
    scopes: tuple[str | None, ...] = (None,)
    connections: tuple[str, ...] = ("main",)
    lives: tuple[int | None, ...] = (3600,)
    limit: int | None = None
    revocable: bool = True


class MachineWorld(World):
    """The world of the fakes on a stage: every port call is a place to stand still."""

    def __init__(self, stage_of: Callable[[World], Stage], kind: Kind) -> None:
        super().__init__()
        self.stage = stage_of(self)
        self.promises = Promises(self.stage, login=kind.manners.login, limit=kind.limit)
        self.connections = WatchedConnectionStore(self.stage, self.promises)
        self.secrets = WatchedVault(self.stage)
        self.tokens = self.watched = WatchedTokenStore(self.connections, self.stage, self.promises)
        self.faults.every = self.stage.stop
        self.server = Server(self.stage, kind.manners, self._requested, self.promises.breaks)
        catalogue = load_catalogue()
        if kind.limit is not None:
            provider = replace(catalogue[kind.provider], requests_per_minute=kind.limit)
            catalogue = {**catalogue, kind.provider: provider}
        self.catalogue = catalogue

    def fresh_instance(self) -> Broker:
        return self.instance(catalogue=self.catalogue, sleep=self.stage.sleep)

    def send(self, request: HttpRequest, _network: NetworkOptions, timeout: timedelta) -> HttpResponse:
        """The request arrives at once; its answer is a place to stand still, and comes in time or not at all."""
        operation = self.stage.running
        assert operation is not None
        until, seen = self.clock() + timeout, operation.seen
        is_revocation = request.url.endswith("/revoke")
        answer = self.server.receive(request)
        seen.in_flight = not is_revocation
        self.stage.stop("answer")
        seen.in_flight = False
        operation.own_time_s += timeout.total_seconds() if isinstance(answer, Hang) else LATENCY_S
        self.clock.advance(to=until) if isinstance(answer, Hang) else self.clock.advance(LATENCY_S)
        if self.clock() > until or operation.cut or isinstance(answer, Hang):
            operation.cut = False
            seen.met = "lost" if not is_revocation else seen.met
            seen.met_at = self.clock()
            raise OutcomeUnknown("no answer in time")
        seen.met_at = self.clock()
        if isinstance(answer, TransportError):
            raise answer
        return answer

    def _requested(self, received: Received) -> None:
        assert self.stage.running is not None
        accepted = self.server.accepts(received.client, received.secret)
        self.promises.request(self.stage.running, received, accepted=accepted)

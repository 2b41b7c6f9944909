"""What the instances of a machine share: watched stores, one provider, and the stage that runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from tests.component.state_machine.history import host_in
from tests.component.state_machine.promises import Promises
from tests.component.state_machine.servers import Hang, Received, Server, ServerTraits, two_counts
from tests.component.state_machine.stage import Stage
from tests.component.state_machine.watched import (
    WatchedBudgets,
    WatchedConnectionStore,
    WatchedHealthStore,
    WatchedSealer,
    WatchedSecretStore,
    WatchedTokenStore,
)
from tests.fakes import CALLER, InMemoryDueIndex, InMemoryTokenTable, World
from tests.fakes.world import SETTINGS
from token_broker.catalogue import load_catalogue
from token_broker.core.connections import NetworkOptions
from token_broker.core.consents import CONSENT_REFRESH_TOKEN
from token_broker.core.names import ConnectionName, fingerprint
from token_broker.core.provider_files import parse_provider
from token_broker.core.providers import Limit, RefreshSpec
from token_broker.oauth.exchange import HttpRequest, HttpResponse, OutcomeUnknown, TransportError
from token_broker.oauth.grants import GRANTS
from token_broker.service import Broker

LATENCY_S = 0.2
SLUG = "consented"
CONSENT_FILE: Mapping[str, Any] = {
    "title": "A vendor whose tokens begin with a person's consent",
    "documentation": "https://id.example/docs",
    "grant": "refresh_token",
    "credentials": ["client_id", "client_secret"],
    "request": {"url": "{base_url}/token", "fields": {"scope": "{scope}"}},
    "settings": [{"name": "base_url", "kind": "base_url", "required": True, "help": "Where it is."}],
}
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

    def body(self, **changes: Any) -> dict[str, Any]:
        """The body of a PUT."""
        return {"allowed_callers": [CALLER], **SETTINGS.get(self.provider, {}), **self.settings, **changes}


class MachineWorld(World):
    """The world of the fakes on a stage: an operation can pause at every port call."""

    def __init__(self, case: ProviderCase) -> None:
        super().__init__()
        self.case = case
        self.stage = Stage(self.clock)
        self.promises = Promises(
            self.stage, login=case.traits.login, limit=case.limit, reissues=case.traits.reissue_window_s == 0
        )
        self.connections = WatchedConnectionStore(self.promises)
        self.secrets: WatchedSecretStore = WatchedSecretStore(self.promises)
        self.sealer: WatchedSealer = WatchedSealer(self.promises)
        self.table = InMemoryTokenTable()
        self.tokens: WatchedTokenStore = WatchedTokenStore(self.connections, self.table, self.promises)
        self.health = WatchedHealthStore(self.table, self.promises)
        self.due_index = InMemoryDueIndex(self.table)
        self.budgets = WatchedBudgets(self.promises)
        self.faults.every = self.stage.stop
        self.server = Server(self.stage, case.traits, self._requested, self.promises.breaks)
        self.server.lifetime_s = case.lifetimes_s[0]
        self.secret_numbers = 0
        # The refresh token in the secret of each connection that needs a person's consent.
        self.seeds: dict[ConnectionName, str] = {}
        self.catalogue = dict(load_catalogue())
        if case.traits.consent:
            spec = RefreshSpec(resend=case.traits.consent == "resend")
            self.catalogue[SLUG] = replace(
                parse_provider(SLUG, CONSENT_FILE, file=f"{SLUG}.toml", grants=GRANTS), refresh=spec
            )
        if case.limit is not None:
            self.catalogue[case.provider] = replace(
                self.catalogue[case.provider], limit=Limit(case.limit, "minute", "host")
            )

    def copy(self) -> MachineWorld:
        """Another world in the same state, without its operations, messages and faults."""
        other = MachineWorld(self.case)
        other.clock.advance(to=self.clock())
        other.connections._stored = dict(self.connections._stored)
        other.secrets._stages = {name: dict(stages) for name, stages in self.secrets._stages.items()}
        self.secrets._versions, other.secrets._versions = two_counts(self.secrets._versions)
        other.table.records.update(self.table.records)
        other.table.health.update(self.table.health)
        other.table.keys.update({name: dict(keys) for name, keys in self.table.keys.items()})
        other.table.retired.update({name: dict(retired) for name, retired in self.table.retired.items()})
        other.table.due = [list(entries) for entries in self.table.due]
        other.budgets._budgets = {host: replace(budget) for host, budget in self.budgets._budgets.items()}
        other.server.copy_from(self.server)
        other.sealer.sealed = self.sealer.sealed
        other.secret_numbers = self.secret_numbers
        other.seeds = dict(self.seeds)
        other.consents.consents = dict(self.consents.consents)
        other.consent_sealer.sealed = self.consent_sealer.sealed
        self._ids, other._ids = two_counts(self._ids)
        return other

    def fresh_instance(self) -> Broker:
        return self.instance(catalogue=self.catalogue, sleep=self._sleep)

    def other_release(self) -> Broker:
        """An instance of a release that does not know the provider."""
        catalogue = {slug: provider for slug, provider in self.catalogue.items() if slug != self.case.provider}
        return self.instance(catalogue=catalogue, sleep=self._sleep)

    def client(self, name: ConnectionName) -> str:
        return f"client-{name.connection}"

    def new_secret(
        self, name: ConnectionName, *, is_right: bool, stage: str = "AWSCURRENT", accepted_after_s: float = 0
    ) -> None:
        """Stores another secret. `is_right`: the provider accepts it, now or later, and no other one any more."""
        self.secret_numbers += 1
        secret, client = f"secret-{self.secret_numbers}", self.client(name)
        fields = ("username", "password") if self.case.traits.login else ("client_id", "client_secret")
        value = dict(zip(fields, (client, secret), strict=True))
        if self.case.traits.consent:
            if name not in self.seeds:
                self.consent(name)
            value["refresh_token"] = self.seeds[name]
        self.secrets.put(name, value, stage=stage)
        if is_right:
            self.server.accepted[client] = secret
            self.server.accepted_from[client] = self.clock() + timedelta(seconds=accepted_after_s)

    def consent(self, name: ConnectionName) -> None:
        """A person consents. The refresh token is in the connection's next secret."""
        self.secret_numbers += 1
        self.seeds[name] = f"seed-{self.secret_numbers}"
        self.server.consent(self.seeds[name])

    def needs_person(self, name: ConnectionName) -> bool:
        """Whether no refresh token may be sent for a connection: by the vendor's rule, and by what the broker knows."""
        consent, stored = self.consents.read(name), self.connections.get(name)
        if consent.seed_id != fingerprint(self.seeds[name]):
            return False
        if consent.token is None or stored is None or urlsplit(consent.issuer).netloc != host_in(stored):
            return True
        token = self.consent_sealer.open(consent.token.sealed, consent.place, CONSENT_REFRESH_TOKEN)
        is_uncertain = self.case.traits.consent == "once" and consent.sent_at is not None
        return is_uncertain or not self.server.accepts_refresh_token(token)

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
        trace.met_at = self.clock()
        if self.clock() > until or operation.cut or isinstance(response, Hang):
            operation.cut = False
            trace.met = "lost" if not is_revocation else trace.met
            raise OutcomeUnknown("no response in time")
        if isinstance(response, TransportError):
            raise response
        if trace.issued is not None:
            trace.received.append(trace.issued)
        return response

    def _sleep(self, seconds: float) -> None:
        self.promises.waits(seconds)
        self.stage.sleep(seconds)

    def _requested(self, received: Received) -> None:
        assert self.stage.running is not None
        accepted = self.server.accepts(received.client, received.secret)
        self.promises.request(self.stage.running, received, accepted=accepted)

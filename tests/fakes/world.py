"""What the broker instances of a test share, and brokers that use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

from tests.fakes.clock import HandClock
from tests.fakes.connection_store import InMemoryConnectionStore
from tests.fakes.consent_sessions import FakeConsentQueue, InMemoryConsentSessionStore
from tests.fakes.consent_store import InMemoryConsentStore
from tests.fakes.faults import Faults
from tests.fakes.queue import FakeQueue
from tests.fakes.sealing import FakeSealer
from tests.fakes.secret_store import FakeSecretStore
from tests.fakes.senders import Recorder, answering, issuing, recording, redirecting
from tests.fakes.signing_keys import FakeSigningKeys
from tests.fakes.token_store import (
    InMemoryBudgets,
    InMemoryDueIndex,
    InMemoryHealthStore,
    InMemoryTokenStore,
    InMemoryTokenTable,
)
from token_broker.catalogue import load_catalogue
from token_broker.core.callers import Caller
from token_broker.core.connections import NetworkOptions
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.providers import Provider
from token_broker.core.records import Lease, RetiredToken, TokenRecord
from token_broker.oauth.exchange import HttpRequest, HttpResponse
from token_broker.service import Broker, TokenRequest, TokenResponse
from token_broker.service.context import BrokerContext, Deployment, TimeLimits
from token_broker.service.renew import Renewal, RenewalOutcome

PORTS = (
    "tokens",
    "health",
    "due_index",
    "budgets",
    "connections",
    "consents",
    "secrets",
    "sealer",
    "consent_sealer",
    "signing_keys",
    "queue",
    "consent_sessions",
    "consent_queue",
)
CALLER = "arn:aws:iam::123456789012:role/shop"
REQUEST_TIME = timedelta(seconds=26)
REDIRECT_URI = "https://shop.example/callback"

# The required settings of each provider.
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "oauth2": {"token_url": "https://id.example/token", "revocation_url": "https://id.example/revoke"},
    "unified-services": {"token_url": "https://login.example/token"},
    "unicommerce": {"base_url": "https://market.example"},
    "commerce-layer": {},
    "ucommerce": {"base_url": "https://store.example", "redirect_uri": REDIRECT_URI},
    "unidy": {"base_url": "https://unidy.example", "scope": "users:read"},
    "oauth2-private-key-jwt": {
        "token_url": "https://id.example/token",
        "audience": "https://id.example",
        "algorithm": "ES256",
        "signing_key": "kms",
    },
}
CREDENTIALS: Mapping[str, Mapping[str, str]] = {
    "unicommerce": {"username": "seller", "password": "p@ss"},
}
OAUTH_CREDENTIALS = {"client_id": "id", "client_secret": "secret"}


def make_broker(**overrides: Any) -> Broker:
    """A broker over fakes. Any field of BrokerContext can be given."""
    clock = overrides.setdefault("clock", HandClock())
    connections = overrides.setdefault("connections", InMemoryConnectionStore())
    table = InMemoryTokenTable()
    numbers = count(1)
    defaults: dict[str, Any] = {
        "catalogue": load_catalogue(),
        "tokens": InMemoryTokenStore(connections, table),
        "health": InMemoryHealthStore(table),
        "due_index": InMemoryDueIndex(table),
        "budgets": InMemoryBudgets(),
        "consents": InMemoryConsentStore(),
        "secrets": FakeSecretStore(),
        "sealer": FakeSealer(),
        "consent_sealer": FakeSealer(),
        "signing_keys": FakeSigningKeys(),
        "queue": FakeQueue(),
        "consent_sessions": InMemoryConsentSessionStore(),
        "consent_queue": FakeConsentQueue(),
        "send": issuing(),
        "sleep": getattr(clock, "sleep", lambda _seconds: None),
        "new_id": lambda: f"id-{next(numbers)}",
        "new_secret": lambda: f"secret-{next(numbers)}".ljust(43, "x"),
        "deployment": Deployment(),
    }
    return Broker(BrokerContext(**defaults | overrides))


class World:
    """Stores, secrets, sealer, queue, network and clock that several broker instances share.

    `connect`, `provider` and `revoker` are the provider's three endpoints. Each records its requests, and its `to` can
    be replaced. `faults` names calls `tokens.…`, `connections.…`, `secrets.…`, `sealer.…`, `queue.…`.
    """

    def __init__(self) -> None:
        self.clock = HandClock()
        self.faults = Faults()
        self.catalogue: Mapping[str, Provider] = load_catalogue()
        self.connections = InMemoryConnectionStore()
        table = InMemoryTokenTable()
        self.tokens = InMemoryTokenStore(self.connections, table)
        self.health = InMemoryHealthStore(table)
        self.due_index = InMemoryDueIndex(table)
        self.budgets = InMemoryBudgets()
        self.consents = InMemoryConsentStore()
        self.secrets = FakeSecretStore()
        self.sealer = FakeSealer()
        self.consent_sealer = FakeSealer()
        self.signing_keys = FakeSigningKeys()
        self.queue = FakeQueue()
        self.consent_sessions = InMemoryConsentSessionStore()
        self.consent_queue = FakeConsentQueue()
        self.connect = recording(redirecting(REDIRECT_URI))
        self.provider = recording(issuing())
        self.revoker = recording(answering(200, {}))
        self._ids = count(1)

    def instance(self, **overrides: Any) -> Broker:
        """A broker instance with its own memory."""
        ports = {name: self.faults.around(name, getattr(self, name)) for name in PORTS}
        shared = {
            "catalogue": self.catalogue,
            "clock": self.clock,
            "send": self.send,
            "new_id": lambda: f"id-{next(self._ids)}",
        }
        return make_broker(**{**ports, **shared, **overrides})

    def send(self, request: HttpRequest, network: NetworkOptions, timeout: timedelta) -> HttpResponse:
        return self._endpoint(request.url)(request, network, timeout)

    def _endpoint(self, url: str) -> Recorder:
        if url.endswith("/revoke"):
            return self.revoker
        return self.connect if url.endswith("/connect") else self.provider

    def connection(self, provider: str = "oauth2", connection: str = "main", **settings: Any) -> ConnectionName:
        """Creates a connection with its secret. `settings` are added to the required ones. None leaves one out."""
        name = ConnectionName(provider, connection)
        self.secrets.put(name, CREDENTIALS.get(provider, OAUTH_CREDENTIALS))
        self.settings(name, **settings)
        return name

    def settings(self, name: ConnectionName, **settings: Any) -> str:
        """Replaces a connection's settings in the store. Returns their version."""
        merged = {"allowed_callers": [CALLER], **SETTINGS.get(name.provider, {}), **settings}
        kept = {key: value for key, value in merged.items() if value is not None}
        version = f"s{next(self._ids)}"
        self.connections.put(name, kept, version=version, expected=None, absent=False)
        return version

    def get_token(
        self,
        broker: Broker,
        name: ConnectionName,
        *,
        scope: str | None = None,
        min_ttl: float | None = None,
        rejected: str | None = None,
        caller: str = CALLER,
        within: timedelta = REQUEST_TIME,
    ) -> TokenResponse:
        """A caller's GET. `within`: the time until its deadline."""
        return broker.get_token(
            TokenRequest(
                caller=Caller.from_event(caller),
                name=name,
                deadline=self.clock() + within,
                scope=scope,
                min_ttl=None if min_ttl is None else timedelta(seconds=min_ttl),
                rejected=rejected,
            )
        )

    def record(self, name: ConnectionName, scope: str = "") -> TokenRecord:
        """A key's record in the store."""
        return self.tokens.read(TokenKey(name, scope))[1]

    def retired(self, name: ConnectionName) -> list[RetiredToken]:
        """A connection's retired tokens in the store."""
        return list(self.tokens.items(name).retired)

    def change(self, name: ConnectionName, scope: str = "", **changes: Any) -> None:
        """Changes a key's record in the store, as another instance would."""
        record = self.record(name, scope)
        stored = self.tokens.save(record, replace(record, revision=f"id-{next(self._ids)}", **changes))
        assert stored is None

    def lease(self, name: ConnectionName, owner: str = "other") -> None:
        """Somebody else takes the lease on a key."""
        self.change(name, lease=Lease(owner, since=self.clock(), until=self.clock() + TimeLimits().lease))

    def renew(self, broker: Broker, name: ConnectionName, scope: str = "") -> Renewal:
        """Lets the worker handle a message for a key."""
        return broker.renew(name, TokenKey(name, scope).scope_id)

    def lose_tokens(self) -> None:
        """TokenTable is emptied."""
        table = self.tokens.table
        for items in (table.records, table.keys, table.retired, table.health):
            items.clear()
        for shard in table.due:
            shard.clear()

    def retry_revocations(self, broker: Broker, name: ConnectionName) -> list[RenewalOutcome]:
        """Lets the worker handle a message for each retired token of a connection."""
        return [broker.renew(name, item.key.scope_id, item.token_id).outcome for item in self.retired(name)]

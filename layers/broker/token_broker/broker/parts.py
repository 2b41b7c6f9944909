"""What every part of the broker stands on: the catalogue, the ports, and the limits of time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from urllib.parse import urlsplit

from token_broker.core.connections import Connection, parse_connection
from token_broker.core.credentials import Credentials
from token_broker.core.exchange import Network
from token_broker.core.grants import Order
from token_broker.core.names import ConnectionName
from token_broker.core.policy import RenewalPolicy
from token_broker.core.providers import Provider
from token_broker.errors import (
    ConnectionMisconfigured,
    InvalidRequest,
    ProviderRateLimited,
    UnknownConnection,
    UnknownProvider,
)
from token_broker.ports import (
    Clock,
    ConnectionStore,
    NewId,
    RenewalQueue,
    Sealer,
    SecretVault,
    Send,
    Sleep,
    StoredSettings,
    TokenStore,
)


@dataclass(frozen=True, slots=True)
class Times:
    """What bounds real work: one exchange, one acquisition over all its steps, a lease, a caller's wait for another's.

    A lease outlives its acquisition by the time that the commit and its repetitions may take.
    """

    exchange: timedelta = timedelta(seconds=8)
    acquisition: timedelta = timedelta(seconds=12)
    lease: timedelta = timedelta(seconds=17)
    wait: timedelta = timedelta(seconds=10)

    def scaled(self, scale: float) -> Times:
        """All of them shortened together, so that a test can see a lease run out (local stack only)."""
        return Times(self.exchange * scale, self.acquisition * scale, self.lease * scale, self.wait * scale)


@dataclass(frozen=True, slots=True)
class Switches:
    """What the deployment decides. `insecure_urls` and `time_scale` belong to the local stack alone."""

    private_networks: bool = False
    insecure_urls: bool = False
    time_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Parts:
    """The ports, composed once by `bootstrap`; tests pass their own."""

    catalogue: Mapping[str, Provider]
    tokens: TokenStore
    connections: ConnectionStore
    vault: SecretVault
    sealer: Sealer
    queue: RenewalQueue
    send: Send
    clock: Clock
    sleep: Sleep
    new_id: NewId
    switches: Switches = Switches()
    times: Times = Times()

    def provider(self, slug: str) -> Provider:
        """Raises UnknownProvider."""
        provider = self.catalogue.get(slug)
        if provider is None:
            raise UnknownProvider(f"There is no provider {slug}.")
        return provider

    def parse(self, name: ConnectionName, settings: object, version: str = "") -> Connection:
        """Checks settings that somebody wants to store. Raises InvalidRequest with every fault."""
        return parse_connection(
            name,
            self.provider(name.provider),
            settings,
            version=version,
            insecure_urls=self.switches.insecure_urls,
        )

    def connection(self, name: ConnectionName, stored: StoredSettings | None) -> Connection:
        """A stored connection, checked again: the table may have been edited by hand."""
        self.provider(name.provider)
        if stored is None:
            raise UnknownConnection(f"There is no connection {name}.")
        try:
            return self.parse(name, stored.settings, stored.version)
        except InvalidRequest as error:
            raise ConnectionMisconfigured(
                f"The stored settings of {name} are not valid.", errors=error.errors
            ) from None

    def stored(self, name: ConnectionName) -> StoredSettings:
        """A connection's settings, not checked. Raises UnknownProvider or UnknownConnection."""
        self.provider(name.provider)
        stored = self.connections.get(name)
        if stored is None:
            raise UnknownConnection(f"There is no connection {name}.")
        return stored

    def network(self, connection: Connection) -> Network:
        """How to dial for a connection; private addresses only where the deployment allows them too."""
        wanted = connection.network
        return replace(wanted, private=wanted.private and self.switches.private_networks)

    def policy(self, connection: Connection) -> RenewalPolicy:
        """The durations of a connection; the local stack scales those that follow a token's life."""
        return _policy(
            connection.endpoints.token,
            connection.asked_version,
            connection.provider.reissue_window_s,
            connection.issue_revokes_previous,
            self.times.lease,
            self.switches.time_scale,
        )

    def scaled(self, duration: timedelta | None) -> timedelta | None:
        """A lifetime of settings or catalogue on the local stack's clock."""
        return None if duration is None else duration * self.switches.time_scale

    def take_budget(self, connection: Connection, *, renewal: bool = False) -> None:
        """One request of the endpoint's minute: half the published limit, two thirds of that for renewals.

        Raises ProviderRateLimited. A provider without a published limit has no budget.
        """
        published = connection.provider.requests_per_minute
        if published is None:
            return
        now, limit = self.clock(), published // 2
        host = host_of(connection.endpoints.token)
        free_at = self.tokens.take_budget(host, now=now, limit=limit * 2 // 3 if renewal else limit)
        if free_at is not None:
            raise ProviderRateLimited(
                "The broker's share of the provider's request limit is used up for now.", retry_after=free_at - now
            )


@lru_cache(maxsize=1000)  # every hand-out needs its connection's
def _policy(
    issuer: str,
    settings_version: str,
    reissue_window_s: int | None,
    revokes_previous: bool,
    lease: timedelta,
    scale: float,
) -> RenewalPolicy:
    base = RenewalPolicy(
        issuer=issuer,
        settings_version=settings_version,
        reissue_window=timedelta(seconds=reissue_window_s) * scale if reissue_window_s else None,
        revokes_previous=revokes_previous,
        lease=lease,
    )
    if scale == 1.0:
        return base
    return replace(
        base,
        sweep_interval=base.sweep_interval * scale,
        slack=base.slack * scale,
        lease=base.lease * scale,
        widest_window=base.widest_window * scale,
        reissue_margin=base.reissue_margin * scale,
        early_spacing=base.early_spacing * scale,
        default_min_ttl=base.default_min_ttl * scale,
    )


def order_for(connection: Connection, credentials: Credentials, scope: str, now: datetime) -> Order:
    """What a grant or a revocation of this connection needs."""
    provider, options = connection.provider, connection.options
    return Order(
        provider=provider,
        endpoints=connection.endpoints,
        credentials=credentials,
        client_auth=connection.client_auth,
        method=options.get("method") or provider.method,
        encoding=options.get("encoding") or provider.encoding,
        scope=scope,
        now=now,
        params=options.get("params") or {},
        redirect_uri=options.get("redirect_uri") or "",
    )


def host_of(url: str) -> str:
    """Host and port of an endpoint: what a provider's limit and our budget are counted by."""
    return urlsplit(url).netloc.lower()

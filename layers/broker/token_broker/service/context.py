"""What every use case works with: the catalogue, the ports, and the limits of time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from token_broker.core.connections import Connection, NetworkOptions, parse_connection
from token_broker.core.credentials import Credentials
from token_broker.core.names import ConnectionName
from token_broker.core.policy import RenewalPolicy, policy_for
from token_broker.core.providers import Provider
from token_broker.errors import ConnectionMisconfigured, InvalidRequest, UnknownConnection, UnknownProvider
from token_broker.oauth.requests import GrantRequest
from token_broker.oauth.signed_requests import prepare_request
from token_broker.ports import (
    Budgets,
    Clock,
    ConnectionStore,
    ConsentQueue,
    ConsentSessionStore,
    ConsentStore,
    DueIndex,
    HealthStore,
    NewId,
    NewSecret,
    RenewalQueue,
    ReportResend,
    Sealer,
    SecretStore,
    Send,
    SigningKeys,
    Sleep,
    StoredSettings,
    TokenStore,
)


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long real work may take: one exchange, one acquisition with all its steps, a lease.

    `wait_on_lease`: callers wait for another's acquisition while its lease is younger than this. A lease outlives its
    acquisition by the time that the commit and its retries may take.
    """

    exchange: timedelta = timedelta(seconds=8)
    acquisition: timedelta = timedelta(seconds=12)
    lease: timedelta = timedelta(seconds=17)
    wait_on_lease: timedelta = timedelta(seconds=4)

    def scaled(self, scale: float) -> TimeLimits:
        """All of them shortened, so that a test can see a lease expire (local stack only)."""
        return TimeLimits(
            self.exchange * scale, self.acquisition * scale, self.lease * scale, self.wait_on_lease * scale
        )


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the deployment decides. `insecure_urls` and `time_scale` exist for the local stack only."""

    private_networks: bool = False
    insecure_urls: bool = False
    time_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class BrokerContext:
    """The catalogue and the ports, composed once by `bootstrap`. Tests compose their own.

    `catalogue` raises ConnectionMisconfigured for a provider whose own file has faults. `consent_sealer`: seals
    what GrantTable holds, with a key of its own. `report_resend`: into the audit.
    """

    catalogue: Mapping[str, Provider]
    tokens: TokenStore
    health: HealthStore
    due_index: DueIndex
    budgets: Budgets
    connections: ConnectionStore
    consents: ConsentStore
    secrets: SecretStore
    sealer: Sealer
    consent_sealer: Sealer
    signing_keys: SigningKeys
    queue: RenewalQueue
    consent_sessions: ConsentSessionStore
    consent_queue: ConsentQueue
    send: Send
    clock: Clock
    sleep: Sleep
    new_id: NewId
    new_secret: NewSecret
    report_resend: ReportResend = lambda _name, _refresh_id, _first_sent_at: None
    deployment: Deployment = Deployment()
    limits: TimeLimits = TimeLimits()

    def policy(self, connection: Connection) -> RenewalPolicy:
        return policy_for(connection, self.limits.lease, self.limits.wait_on_lease, self.deployment.time_scale)

    def scaled(self, duration: timedelta) -> timedelta:
        """A lifetime by the local stack's faster clock."""
        return duration * self.deployment.time_scale

    def request_for(self, connection: Connection, credentials: Credentials, scope: str) -> GrantRequest:
        """What a grant or a revocation needs. Raises ConnectionMisconfigured or BrokerUnavailable."""
        return prepare_request(
            connection,
            credentials,
            scope,
            kms_signer=self.signing_keys.signer,
            clock=self.clock,
            new_id=self.new_id,
        )

    def network(self, connection: Connection) -> NetworkOptions:
        """How to connect to a connection's hosts. Private addresses need the deployment's consent too."""
        private = connection.network.private and self.deployment.private_networks
        return replace(connection.network, private=private)


@dataclass(frozen=True, slots=True)
class SettingsReader:
    """Finds providers and stored settings, and checks settings."""

    context: BrokerContext

    def provider(self, slug: str) -> Provider:
        """Raises UnknownProvider, or ConnectionMisconfigured where its file has faults."""
        provider = self.context.catalogue.get(slug)
        if provider is None:
            raise UnknownProvider(f"There is no provider {slug}.")
        return provider

    def stored(self, name: ConnectionName) -> StoredSettings:
        """A connection's settings, not checked. Raises UnknownProvider or UnknownConnection.

        What is stored can be shown and deleted even if its provider is gone or its file has faults.
        """
        stored = self.context.connections.get(name)
        if stored is None:
            self.provider(name.provider)
            raise UnknownConnection(f"There is no connection {name}.")
        return stored

    def parse(self, name: ConnectionName, settings: object, version: str = "") -> Connection:
        """Checks new settings. Raises UnknownProvider, ConnectionMisconfigured, or InvalidRequest with every fault."""
        return parse_connection(
            name,
            self.provider(name.provider),
            settings,
            version=version,
            insecure_urls=self.context.deployment.insecure_urls,
        )

    def connection(self, name: ConnectionName, stored: StoredSettings | None) -> Connection:
        """Checks stored settings: the table may have been edited by hand.

        Raises UnknownProvider, UnknownConnection or ConnectionMisconfigured.
        """
        self.provider(name.provider)
        if stored is None:
            raise UnknownConnection(f"There is no connection {name}.")
        try:
            return self.parse(name, stored.settings, stored.version)
        except InvalidRequest as error:
            raise ConnectionMisconfigured(
                f"The stored settings of {name} are not valid.", errors=error.errors
            ) from None

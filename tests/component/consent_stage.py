"""A connection whose tokens begin with a person's consent, over fakes: its operator, its vendor and the worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes import World
from tests.fakes.consent_vendor import PROVIDER_FILE, SLUG, ConsentVendor, provider_files
from token_broker.catalogue import BUILT_IN, Catalogue
from token_broker.core.consents import CONSENT_REFRESH_TOKEN
from token_broker.core.names import ConnectionName
from token_broker.service import Broker
from token_broker.service.consent_sessions import ConsentSessions, ShownConsent, StartedConsent
from token_broker.service.exchange_code import Exchange, ExchangeOutcome

ANN = "arn:aws:sts::123456789012:assumed-role/ops/ann"
REDIRECT_URI = "https://shop.example/consent"


@dataclass
class ConsentStage:
    """A connection of the vendor, its operator Ann, and the worker."""

    world: World
    vendor: ConsentVendor
    broker: Broker
    name: ConnectionName

    @property
    def sessions(self) -> ConsentSessions:
        return self.broker.consent_sessions

    def start(self) -> StartedConsent:
        return self.sessions.start(self.name, initiator=ANN, redirect_uri=None)

    def finish(self, started: StartedConsent, redirect_url: str) -> ShownConsent:
        return self.sessions.finish(self.name, started.session.consent_id, initiator=ANN, redirect_url=redirect_url)

    def show(self, started: StartedConsent) -> dict[str, Any]:
        shown = self.sessions.show(self.name, started.session.consent_id)
        failure = shown.session.failure_at(shown.now)
        return {
            "state": shown.session.state_at(shown.now).value,
            "account": shown.session.account,
            "pinned": shown.pinned_account,
            "failure": (failure.code, failure.provider_error) if failure is not None else None,
        }

    def confirm(self, started: StartedConsent, *, new_account: bool = False) -> Any:
        return self.sessions.confirm(self.name, started.session.consent_id, initiator=ANN, new_account=new_account)

    def work(self) -> list[Exchange]:
        """Lets the worker handle all messages of the queue once."""
        return [self.broker.exchange_code(consent_id) for consent_id, _ in self.world.consent_queue.take()]

    def approved(self) -> StartedConsent:
        """A consent that a person approved, in quarantine."""
        started = self.start()
        self.finish(started, self.vendor.authorize(started.authorize_url or ""))
        assert [exchange.outcome for exchange in self.work()] == [ExchangeOutcome.QUARANTINED]
        return started

    def refresh_token(self) -> str:
        """The refresh token of the live consent."""
        consent = self.world.consents.read(self.name)
        assert consent.token is not None
        return self.world.consent_sealer.open(consent.token.sealed, consent.place, CONSENT_REFRESH_TOKEN)

    @classmethod
    def over(cls, world: World, folder: Path, provider_file: str = PROVIDER_FILE) -> ConsentStage:
        """A connection `main` of the vendor, whose provider file is written into the folder."""
        vendor = ConsentVendor()
        broker = world.instance(catalogue=Catalogue(BUILT_IN, provider_files(folder, provider_file)))
        world.provider.to = vendor
        name = world.connection(SLUG, base_url=vendor.url, redirect_uri=REDIRECT_URI, scope="orders")
        world.secrets.put(name, dict(zip(("client_id", "client_secret"), vendor.client, strict=True)))
        return cls(world, vendor, broker, name)

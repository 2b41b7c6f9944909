"""Every provider with a person's consent is connected by a session, at the vendor that its examples simulate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from local.providers import ProvidersServer, start_providers
from local.providers.consent_vendor import ConsentVendor
from tests.fakes.clock import HandClock
from tests.fakes.world import CALLER, World
from tests.unit.grant_requests import CATALOGUE
from token_broker.adapters.provider_http import ProviderHttp
from token_broker.catalogue import BUILT_IN
from token_broker.catalogue.examples import read_examples
from token_broker.core.connections import NetworkOptions
from token_broker.core.names import ConnectionName
from token_broker.oauth.exchange import HttpRequest, HttpResponse
from token_broker.service.exchange_code import ExchangeOutcome

from .test_consent_vendors import SLUGS, WITH_REDIRECT

ANN = "arn:aws:sts::123456789012:assumed-role/ops/ann"
EXAMPLES = BUILT_IN / "examples"
# Those with an example of the device flow: nothing else can be simulated.
WITH_DEVICE = [
    slug
    for slug in SLUGS
    for example in read_examples(EXAMPLES / f"{slug}.toml").examples
    if example.consent is not None and example.consent.authorize is None and example.result.token is not None
]


@pytest.fixture(scope="module")
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(scope="module")
def server(clock: HandClock) -> Iterator[ProvidersServer]:
    with start_providers(clock=clock) as running:
        yield running


class Connecting:
    """A connection without a refresh token, its vendor, and a broker whose requests go there."""

    def __init__(self, slug: str, server: ProvidersServer, clock: HandClock) -> None:
        found = server.simulator(f"vendors/{slug}")
        assert isinstance(found, ConsentVendor)
        found.reset()
        self.vendor = found
        self.world = World()
        self.world.clock = clock
        self.name = ConnectionName(slug, "main")
        known = found.exchanges[0].known if found.exchanges else found.devices[0].known
        self.world.secrets.put(self.name, known.secret)
        settings: dict[str, Any] = {"allowed_callers": [CALLER], **known.example.settings}
        if found.exchanges:
            settings["redirect_uri"] = found.exchanges[0].redirect_uri
        self.world.connections.put(self.name, settings, version="s1", expected=None, absent=False)

        def send(request: HttpRequest, network: NetworkOptions, timeout: timedelta) -> HttpResponse:
            url = request.url.replace("https://", f"{server.url}/vendors/{slug}/", 1)
            return ProviderHttp(loopback=True)(replace(request, url=url), network, timeout)

        self.broker = self.world.instance(send=send)

    def exchange(self) -> list[ExchangeOutcome]:
        messages = self.world.consent_queue.take()
        return [self.broker.exchange_code(consent_id).outcome for consent_id, _ in messages]

    def confirm_and_use(self, consent_id: str) -> None:
        """The consent becomes live, and gives a token that is renewed."""
        sessions, world = self.broker.consent_sessions, self.world
        confirmed = sessions.confirm(self.name, consent_id, initiator=ANN, new_account=False).shown
        account = CATALOGUE[self.name.provider].consent.account  # type: ignore[union-attr]  # it has one
        assert (confirmed.session.account is not None) is (account is not None)
        assert confirmed.pinned_account == confirmed.session.verified_account
        first = world.get_token(self.broker, self.name)
        world.clock.advance(to=first.token.expires_at)
        assert world.get_token(self.broker, self.name).access_token != first.access_token


@pytest.mark.parametrize("slug", WITH_REDIRECT)
def test_a_redirect_connects(slug: str, server: ProvidersServer, clock: HandClock) -> None:
    place = Connecting(slug, server, clock)
    sessions = place.broker.consent_sessions
    started = sessions.start(place.name, initiator=ANN, redirect_uri=None)
    redirect_url = place.vendor.open_in_browser(started.authorize_url or "")
    sessions.finish(place.name, started.session.consent_id, initiator=ANN, redirect_url=redirect_url)
    assert place.exchange() == [ExchangeOutcome.QUARANTINED], place.vendor.report()["requests"]
    place.confirm_and_use(started.session.consent_id)


@pytest.mark.parametrize("slug", WITH_DEVICE)
def test_a_device_connects(slug: str, server: ProvidersServer, clock: HandClock) -> None:
    place = Connecting(slug, server, clock)
    started = place.broker.consent_sessions.start_device(place.name, initiator=ANN)
    assert started.device is not None
    assert place.exchange() == [ExchangeOutcome.ASKED_AGAIN_LATER]
    place.vendor.enter(started.device.user_code)
    clock.advance(started.device.interval.total_seconds())
    assert place.exchange() == [ExchangeOutcome.QUARANTINED], place.vendor.report()["requests"]
    place.confirm_and_use(started.session.consent_id)

"""Every provider of the catalogue gets tokens of a vendor that is simulated from its examples, through the broker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
import requests

from local.lambda_process import simulate_vendors
from local.providers import ProvidersServer, start_providers
from local.providers.consent_vendor import ConsentVendor
from local.providers.example_vendor import ExampleVendor, example_slugs
from tests.fakes.clock import HandClock
from tests.fakes.world import CALLER, World
from tests.unit.grant_requests import CATALOGUE
from token_broker import bootstrap
from token_broker.adapters.provider_http import ProviderHttp
from token_broker.catalogue.example_keys import ExampleKeys
from token_broker.core.connections import NetworkOptions
from token_broker.core.names import ConnectionName
from token_broker.core.providers import RefreshSpec
from token_broker.errors import (
    BrokerError,
    ConnectionMisconfigured,
    ConsentRequired,
    ProviderRefused,
    ProviderUnavailable,
)
from token_broker.oauth.exchange import HttpRequest, HttpResponse
from token_broker.service import Broker, TokenResponse
from token_broker.settings import Settings

SLUGS = example_slugs()


@pytest.fixture(scope="module")
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(scope="module")
def server(clock: HandClock) -> Iterator[ProvidersServer]:
    with start_providers(clock=clock) as running:
        yield running


@dataclass
class Stage:
    """A connection with the first example's settings and secret, and a broker whose requests go to the simulator."""

    slug: str
    server: ProvidersServer
    world: World

    def __post_init__(self) -> None:
        self.vendor.reset()
        self.name = ConnectionName(self.slug, "main")
        self.first = self.vendor.known[0]
        self.secret = dict(self.first.secret)
        if isinstance(self.vendor, ConsentVendor):
            self.secret["refresh_token"] = self.vendor.give_consent()
        self.world.secrets.put(self.name, self.secret)
        settings: dict[str, Any] = {"allowed_callers": [CALLER], **self.first.example.settings}
        self.world.connections.put(self.name, settings, version="s1", expected=None, absent=False)
        self.broker: Broker = self.world.instance(send=self.send)

    @property
    def vendor(self) -> ExampleVendor:
        found = self.server.simulator(f"vendors/{self.slug}")
        assert isinstance(found, ExampleVendor)
        return found

    def send(self, request: HttpRequest, network: NetworkOptions, timeout: timedelta) -> HttpResponse:
        """Over the network, to the simulator in place of the vendor's host."""
        url = request.url.replace("https://", f"{self.server.url}/vendors/{self.slug}/", 1)
        return ProviderHttp(loopback=True)(replace(request, url=url), network, timeout)

    def get_token(self, **options: Any) -> TokenResponse:
        return self.world.get_token(self.broker, self.name, **options)

    def resource(self, response: TokenResponse) -> int:
        """The status of a call of the vendor's API with exactly the headers of the response.

        Where there are none, the vendor wants the token in a signed query. Here it stands in a header all the same.
        """
        headers = response.headers or {"Authorization": f"Bearer {response.access_token}"}
        with requests.Session() as session:
            session.trust_env = False
            return session.get(
                f"{self.server.url}/vendors/{self.slug}/resource", headers=headers, timeout=5
            ).status_code

    @property
    def rule(self) -> RefreshSpec | None:
        """What the vendor says of refresh tokens, where a person's consent gave the first one."""
        provider = CATALOGUE[self.slug]
        return provider.refresh if provider.grant.needs_consent else None

    @property
    def counts(self) -> tuple[int, int]:
        """How many tokens were issued, and how many requests refused."""
        report = self.vendor.report()
        return report["issued"], report["refused"]


@pytest.fixture(params=SLUGS)
def stage(request: pytest.FixtureRequest, server: ProvidersServer, clock: HandClock) -> Stage:
    world = World()
    world.clock = clock
    return Stage(request.param, server, world)


def test_a_token_is_issued_renewed_and_accepted(stage: Stage) -> None:
    first = stage.get_token()
    assert stage.counts == (1, 0), stage.vendor.report()["requests"]
    assert stage.resource(first) == 200
    assert stage.get_token().access_token == first.access_token
    stage.world.clock.advance(to=first.token.expires_at)
    second = stage.get_token()
    assert stage.counts == (2, 0), stage.vendor.report()["requests"]
    assert second.access_token != first.access_token
    assert (stage.resource(first), stage.resource(second)) == (401, 200)


def test_wrong_credentials_are_refused_once(stage: Stage) -> None:
    name = _last_credential(stage.first.secret)
    other = ExampleKeys().rsa_pem if name == "private_key" else f"{stage.first.secret[name]}-rotated"
    stage.world.secrets.put(stage.name, {**stage.secret, name: other})
    # A key that does not belong to the secret's certificate is found before anything is sent.
    is_found_early = "certificate" in stage.first.secret
    for _ in range(2):
        with pytest.raises(ConnectionMisconfigured if is_found_early else ProviderRefused):
            stage.get_token()
    assert stage.counts == (0, 0 if is_found_early else 1), stage.vendor.report()["requests"]
    # The vendor takes them over: the next version of the secret works.
    if name != "private_key":
        stage.vendor.rotate_secret({name: other})
        stage.world.secrets.put(stage.name, {**stage.secret, name: other})
        stage.world.clock.advance(60)
        assert stage.resource(stage.get_token()) == 200


def test_a_purged_token_is_revoked_where_the_vendor_can(stage: Stage) -> None:
    response = stage.get_token()
    can_revoke = response.connection.endpoints.revocation is not None and "client_secret" in stage.first.secret
    # Else the consent might end with the token.
    can_revoke = can_revoke and (stage.rule is None or stage.rule.revocation_keeps_consent)
    stage.broker.purge_and_revoke(stage.name, None, deadline=stage.world.clock() + timedelta(seconds=26))
    assert stage.resource(response) == (401 if can_revoke else 200), stage.vendor.report()["requests"]


def test_a_vendor_that_fails_once_is_asked_again(stage: Stage) -> None:
    stage.vendor.fail("status", status=503)
    with pytest.raises(ProviderUnavailable):
        stage.get_token()
    stage.world.clock.advance(30)
    if stage.rule is not None and not stage.rule.resend:
        # The refresh token may be used up. Sending it again could end the consent.
        with pytest.raises(ConsentRequired):
            stage.get_token()
    else:
        assert stage.resource(stage.get_token()) == 200


def test_a_refresh_token_is_sent_as_often_as_the_vendor_allows(stage: Stage) -> None:
    """Ten renewals, of which one response is lost, and the person who ends it all."""
    vendor = stage.vendor
    if not isinstance(vendor, ConsentVendor):
        return
    for _ in range(9):
        stage.world.clock.advance(to=stage.get_token().token.expires_at)
    assert [token["sent"] for token in vendor.report()["refresh_tokens"]] == (
        [1] * 9 + [0] if vendor.options.rotates else [9]
    )
    vendor.withdraw()
    for _ in range(2):
        with pytest.raises(ConsentRequired):
            stage.get_token()
    assert vendor.report()["replayed_refresh_tokens"] == 0
    assert sum(token["sent"] for token in vendor.report()["refresh_tokens"]) == 10


@pytest.mark.parametrize("kind", ["status", "body", "malformed", "reset", "truncate", "huge", "redirect"])
def test_it_fails_as_the_other_simulators_do(server: ProvidersServer, clock: HandClock, kind: str) -> None:
    """The kinds that wait are tested with the other simulators: the delivery is the same."""
    world = World()
    world.clock = clock
    stage = Stage("unidy", server, world)
    stage.vendor.fail(kind)
    with pytest.raises(BrokerError):
        stage.get_token()
    assert f"fault: {kind}" in stage.vendor.report()["requests"][0]["outcome"]
    world.clock.advance(3600)
    assert stage.resource(stage.get_token()) == 200


def test_a_process_of_the_local_stack_can_send_all_to_the_vendor_at_the_address(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "_sender", bootstrap._sender)  # restores it afterwards
    simulate_vendors(stage.server.url)
    settings = Settings.from_environment({"TOKEN_BROKER_LOCAL": "1"})
    stage.broker = stage.world.instance(send=bootstrap._sender(settings))
    assert stage.resource(stage.get_token()) == 200


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"grant_type": "password"}, "invalid_request: differs from the example: request.json.grant_type"),
        (
            {"scope": "users:read", "extra": 1},
            "invalid_request: differs from the example: request.json.extra, request.json.scope",
        ),
        ({"client_id": 1}, "invalid_client"),
    ],
)
def test_a_request_that_is_not_the_examples_is_refused(
    server: ProvidersServer, changes: dict[str, Any], outcome: str
) -> None:
    vendor = server.simulator("vendors/unidy")
    vendor.reset()
    assert isinstance(vendor, ExampleVendor)
    expected = vendor.known[0].expected
    assert expected.body is not None
    url = f"{server.url}/vendors/unidy/{expected.url.removeprefix('https://')}"
    with requests.Session() as session:
        session.trust_env = False
        response = session.post(
            url, json={**expected.body.value, **changes}, headers={"Accept": "application/json"}, timeout=5
        )
    assert response.status_code in (400, 401)
    report = vendor.report()
    assert report["issued"] == 0
    assert report["requests"][0]["outcome"] == outcome


def _last_credential(secret: Any) -> str:
    names = [name for name, value in secret.items() if "CERTIFICATE" not in value]
    return "private_key" if "private_key" in names else names[-1]

"""The simulated vendors whose grants begin with consent: each rule that the broker must live with, over loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from local.providers import ProvidersServer, start_providers
from local.providers.consent_vendor import ConsentVendor
from local.providers.example_vendor import example_slugs
from tests.fakes.clock import HandClock
from tests.unit.grant_requests import CATALOGUE
from token_broker.adapters.provider_http import ProviderHttp
from token_broker.catalogue.examples import Example
from token_broker.core.connections import parse_connection
from token_broker.core.credentials import Secret, parse_credentials
from token_broker.core.names import ConnectionName, fingerprint
from token_broker.oauth.consents import (
    ConsentRequest,
    GrantedConsent,
    begin_device,
    code_challenge,
    exchange_code,
    poll_device,
    read_redirect,
    redirect_pairs,
)
from token_broker.oauth.exchange import TransportError
from token_broker.oauth.grants import GrantFailed, token_flow
from token_broker.oauth.requests import authorize_url, grant_request_for, revocation_request
from token_broker.oauth.responses import IssuedToken

SLUGS = [slug for slug in example_slugs() if CATALOGUE[slug].grant.needs_consent]
WITH_REDIRECT = [slug for slug in SLUGS if CATALOGUE[slug].consent is not None]
STATE, VERIFIER = "s" * 43, "v" * 43
# One with everything: rotation, overlap, PKCE, the device flow, an account.
ALLEGRO = "allegro-seller"


@pytest.fixture(scope="module")
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(scope="module")
def server(clock: HandClock) -> Iterator[ProvidersServer]:
    with start_providers(clock=clock) as running:
        yield running


@dataclass
class Client:
    """A client of one vendor, with the settings and secret of an example."""

    slug: str
    server: ProvidersServer
    clock: HandClock

    def __post_init__(self) -> None:
        self.vendor.reset()
        self.vendor.options = replace(self.vendor.options, lifetime_s=3600)

    @property
    def vendor(self) -> ConsentVendor:
        found = self.server.simulator(f"vendors/{self.slug}")
        assert isinstance(found, ConsentVendor)
        return found

    @property
    def example(self) -> Example:
        first = self.vendor.exchanges[0].known if self.vendor.exchanges else self.vendor.known[0]
        return first.example

    def request(self, **settings: str) -> ConsentRequest:
        provider, name = CATALOGUE[self.slug], ConnectionName(self.slug, "main")
        whole = {"allowed_callers": ["*"], **self.example.settings, **settings}
        connection = parse_connection(name, provider, whole, insecure_urls=True)
        credentials = parse_credentials(name, provider, Secret(json.dumps(dict(self.example.secret)), "v1"))
        found = grant_request_for(connection, credentials, connection.scope, self.clock())
        return ConsentRequest(connection, credentials, found, provider.consent or self.vendor.spec, {})

    def run(self, flow: Any) -> Any:
        """Runs a flow over loopback, in place of the vendor's hosts. Raises GrantFailed."""
        sent, network = next(flow), self.request().connection.network
        try:
            while True:
                url = sent.url.replace("https://", f"{self.server.url}/vendors/{self.slug}/", 1)
                try:
                    response = ProviderHttp(loopback=True)(replace(sent, url=url), network, timedelta(seconds=8))
                except TransportError as error:
                    sent = flow.throw(error)
                else:
                    sent = flow.send(response)
        except StopIteration as done:
            return done.value

    def authorize_url(self, **more: str) -> str:
        consent = self.request()
        redirect_uri = str(consent.connection.options.get("redirect_uri") or self.vendor.exchanges[0].redirect_uri)
        values = {"redirect_uri": redirect_uri, "state": STATE, "code_challenge": code_challenge(VERIFIER), **more}
        return authorize_url(consent.request, consent.spec, **values)

    def browse(self, url: str) -> tuple[int, str]:
        """What a browser gets that opens the URL: the status, and where it is sent."""
        with requests.Session() as session:
            session.trust_env = False
            url = url.replace("https://", f"{self.server.url}/vendors/{self.slug}/", 1)
            response = session.get(url, allow_redirects=False, timeout=5)
            return response.status_code, response.headers.get("Location", "")

    def code(self) -> str:
        location = self.browse(self.authorize_url())[1]
        return dict(parse_qsl(urlsplit(location).query))[self.request().spec.code_param]

    def connect(self, **changes: Any) -> GrantedConsent:
        """Consent, redirect and exchange. Raises GrantFailed."""
        consent = self.request()
        status, location = self.browse(self.authorize_url())
        assert status == 302
        redirect_uri = self.vendor.exchanges[0].redirect_uri
        found = read_redirect(redirect_pairs(location, redirect_uri), consent.spec, consent.request.response)
        assert found.state == STATE
        verifier = VERIFIER if consent.spec.pkce else None
        exchange = {"code": found.code, "redirect_uri": redirect_uri, "verifier": verifier, **changes}
        granted = self.run(exchange_code(replace(consent, kept=found.kept), **exchange))
        assert isinstance(granted, GrantedConsent)
        return granted

    def renew(self, refresh_token: str) -> IssuedToken:
        """A renewal. Raises GrantFailed."""
        issued = self.run(token_flow(replace(self.request().request, refresh_token=refresh_token)))
        assert isinstance(issued, IssuedToken)
        return issued

    def is_live(self, access_token: str) -> bool:
        """Whether the vendor's API takes the token."""
        return self.vendor.tokens.find(access_token) in self.vendor.tokens.live(self.vendor.now())


@pytest.fixture(params=SLUGS)
def client(request: pytest.FixtureRequest, server: ProvidersServer, clock: HandClock) -> Client:
    return Client(request.param, server, clock)


@pytest.fixture
def allegro(server: ProvidersServer, clock: HandClock) -> Client:
    return Client(ALLEGRO, server, clock)


def refused(client: Client, refresh_token: str) -> bool:
    try:
        client.renew(refresh_token)
    except GrantFailed:
        return True
    return False


# ------------------------------------------------------------------ every vendor
@pytest.mark.parametrize("slug", WITH_REDIRECT)
def test_a_persons_consent_gives_tokens_that_renew(slug: str, server: ProvidersServer, clock: HandClock) -> None:
    client = Client(slug, server, clock)
    granted = client.connect()
    assert client.is_live(granted.issued.access_token)
    assert granted.account == client.example.result.account
    refresh_token = granted.refresh_token
    for _ in range(3):
        issued = client.renew(refresh_token)
        assert client.is_live(issued.access_token)
        refresh_token = issued.refresh_token or refresh_token
    assert client.vendor.report()["refused"] == 0, client.vendor.report()["requests"]


def test_a_refresh_token_of_an_operator_works_until_the_person_ends_it(client: Client) -> None:
    refresh_token = client.vendor.give_consent()
    issued = client.renew(refresh_token)
    assert client.vendor.times_sent(refresh_token) == 1
    assert client.vendor.withdraw() == 1
    assert not client.is_live(issued.access_token)
    assert refused(client, issued.refresh_token or refresh_token)


def test_each_vendors_own_rule_says_how_often_a_refresh_token_works(client: Client) -> None:
    """The broker's resend rule comes from the same file: what it allows, the vendor accepts."""
    rule = CATALOGUE[client.slug].refresh
    refresh_token = client.vendor.give_consent()
    client.renew(refresh_token)
    if not client.vendor.options.rotates:
        client.clock.advance(3600)
        assert not refused(client, refresh_token)
    elif rule.resend_within is not None:
        client.clock.advance((rule.resend_within - timedelta(seconds=9)).total_seconds())
        assert not refused(client, refresh_token)
        client.clock.advance(10)
        assert refused(client, refresh_token)
    else:
        assert not rule.resend
        assert refused(client, refresh_token)


# ------------------------------------------------------------------ the browser
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("client_id=invented-id", "client_id=other"),
        ("client_id=invented-id", ""),
        ("response_type=code", "response_type=token"),
        ("shop.example.com", "shop.example.com.evil.example"),
        ("%2Fconsent", "%2Fother"),
        ("code_challenge_method=S256", "code_challenge_method=plain"),
        ("code_challenge_method=S256", ""),
        ("&state=", "&status="),
    ],
)
def test_a_wrong_authorization_request_is_shown_and_redirects_nobody(allegro: Client, old: str, new: str) -> None:
    url = allegro.authorize_url()
    assert old in url
    assert allegro.browse(url.replace(old, new)) == (400, "")
    assert allegro.vendor.report()["issued"] == 0


def test_a_person_denies(allegro: Client) -> None:
    allegro.vendor.configure(denies=True)
    location = allegro.browse(allegro.authorize_url())[1]
    assert dict(parse_qsl(urlsplit(location).query)) == {"error": "access_denied", "state": STATE}


def test_a_redirect_can_be_tampered_with(allegro: Client) -> None:
    changes = {"state": "x" * 43, "code": "", "iss": "https://evil.example", "realmId": ["1", "2"]}
    allegro.vendor.configure(redirect_with=changes)
    query = parse_qsl(urlsplit(allegro.browse(allegro.authorize_url())[1]).query)
    assert sorted(query) == [("iss", "https://evil.example"), ("realmId", "1"), ("realmId", "2"), ("state", "x" * 43)]


def test_another_account_approves(allegro: Client) -> None:
    allegro.vendor.configure(account="87654321")
    assert allegro.connect().account == "87654321"


def test_a_loopback_redirect_is_taken_where_the_vendor_allows_it(
    server: ProvidersServer, clock: HandClock, allegro: Client
) -> None:
    loopback = "http://127.0.0.1:8765/back"
    google = Client("google-user", server, clock)
    status, location = google.browse(google.authorize_url(redirect_uri=loopback))
    assert (status, location.partition("?")[0]) == (302, loopback)
    assert dict(parse_qsl(urlsplit(location).query))["iss"] == "https://accounts.google.com"
    assert allegro.browse(allegro.authorize_url(redirect_uri=loopback)) == (400, "")


@pytest.mark.parametrize("kind", ["status", "reset", "malformed"])
def test_an_account_can_stay_unknown(allegro: Client, kind: str) -> None:
    allegro.vendor.fail(kind, on="account")
    granted = allegro.connect()
    assert granted.account is None
    assert allegro.is_live(granted.issued.access_token)


def test_settings_can_lead_a_broker_and_a_browser_of_the_local_stack_to_it(allegro: Client) -> None:
    """So it is tried without the vendor: its addresses are settings, and the control route registers a redirect URI."""
    redirect_uri = "http://127.0.0.1:3000/api/v1/consent/callback/allegro-seller"
    account = {"name": "demo", "secret": dict(allegro.example.secret), "redirect_uris": [redirect_uri]}
    with requests.Session() as session:
        session.trust_env = False
        control = f"{allegro.server.url}/_control/vendors/{ALLEGRO}"
        assert session.post(control, json={"accounts": [account]}, timeout=5).status_code == 200
    root = f"{allegro.server.url}/vendors/{ALLEGRO}"
    urls = {"base_url": f"{root}/allegro.pl", "api_url": f"{root}/api.allegro.pl", "redirect_uri": redirect_uri}
    found = allegro.request(**urls)
    more = {"redirect_uri": redirect_uri, "state": STATE, "code_challenge": code_challenge(VERIFIER)}
    location = allegro.browse(authorize_url(found.request, found.spec, **more))[1]
    assert location.startswith(f"{redirect_uri}?")
    code = dict(parse_qsl(urlsplit(location).query))["code"]
    granted = allegro.run(exchange_code(found, code=code, redirect_uri=redirect_uri, verifier=VERIFIER))
    assert granted.account == allegro.example.result.account


# ------------------------------------------------------------------ codes
@pytest.mark.parametrize(
    "changes",
    [{"verifier": "w" * 43}, {"verifier": "short"}, {"redirect_uri": "https://shop.example.com/other"}, {"code": "x"}],
)
def test_a_code_is_worth_nothing_to_somebody_else(allegro: Client, changes: dict[str, str]) -> None:
    with pytest.raises(GrantFailed):
        allegro.connect(**changes)
    assert allegro.vendor.report()["issued"] == 0


def test_a_code_works_once_and_a_second_time_ends_its_consent(allegro: Client) -> None:
    code = allegro.code()
    granted = allegro.connect(code=code)
    with pytest.raises(GrantFailed):
        allegro.connect(code=code)
    assert allegro.vendor.report()["replayed_codes"] == 1
    assert not allegro.is_live(granted.issued.access_token)
    assert refused(allegro, granted.refresh_token)


def test_a_code_expires(allegro: Client) -> None:
    code = allegro.code()
    allegro.clock.advance(allegro.vendor.options.code_lifetime_s)
    with pytest.raises(GrantFailed):
        allegro.connect(code=code)


# ------------------------------------------------------------------ refresh tokens
def test_a_used_refresh_token_ends_the_consent_unless_the_vendor_forgives(allegro: Client) -> None:
    allegro.vendor.configure(overlap_s=0)
    for ends in (False, True):
        allegro.vendor.configure(reuse_ends_consent=ends)
        first = allegro.vendor.give_consent()
        second = allegro.renew(first).refresh_token or ""
        assert refused(allegro, first)
        assert refused(allegro, second) is ends
    assert allegro.vendor.report()["replayed_refresh_tokens"] == 2


def test_an_overlap_can_end_when_the_new_one_is_used(allegro: Client) -> None:
    allegro.vendor.configure(overlap_s=3600, overlap_ends_with_use=True)
    first = allegro.vendor.give_consent()
    lost = allegro.renew(first).refresh_token
    second = allegro.renew(first).refresh_token or ""
    assert lost != second
    allegro.renew(second)
    assert refused(allegro, first)
    assert allegro.vendor.times_sent(first) == 3


@pytest.mark.parametrize("option", ["refresh_lifetime_s", "idle_lifetime_s"])
def test_a_refresh_token_expires(allegro: Client, option: str) -> None:
    allegro.vendor.configure(**{option: 7200})
    first = allegro.vendor.give_consent()
    allegro.clock.advance(7199)
    second = allegro.renew(first).refresh_token or ""
    allegro.clock.advance(2)
    assert refused(allegro, second) is (option == "refresh_lifetime_s")


def test_a_new_consent_can_end_the_earlier_one(allegro: Client) -> None:
    first = allegro.vendor.give_consent()
    allegro.vendor.give_consent()
    assert not refused(allegro, first)
    allegro.vendor.configure(replaces=True)
    allegro.vendor.give_consent(person="somebody else")
    live = [token["state"] for token in allegro.vendor.report()["refresh_tokens"] if token["state"] == "live"]
    allegro.vendor.give_consent()
    after = [token["state"] for token in allegro.vendor.report()["refresh_tokens"] if token["state"] == "live"]
    assert (len(live), len(after)) == (3, 2)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_response_counts_as_sent(allegro: Client, when: str) -> None:
    refresh_token = allegro.vendor.give_consent()
    allegro.vendor.fail("reset", when=when)
    with pytest.raises(GrantFailed):
        allegro.renew(refresh_token)
    report = {token["refresh_id"]: token for token in allegro.vendor.report()["refresh_tokens"]}
    state = report[fingerprint(refresh_token)]
    assert (state["sent"], state["state"]) == (1, "live" if when == "before" else "used")


def test_another_client_can_not_use_a_refresh_token(server: ProvidersServer, clock: HandClock) -> None:
    ebay = Client("ebay-user", server, clock)
    ebay.vendor.add_account({"name": "other", "secret": {"client_id": "other", "client_secret": "other"}})
    assert refused(ebay, ebay.vendor.give_consent(client="other"))


@pytest.mark.parametrize("keeps", [True, False])
def test_revocation_ends_the_consent_or_only_a_token(server: ProvidersServer, clock: HandClock, keeps: bool) -> None:
    ebay = Client("ebay-user", server, clock)
    ebay.vendor.configure(revocation_ends_consent=not keeps)
    refresh_token = ebay.vendor.give_consent()
    issued = ebay.renew(refresh_token)
    for token, dead in ((issued.access_token, not keeps), (refresh_token, True)):
        request = revocation_request(ebay.request().request, token)
        assert request is not None
        ebay.run(iter_once(request))
        assert not ebay.is_live(issued.access_token)
        assert refused(ebay, refresh_token) is dead


def iter_once(request: Any) -> Iterator[Any]:
    yield request


# ------------------------------------------------------------------ devices
def outcome(client: Client, device_code: str) -> str:
    """`granted`, or the error of a poll."""
    try:
        client.run(poll_device(client.request(), device_code=device_code))
    except GrantFailed as failed:
        return failed.failure.provider_error or failed.failure.rule
    return "granted"


def test_a_device_waits_for_its_person(allegro: Client) -> None:
    consent = allegro.request()
    device = allegro.run(begin_device(consent.request, consent.spec, insecure_urls=False))
    outcomes = [outcome(allegro, device.device_code), outcome(allegro, device.device_code)]
    allegro.clock.advance(device.interval.total_seconds() + 5)
    outcomes.append(outcome(allegro, device.device_code))
    allegro.vendor.enter(device.user_code)
    allegro.clock.advance(10)
    outcomes.append(outcome(allegro, device.device_code))
    assert outcomes == ["authorization_pending", "slow_down", "authorization_pending", "granted"]
    assert outcome(allegro, device.device_code) == "invalid_grant"


@pytest.mark.parametrize(("denies", "expected"), [(False, "granted"), (True, "access_denied")])
def test_a_person_opens_the_page_of_a_device(allegro: Client, denies: bool, expected: str) -> None:
    allegro.vendor.configure(denies=denies)
    consent = allegro.request()
    device = allegro.run(begin_device(consent.request, consent.spec, insecure_urls=False))
    assert allegro.browse(device.verification_uri_complete)[0] == 200
    assert outcome(allegro, device.device_code) == expected


def test_a_device_code_expires(allegro: Client) -> None:
    consent = allegro.request()
    device = allegro.run(begin_device(consent.request, consent.spec, insecure_urls=False))
    allegro.vendor.enter(device.user_code)
    allegro.clock.advance(device.lifetime.total_seconds())
    assert outcome(allegro, device.device_code) == "expired_token"

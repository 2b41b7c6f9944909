"""A caller of one connection gets no token of another, no secret, and no request to an address outside the settings.

There are two connections with different providers, credentials, tokens and hosts. The other one's token is in the table
and in memory. Requests are drawn from values that could confuse the two. IAM limits a caller to few paths; here it is
assumed to allow everything except PUT, because whoever edits settings decides who may get tokens and from where.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fakes import World
from tests.fakes.world import REDIRECT_URI
from tests.integration.handlers.functions import BrokerResponse
from tests.security.leak_search import forms, leaks
from tests.security.playground import event, playground, routes, text_of
from tests.security.provider_responses import rarely
from token_broker.core.connections import NetworkOptions
from token_broker.core.names import ConnectionName, fingerprint
from token_broker.oauth.exchange import HttpRequest, HttpResponse

pytestmark = pytest.mark.soak

SOAK = os.environ.get("SOAK") == "1"
QUICK = settings(
    max_examples=2000 if SOAK else 60,
    derandomize=not SOAK,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)
ROLE = "arn:aws:iam::123456789012:role"
SESSIONS = "arn:aws:sts::123456789012:assumed-role"
SCOPES = {"oauth2": "own.{who}", "ucommerce": None, "unidy": "users:{who}", "unicommerce": None}
ROUTES = sorted(routes(), key=lambda route: (route.path, route.method))
TOKENS = next(route for route in ROUTES if route.path.startswith("/v1/tokens") and route.method == "GET")
PUT = next(route for route in ROUTES if route.method == "PUT")


@dataclass
class Account:
    """A connection's account at its provider. `who`: mine or theirs."""

    who: str
    name: ConnectionName
    secret: dict[str, str] = field(repr=False)
    urls: set[str] = field(default_factory=set)

    @property
    def role(self) -> str:
        return f"{ROLE}/{self.who}-caller"

    @property
    def session(self) -> str:
        return f"{SESSIONS}/{self.who}-caller/session"

    @property
    def secrets(self) -> set[str]:
        return {self.secret["client_secret"], self.secret["password"]}


class Providers:
    """All provider hosts. Credentials, code or token of a request show its account. `wrong`: wrong requests."""

    def __init__(self, accounts: list[Account]) -> None:
        self.accounts = accounts
        self.issued: dict[str, set[str]] = {account.who: set() for account in accounts}
        self.wrong: list[str] = []
        self._numbers = count(1)

    def __call__(self, request: HttpRequest, _network: NetworkOptions, _timeout: timedelta) -> HttpResponse:
        sent = "\n".join([request.url, repr(request.query), repr(dict(request.headers))]).encode() + (
            request.body or b""
        )
        senders = [account for account in self.accounts if self._is_of(account, sent)]
        if len(senders) != 1:
            self.wrong.append(f"{len(senders)} accounts in one request")
            return HttpResponse(400)
        (account,) = senders
        if request.url not in account.urls:
            self.wrong.append(f"{account.who} at {urlsplit(request.url).netloc}")
        if request.url.endswith("/connect"):
            code = quote(self._new(account, "code"))
            return HttpResponse(302, {"location": f"{REDIRECT_URI}?code={code}"})
        if request.url.endswith("/revoke"):
            return HttpResponse(200, {}, b"{}")
        token = self._new(account, "token")
        response = {"access_token": token, "accessToken": token, "status": "SUCCESS", "expires_in": 3600}
        if account.name.provider == "ucommerce":
            response["refresh_token"] = self._new(account, "refresh")
        return HttpResponse(200, {"content-type": "application/json"}, json.dumps(response).encode())

    def _is_of(self, account: Account, sent: bytes) -> bool:
        own = {*account.secret.values(), *self.issued[account.who]}
        return any(form in sent for value in own for form in forms(value))

    def _new(self, account: Account, kind: str) -> str:
        value = f"fake-{account.who}-{kind}-{next(self._numbers)}-canary"
        self.issued[account.who].add(value)
        return value


def account_of(who: str, provider: str, connection: str) -> Account:
    secret = {key: f"fake-{who}-{key}-+%&/é" for key in ("client_id", "client_secret", "username", "password")}
    return Account(who, ConnectionName(provider, connection), secret)


def connect(world: World, account: Account, **changes: Any) -> None:
    """Stores the account's connection, and notes the addresses in its settings."""
    host, provider = f"https://{account.who}.example", account.name.provider
    named: dict[str, Any] = {"api_base_url": f"{host}/api", "allowed_callers": [account.role], **changes}
    if provider in ("oauth2", "unified-services"):
        named["token_url"] = f"{host}/token"
        account.urls.add(f"{host}/token")
    else:
        named["base_url"] = host
        paths = {
            "unidy": ("/oauth/token", "/oauth/revoke"),
            "unicommerce": ("/authToken",),
            "ucommerce": ("/api/v1/oauth/connect", "/api/v1/oauth/token"),
        }
        account.urls |= {host + path for path in paths[provider]}
    if provider == "oauth2":
        named["revocation_url"] = f"{host}/revoke"
        account.urls.add(f"{host}/revoke")
    world.settings(account.name, **named)
    world.secrets.put(account.name, account.secret)


@st.composite
def requests(draw: st.DrawFn, mine: Account, theirs: Account) -> tuple[Any, dict[str, Any]]:
    """A route, and an event that mixes names of the two connections in every field."""
    route = draw(st.sampled_from([TOKENS, TOKENS, *(route for route in ROUTES if route.method != "PUT")]))
    wanted = draw(st.sampled_from([mine, theirs]))
    other = theirs if wanted is mine else mine
    odd = [wanted.name.connection.upper(), quote(str(theirs.name), safe=""), "..", f"{theirs.name}/.."]
    names = {
        "provider": draw(rarely(st.just(other.name.provider), st.just(wanted.name.provider))),
        "connection": draw(rarely(st.sampled_from(odd) | st.text(max_size=8), st.just(wanted.name.connection))),
    }
    paths = [f"/v1/tokens/{mine.name}", f"/v1/tokens/{theirs.name}", f"/v1/tokens/{mine.name}/../{theirs.name}"]
    raw = draw(rarely(st.sampled_from(paths)))
    words = st.sampled_from([f"own.{theirs.who}", f"own.{mine.who}", "users:mine", "*", str(theirs.name), theirs.role])
    values = words | st.text(max_size=12) | st.sampled_from([fingerprint("fake-theirs-token-1-canary"), "0", "3600"])
    query = draw(
        rarely(
            st.dictionaries(
                st.sampled_from(["scope", "min_ttl", "rejected", "force", "cursor", "limit", "connection"]),
                st.lists(values, min_size=1, max_size=2),
                max_size=3,
            )
        )
    )
    headers = draw(
        st.none()
        | st.dictionaries(
            st.sampled_from(
                ["X-Amzn-Caller", "X-Forwarded-User", "Authorization", "If-Match", "X-Original-URL", "Host"]
            ),
            st.sampled_from([theirs.role, theirs.session, f"/v1/tokens/{theirs.name}", "theirs.example"]),
            max_size=3,
        )
    )
    # A caller cannot choose its role's ARN, but it can choose the session name. AWS reports further fields.
    session = draw(st.sampled_from(["session", "theirs-caller", "role/theirs-caller", "x:role/theirs-caller"]))
    identity = {
        "userArn": f"{SESSIONS}/{mine.who}-caller/{session}",
        **draw(
            st.dictionaries(
                st.sampled_from(["caller", "user", "accountId", "principalOrgId", "accessKey", "cognitoIdentityId"]),
                st.sampled_from([theirs.role, theirs.session, "210987654321"]),
                max_size=3,
            )
        ),
    }
    body = draw(st.none() | words | st.just(json.dumps({"connection": str(theirs.name), "caller": theirs.role})))
    return route, event(route, names, path=raw, query=query, headers=headers, body=body, identity=identity)


def check(response: BrokerResponse, providers: Providers, mine: Account, theirs: Account) -> None:
    """Checks that the response holds no secret and nothing of the other account."""
    everybodys = mine.secrets | theirs.secrets | providers.issued["theirs"]
    own = {value for value in providers.issued["mine"] if "-token-" not in value}
    assert leaks(everybodys | own, {"answer": text_of(response)}) == []
    assert providers.wrong == []


@QUICK
@given(
    data=st.data(),
    kinds=st.tuples(st.sampled_from(sorted(SCOPES)), st.sampled_from(sorted(SCOPES))),
    same_name=st.booleans(),
)
def test_no_request_gets_anything_of_another_connection(
    data: st.DataObject, kinds: tuple[str, str], same_name: bool
) -> None:
    world = World()
    mine = account_of("mine", kinds[0], "main")
    theirs = account_of("theirs", kinds[1], "main" if same_name and kinds[0] != kinds[1] else "other")
    providers = Providers([mine, theirs])
    world.connect.to = world.provider.to = world.revoker.to = providers
    for account in (mine, theirs):
        scope = SCOPES[account.name.provider]
        connect(world, account, scope=scope.format(who=account.who) if scope else None)
    with playground(world) as place:
        # The other token is in the table and in the memory of this instance.
        warm = event(TOKENS, names_of(theirs), identity={"userArn": theirs.session})
        assert place.send(TOKENS, warm).status == 200
        for _ in range(data.draw(st.integers(1, 6), "how many")):
            route, sent = data.draw(requests(mine, theirs), "request")
            check(place.send(route, sent), providers, mine, theirs)
            if data.draw(st.booleans()):
                place.restart()
            world.clock.advance(data.draw(st.sampled_from([0, 1, 31, 3500, 4000])))
        denied = event(TOKENS, names_of(theirs), identity={"userArn": mine.session})
        assert place.send(TOKENS, denied).code in ("caller_not_allowed", "unknown_connection")
        allowed = event(TOKENS, names_of(mine), identity={"userArn": mine.session})
        response = place.send(TOKENS, allowed)
        if response.status == 200:
            assert response.body["access_token"] in providers.issued["mine"]


def names_of(account: Account) -> dict[str, str]:
    return {"provider": account.name.provider, "connection": account.name.connection}


HOSTS = st.sampled_from(
    ["mine.example", "elsewhere.example", "theirs.example", "[::1]", "127.0.0.1", "169.254.169.254"]
)
URLS = st.builds(
    lambda scheme, user, host, port, path: f"{scheme}://{user}{host}{port}{path}",
    st.sampled_from(["https", "https", "http", "HTTPS", "ftp", "file"]),
    st.sampled_from(["", "", "user@", "mine.example@", "mine.example:x@"]),
    HOSTS,
    st.sampled_from(["", "", ":443", ":8443", ":0", ":x"]),
    st.sampled_from(["", "/", "/token", "//theirs.example/token", "/../token", "/a?b", "/#c", "\\@theirs.example"]),
)  # fmt: skip


@QUICK
@given(
    token_url=URLS,
    revocation_url=URLS | st.sampled_from(["/revoke", "//theirs.example/revoke", "revoke"]),
    params=st.dictionaries(
        st.sampled_from(["audience", "resource", "token_url", "url", "redirect"]), st.just("https://theirs.example/")
    ),
)
def test_only_addresses_in_the_settings_are_called(token_url: str, revocation_url: str, params: dict[str, str]) -> None:
    """The broker calls exactly the stored URLs, with the connection's own credentials, whatever was put.

    tests/security/test_network_edges.py tests what names resolve to.
    """
    world = World()
    mine, theirs = account_of("mine", "oauth2", "main"), account_of("theirs", "oauth2", "other")
    providers = Providers([mine, theirs])
    world.connect.to = world.provider.to = world.revoker.to = providers
    connect(world, theirs)
    world.secrets.put(mine.name, mine.secret)
    whole = {"token_url": token_url, "revocation_url": revocation_url, "params": params, "allowed_callers": [mine.role]}
    with playground(world) as place:
        put = event(PUT, names_of(mine), body=json.dumps(whole), identity={"userArn": mine.session})
        response = place.send(PUT, put)
        if response.status == 201:
            mine.urls |= {token_url, revocation_url}
            assert all(url.lower().startswith("https://") and "@" not in url for url in mine.urls)
        for route in (TOKENS, *(route for route in ROUTES if route != PUT)):
            sent = event(route, names_of(mine), identity={"userArn": mine.session})
            check(place.send(route, sent), providers, mine, theirs)
        assert bool(providers.issued["mine"]) is (response.status == 201)

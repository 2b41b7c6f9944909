"""The real servers, the local stack, and the table at the end. All tests share them, each with its own connections."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import pytest
import requests
from rich import box
from rich.console import Console
from rich.table import Table

from local.client import BrokerResponse, SignedClient
from local.connections import aws_client
from local.process import LOGS
from local.sigv4 import LOCAL
from local.stack import Options, Stack
from tests.wild.servers import RealServer, doorkeeper, oidc_provider

REDIRECT_URI: Final = "https://shop.example/callback"
RESOURCE: Final = "https://api.example/"
PLAIN: Final = "fake-secret"
ODD: Final = "fake+secret %2B/=:&"
LIFETIME_S: Final = 600
# Doorkeeper's clients may authenticate in every way that it knows.
DOORKEEPER_CLIENTS: Final[list[Mapping[str, Any]]] = [
    {"id": "plain", "secret": PLAIN, "lifetime_s": LIFETIME_S, "redirect_uri": REDIRECT_URI},
    {"id": "odd", "secret": ODD, "lifetime_s": LIFETIME_S, "redirect_uri": REDIRECT_URI},
    {"id": "public", "secret": None, "lifetime_s": LIFETIME_S, "redirect_uri": REDIRECT_URI},
    {"id": "brief", "secret": PLAIN, "lifetime_s": 4, "redirect_uri": REDIRECT_URI},
]
OIDC_PROVIDER_CLIENTS: Final[list[Mapping[str, Any]]] = [
    {
        "client_id": client_id,
        **({} if secret is None else {"client_secret": secret}),
        "token_endpoint_auth_method": "none" if secret is None else "client_secret_basic",
        "grant_types": ["client_credentials"],
        "redirect_uris": [],
        "response_types": [],
        "scope": "read write",
        "lifetime_s": LIFETIME_S,
    }
    for client_id, secret in (("plain", PLAIN), ("odd", ODD), ("public", None))
]
# A person consents to this one. A native client may return to any port of the person's own machine (RFC 8252).
OIDC_PROVIDER_CONSENT: Final[Mapping[str, Any]] = {
    "client_id": "consent",
    "client_secret": PLAIN,
    "token_endpoint_auth_method": "client_secret_basic",
    "application_type": "native",
    "grant_types": ["authorization_code", "refresh_token"],
    "redirect_uris": ["http://127.0.0.1/consent"],
    "response_types": ["code"],
    "scope": "openid offline_access",
    "lifetime_s": LIFETIME_S,
}
CONSENT_PROVIDER: Final = "wild-consent"
CONSENT_PROVIDER_FILE: Final = """\
title = "oidc-provider (a person's consent)"
documentation = "https://github.com/panva/node-oidc-provider"
grant = "refresh_token"
credentials = ["client_id", "client_secret"]

[request]
url = "{base_url}/token"
client_auth = "basic"

[scope]
required = true

[consent]
authorize_url = "{base_url}/auth"
pkce = true
loopback = true
issuer = "{base_url}"
[consent.query]
prompt = "consent"
[consent.account]
from = "id_token"
path = "sub"

[revocation]
url = "{base_url}/token/revocation"

[[settings]]
name = "base_url"
kind = "base_url"
required = true
help = "The server."
"""
SECRETS: Final = {"plain": PLAIN, "odd": ODD, "public": None, "brief": PLAIN}
# Where each server has what the tests ask for.
PATHS: Final = {
    "oidc-provider": {"token": "/token", "revocation": "/token/revocation"},
    "doorkeeper": {"token": "/oauth/token", "revocation": "/oauth/revoke"},
    "doorkeeper with reuse": {"token": "/oauth/token", "revocation": "/oauth/revoke"},
}


@pytest.fixture(scope="session")
def servers() -> Iterator[Mapping[str, RealServer]]:
    with (
        doorkeeper("doorkeeper", clients=DOORKEEPER_CLIENTS, reuse=False) as plain,
        doorkeeper("doorkeeper with reuse", clients=DOORKEEPER_CLIENTS, reuse=True) as reusing,
        oidc_provider(clients=[*OIDC_PROVIDER_CLIENTS, OIDC_PROVIDER_CONSENT], resource=RESOURCE) as oidc,
    ):
        yield {server.name: server for server in (plain, reusing, oidc)}


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The local stack without schedule and queue: what a test asks for is all that happens.

    One environment serves all callers, so that no other one has a purged token in its memory.
    """
    folder = tmp_path_factory.mktemp("token_broker_providers")
    (folder / f"{CONSENT_PROVIDER}.toml").write_text(CONSENT_PROVIDER_FILE, encoding="utf-8")
    options = Options(
        api_environments=1, worker_environments=1, ticks=False, log_dir=LOGS / "wild", provider_files=folder
    )
    with Stack(options) as running:
        yield running


@dataclass(frozen=True)
class Connection:
    """A connection of the broker to a client of a real server."""

    path: str
    client: SignedClient
    server: RealServer

    def token(self, **query: str) -> BrokerResponse:
        return self.client.call("GET", f"/v1/tokens/{self.path}", query=list(query.items()))

    def purge(self) -> BrokerResponse:
        return self.client.call("DELETE", f"/v1/tokens/{self.path}")

    def show(self) -> Mapping[str, Any]:
        body: Mapping[str, Any] = self.client.call("GET", f"/v1/connections/{self.path}").body
        return body

    def token_requests(self) -> int:
        """How many token requests the server got, from all connections."""
        return self.server.requests(f"POST {PATHS[self.server.name]['token']}")

    def is_accepted(self, token: str) -> bool:
        """Whether the server still knows this token."""
        if self.server.name == "oidc-provider":
            answer = requests.post(
                f"{self.server.url}/token/introspection", data={"token": token}, auth=("plain", PLAIN), timeout=10
            )
            return bool(answer.json()["active"])
        headers = {"Authorization": f"Bearer {token}"}
        return requests.get(f"{self.server.url}/oauth/token/info", headers=headers, timeout=10).status_code == 200


class Connections:
    """Adds connections as a platform engineer does: a secret, and the settings by PUT."""

    def __init__(self, stack: Stack, servers: Mapping[str, RealServer], client: SignedClient) -> None:
        self._stack = stack
        self._servers = servers
        self._client = client
        self._numbers = count(1)

    def oauth2(self, server: str, client_id: str, client_auth: str, **settings: Any) -> Connection:
        """A connection of the provider `oauth2`. `secret` among the settings: another one than the client's."""
        url, paths = self._servers[server].url, PATHS[server]
        secret = settings.pop("secret", SECRETS[client_id])
        credentials = {"client_id": client_id, **({} if secret is None else {"client_secret": secret})}
        urls = {"token_url": url + paths["token"], "revocation_url": url + paths["revocation"]}
        return self._added("oauth2", server, credentials, {**urls, "client_auth": client_auth, **settings})

    def ucommerce(self, server: str, client_id: str) -> Connection:
        """A connection whose grant is an authorization code without a browser."""
        credentials = {"client_id": client_id, "client_secret": SECRETS[client_id]}
        settings = {"base_url": self._servers[server].url, "redirect_uri": REDIRECT_URI}
        return self._added("ucommerce", server, credentials, settings)

    def of_a_person(self) -> Connection:
        """A connection that needs a person's consent at oidc-provider."""
        credentials = {"client_id": "consent", "client_secret": PLAIN}
        settings = {"base_url": self._servers["oidc-provider"].url, "scope": "openid offline_access"}
        return self._added(CONSENT_PROVIDER, "oidc-provider", credentials, settings)

    def _added(
        self, provider: str, server: str, credentials: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> Connection:
        path = f"{provider}/wild-{next(self._numbers)}"
        aws_client("secretsmanager", self._stack.endpoint_url).create_secret(
            Name=f"{self._stack.resources.secret_prefix}/{path}", SecretString=json.dumps(credentials)
        )
        response = self._client.call(
            "PUT", f"/v1/connections/{path}", body={"allowed_callers": [LOCAL.arn], **settings}
        )
        assert response.status == 201, response
        return Connection(path, self._client, self._servers[server])


@pytest.fixture(scope="session")
def connections(stack: Stack, servers: Mapping[str, RealServer]) -> Iterator[Connections]:
    with ExitStack() as endings:
        client = endings.enter_context(closing(SignedClient(stack.url)))
        yield Connections(stack, servers, client)


class Row:
    """One line of the table at the end."""

    def __init__(self, record: Any) -> None:
        self._record = record

    def __call__(self, server: str, tried: str, response: BrokerResponse, *, note: str = "") -> None:
        """`note`: what else was seen. A token's text is not shown."""
        body = response.body
        shown = f"{response.status} {body['code']}" if "code" in body else f"{response.status}"
        self._record("wild", (server, tried, f"{shown}{', ' if note else ''}{note}"))


@pytest.fixture
def row(record_property: Any) -> Row:
    return Row(record_property)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints what was tried and what came of it."""
    table = Table("server", "tried", "the broker's response", "", box=box.SIMPLE_HEAD, pad_edge=False)
    for outcome, sign in (("passed", "✓"), ("failed", "✗")):
        for report in terminalreporter.stats.get(outcome, []):
            for name, cells in report.user_properties:
                if name == "wild":
                    table.add_row(*cells, sign)
    if table.row_count:
        with Console(width=120, highlight=False) as console:
            console.print(table)

"""Requests of a well-behaved client of each vendor, and readers of the responses."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

import requests

from local.providers import DEFAULT_ACCOUNTS, ProvidersServer

JSON = {"Content-Type": "application/json"}
LOGIN = {**JSON, "Cache-Control": "no-store"}
GRANT = {"grant_type": "client_credentials"}
MARKET = "market:id:xYZkjABcde"
REDIRECT_URI = "https://broker.example/callback"
SLUGS = sorted(DEFAULT_ACCOUNTS)
# The others take signed assertions, which the broker makes: see test_example_vendors.
CALLED = [slug for slug in SLUGS if slug not in ("oauth2-jwt-bearer", "oauth2-private-key-jwt")]


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def call(providers: ProvidersServer, method: str, path: str, **arguments: Any) -> requests.Response:
    return requests.request(method, providers.url + path, timeout=5, allow_redirects=False, **arguments)


def basic(client_id: str, client_secret: str, charset: str = "utf-8") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{client_secret}".encode(charset)).decode()}


def credentials(slug: str) -> tuple[str, str]:
    secret = DEFAULT_ACCOUNTS[slug]["secret"]
    return secret["client_id"], secret["client_secret"]


def unified(providers: ProvidersServer, headers: dict[str, str] | None = None, **fields: str) -> requests.Response:
    authorization = basic(*credentials("unified-services")) if headers is None else headers
    return call(
        providers, "POST", "/unified-services/oauth2/v2.0/token", data={**GRANT, **fields}, headers=authorization
    )


def login(providers: ProvidersServer, **changes: str) -> requests.Response:
    secret = {**DEFAULT_ACCOUNTS["unicommerce"]["secret"], **changes}
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in secret.items())
    return call(providers, "GET", f"/unicommerce/authToken?{query}", headers=LOGIN)


def commerce(providers: ProvidersServer, **fields: Any) -> requests.Response:
    client_id, client_secret = credentials("commerce-layer")
    body = {**GRANT, "client_id": client_id, "client_secret": client_secret, **fields}
    body = {name: value for name, value in body.items() if value is not None}
    return call(providers, "POST", "/commerce-layer/oauth/token", json=body)


def unidy(providers: ProvidersServer, **fields: str) -> requests.Response:
    client_id, client_secret = credentials("unidy")
    body = {**GRANT, "client_id": client_id, "client_secret": client_secret, "scope": "users:read", **fields}
    return call(providers, "POST", "/unidy/oauth/token", json=body)


def connect(providers: ProvidersServer, **changes: str) -> requests.Response:
    asked = {"client_id": credentials("ucommerce")[0], "redirect_uri": REDIRECT_URI, "response_type": "code", **changes}
    return call(providers, "GET", "/ucommerce/api/v1/oauth/connect", params=asked)


def code_of(redirect: requests.Response) -> str:
    """The code in a redirect. As the vendor's page says, the query is URL-decoded once, and not as a form."""
    return unquote(urlsplit(redirect.headers["Location"]).query.removeprefix("code="))


def exchange(providers: ProvidersServer, **fields: str) -> requests.Response:
    headers = basic(*credentials("ucommerce"), charset="iso-8859-1")
    return call(providers, "POST", "/ucommerce/api/v1/oauth/token", data=fields, headers=headers)


def redeem(providers: ProvidersServer, code: str, redirect_uri: str = REDIRECT_URI) -> requests.Response:
    return exchange(providers, grant_type="authorization_code", code=code, redirect_uri=redirect_uri)


def refresh(providers: ProvidersServer, refresh_token: str) -> requests.Response:
    return exchange(providers, grant_type="refresh_token", refresh_token=refresh_token)


def standard(providers: ProvidersServer, **fields: str) -> requests.Response:
    return call(
        providers,
        "POST",
        "/oauth2/token",
        data={**GRANT, **fields},
        headers=basic(*map(quote_plus, credentials("oauth2"))),
    )


def token_from(providers: ProvidersServer, slug: str) -> str:
    if slug == "unicommerce":
        return str(login(providers).json()["accessToken"])
    if slug == "ucommerce":
        return str(redeem(providers, code_of(connect(providers))).json()["access_token"])
    ask = {"unified-services": unified, "commerce-layer": commerce, "unidy": unidy, "oauth2": standard}[slug]
    return str(ask(providers).json()["access_token"])


def sent(slug: str, token: str) -> dict[str, str]:
    return {"apiKey": token} if slug == "unicommerce" else {"Authorization": f"Bearer {token}"}


def report(providers: ProvidersServer, slug: str) -> dict[str, Any]:
    found: dict[str, Any] = call(providers, "GET", f"/_control/{slug}").json()
    return found


def steer(providers: ProvidersServer, slug: str, **commands: Any) -> None:
    response = call(providers, "POST", f"/_control/{slug}", json=commands)
    assert response.status_code == 200, response.text

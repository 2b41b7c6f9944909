"""How each peer gets a token, as its own documentation shows it for client credentials.

A caller is made once per process and shared by its threads, because the documentations use one object per application.
It is a function that returns the token, or raises the peer's error. Each imports its library itself, because only one
is needed and this module is also read where none is installed.
"""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any, Final, cast
from urllib.parse import quote, urlencode, urlsplit

Ask = Callable[[], str]
# An API that is never called. Some libraries return a token only on a request. For an API that is not regional,
# Google's client would look up over the network where a service account may be used.
API: Final = "https://api.europe-west1.rep.googleapis.com/"


@dataclass(frozen=True)
class Target:
    """The token endpoint and the client. Fields that a peer does not need are empty."""

    token_url: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    private_key: str = field(default="", repr=False)  # PEM, of the service account `client_id`
    scope: str = ""
    broker_url: str = ""
    connection: str = ""
    api_url: str = ""


class NoToken(Exception):
    """The peer returned an error response and raised no exception of its own."""


def authlib(target: Target) -> Ask:
    """Authlib's session for requests. Its session renews a token, but the first must be fetched explicitly."""
    from authlib.integrations.requests_client import OAuth2Session

    session: Any = OAuth2Session(
        target.client_id,
        target.client_secret,
        scope=target.scope,
        token_endpoint=target.token_url,
        grant_type="client_credentials",
    )

    def ask() -> str:
        if not session.token:
            session.fetch_token(target.token_url, grant_type="client_credentials")
        session.ensure_active_token()
        return str(session.token["access_token"])

    return ask


def requests_oauthlib(target: Target) -> Ask:
    """requests-oauthlib's backend application flow: an exception reports an expired token, then it is fetched."""
    # The library reads this variable for endpoints without TLS at each request.
    os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"
    from oauthlib.oauth2 import BackendApplicationClient, TokenExpiredError
    from requests.auth import HTTPBasicAuth
    from requests_oauthlib import OAuth2Session

    client = BackendApplicationClient(client_id=target.client_id, scope=[target.scope])
    session: Any = OAuth2Session(client=client)
    basic = HTTPBasicAuth(target.client_id, target.client_secret)

    def ask() -> str:
        if not session.authorized:
            session.fetch_token(token_url=target.token_url, auth=basic)
        try:
            _, headers, _ = client.add_token(API)
        except TokenExpiredError:
            session.fetch_token(token_url=target.token_url, auth=basic)
            _, headers, _ = client.add_token(API)
        return _without_scheme(headers["Authorization"])

    return ask


def httpx_auth(target: Target) -> Ask:
    """httpx-auth's client credentials: the token is on the request before httpx sends it."""
    import httpx
    from httpx_auth import OAuth2ClientCredentials

    auth: Any = OAuth2ClientCredentials(target.token_url, target.client_id, target.client_secret, scope=target.scope)

    def ask() -> str:
        request = next(auth.auth_flow(httpx.Request("GET", API)))
        return _without_scheme(request.headers["Authorization"])

    return ask


def google_auth(target: Target) -> Ask:
    """google-auth's service account (the JWT bearer grant, RFC 7523): it has no client credentials grant."""
    from google.auth.transport.requests import Request
    from google.oauth2.service_account import Credentials

    credentials: Any = Credentials.from_service_account_info(
        {"client_email": target.client_id, "private_key": target.private_key, "token_uri": target.token_url},
        scopes=[target.scope],
    )
    request = Request()

    def ask() -> str:
        headers: dict[str, str] = {}
        credentials.before_request(request, "GET", API, headers)
        return _without_scheme(headers["authorization"])

    return ask


def msal(target: Target) -> Ask:
    """MSAL's confidential client at an OIDC server. It accepts only https, so it has its own transport: `http_client`.

    The transport returns the authority's metadata itself, sends token requests by plain HTTP, and retries as MSAL's own
    does (max_retries=1).
    """
    import json

    import requests
    from msal import ConfidentialClientApplication
    from requests.adapters import HTTPAdapter

    authority = "https://login.peers.example/tenant"
    metadata = {
        "issuer": authority,
        "authorization_endpoint": f"{authority}/authorize",
        "token_endpoint": f"{authority}/token",
    }

    class Loopback(HTTPAdapter):
        def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
            if request.url == metadata["token_endpoint"]:
                request.url = target.token_url
                return super().send(request, *args, **kwargs)
            response = requests.Response()
            response.status_code, response.url, response.request = 200, request.url or "", request
            response._content = json.dumps(metadata).encode()
            return response

    session = requests.Session()
    session.mount(authority, Loopback(max_retries=1))
    application: Any = ConfidentialClientApplication(
        target.client_id, client_credential=target.client_secret, oidc_authority=authority, http_client=session
    )

    def ask() -> str:
        result = application.acquire_token_for_client(scopes=[target.scope])
        if "access_token" not in result:
            raise NoToken(f"a dictionary with error {result.get('error')!r}")
        return str(result["access_token"])

    return ask


def http(target: Target) -> Ask:
    """The token endpoint itself, a plain request for each token, over a kept connection per thread."""
    pair = f"{quote(target.client_id, safe='')}:{quote(target.client_secret, safe='')}"
    body = urlencode({"grant_type": "client_credentials", "scope": target.scope})
    headers = {
        "Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    send = _sender(target.token_url)

    def ask() -> str:
        import json

        status, answer = send("POST", body, headers)
        if status != 200:
            raise NoToken(f"HTTP {status} as the provider sent it")
        return str(json.loads(answer)["access_token"])

    return ask


def through_envoy(target: Target) -> Ask:
    """The API behind Envoy, which adds the token to the request. The caller does not get it."""
    send = _sender(target.api_url)

    def ask() -> str:
        status, answer = send("GET", "", {})
        if status != 200:
            raise NoToken(f"HTTP {status} from Envoy: {answer.decode(errors='replace')[:60]}")
        return "on the request"

    return ask


def broker_client(target: Target) -> Ask:
    """The broker's own client, with its defaults."""
    import boto3

    from token_broker_client import TokenBroker

    broker = TokenBroker(target.broker_url, session=boto3.Session("local", "local", region_name="eu-west-1"))

    def ask() -> str:
        return broker.token("oauth2", target.connection).access_token

    return ask


def broker_http(target: Target) -> Ask:
    """The broker's HTTP interface, a signed request for each token, with a kept connection per thread."""
    from local.client import SignedClient

    kept = threading.local()

    def ask() -> str:
        client = getattr(kept, "client", None) or SignedClient(target.broker_url)
        kept.client = client
        answer = client.call("GET", f"/v1/tokens/oauth2/{target.connection}")
        if answer.status != 200:
            after = answer.headers.get("Retry-After")
            raise NoToken(f"HTTP {answer.status} {answer.body['code']}" + (", with Retry-After" if after else ""))
        return cast("str", answer.body["access_token"])

    return ask


CALLERS: Final[Mapping[str, Callable[[Target], Ask]]] = {
    caller.__name__: caller
    for caller in (
        authlib,
        broker_client,
        broker_http,
        google_auth,
        http,
        httpx_auth,
        msal,
        requests_oauthlib,
        through_envoy,
    )
}


def _without_scheme(authorization: str) -> str:
    return authorization.partition(" ")[2]


def _sender(url: str) -> Callable[[str, str, Mapping[str, str]], tuple[int, bytes]]:
    """Sends (method, body, headers) to the URL over this thread's connection. Returns status and body."""
    parts, kept = urlsplit(url), threading.local()

    def send(method: str, body: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        connection = getattr(kept, "connection", None) or HTTPConnection(parts.netloc, timeout=60)
        kept.connection = connection
        try:
            connection.request(method, parts.path, body or None, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, HTTPException):
            connection.close()
            raise

    return send

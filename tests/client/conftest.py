"""A provider's API, another host, a stand-in for the broker, and a call through requests, httpx and async httpx."""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import requests

from token_broker_client import BrokerAuth
from token_broker_client.testing import FakeBroker

from .api import Api


@pytest.fixture
def api() -> Iterator[Api]:
    """The provider's API."""
    with closing(Api()) as api:
        yield api


@pytest.fixture
def elsewhere() -> Iterator[Api]:
    """Somebody else's server."""
    with closing(Api()) as api:
        yield api


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    """What every BrokerAuth asks."""
    with FakeBroker() as broker:
        yield broker


# Nothing here speaks TLS, and httpx would read the machine's certificates for each client.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True)
class BrokerResponse:
    """What came back, whichever library asked."""

    status: int
    text: str
    statuses: list[int]  # of the answers before it, redirects and replays


Call = Callable[..., BrokerResponse]


def with_requests(method: str, url: str, auth: BrokerAuth, **more: Any) -> BrokerResponse:
    with requests.Session() as session:
        session.trust_env = False
        response = session.request(method, url, auth=auth, timeout=10, **more)
        return BrokerResponse(
            response.status_code, response.text, [earlier.status_code for earlier in response.history]
        )


def with_httpx(method: str, url: str, auth: BrokerAuth, **more: Any) -> BrokerResponse:
    with httpx.Client(verify=NO_TLS, trust_env=False, follow_redirects=True) as client:
        return _answer(client.request(method, url, auth=auth, **_httpx(more)))


def with_async_httpx(method: str, url: str, auth: BrokerAuth, **more: Any) -> BrokerResponse:
    async def call() -> BrokerResponse:
        async with httpx.AsyncClient(verify=NO_TLS, trust_env=False, follow_redirects=True) as client:
            return _answer(await client.request(method, url, auth=auth, **_httpx(more)))

    return asyncio.run(call())


def _httpx(more: dict[str, Any]) -> dict[str, Any]:
    return {{"data": "content"}.get(name, name): value for name, value in more.items()}


def _answer(response: httpx.Response) -> BrokerResponse:
    return BrokerResponse(response.status_code, response.text, [earlier.status_code for earlier in response.history])


@pytest.fixture(params=[with_requests, with_httpx, with_async_httpx], ids=["requests", "httpx", "async httpx"])
def call(request: pytest.FixtureRequest) -> Call:
    """Calls a URL with an auth: `call("GET", url, auth, headers=…, data=…)`. Follows redirects."""
    chosen: Call = request.param
    return chosen

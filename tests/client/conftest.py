"""A provider's API, another host, a fake broker, and a call through requests, httpx and async httpx."""

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
def other_host() -> Iterator[Api]:
    """A server that must never get a token."""
    with closing(Api()) as api:
        yield api


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    """The broker that every BrokerAuth uses."""
    with FakeBroker() as broker:
        yield broker


# Nothing here uses TLS. Without this, httpx reads the machine's certificates for each client.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True)
class Response:
    """The API's response, from any of the libraries."""

    status: int
    text: str
    statuses: list[int]  # of the responses before it: redirects and replays


Call = Callable[..., Response]


def with_requests(method: str, url: str, auth: BrokerAuth, **more: Any) -> Response:
    with requests.Session() as session:
        session.trust_env = False
        response = session.request(method, url, auth=auth, timeout=10, **more)
        return Response(response.status_code, response.text, [earlier.status_code for earlier in response.history])


def with_httpx(method: str, url: str, auth: BrokerAuth, **more: Any) -> Response:
    with httpx.Client(verify=NO_TLS, trust_env=False, follow_redirects=True) as client:
        return _response(client.request(method, url, auth=auth, **_httpx(more)))


def with_async_httpx(method: str, url: str, auth: BrokerAuth, **more: Any) -> Response:
    async def call() -> Response:
        async with httpx.AsyncClient(verify=NO_TLS, trust_env=False, follow_redirects=True) as client:
            return _response(await client.request(method, url, auth=auth, **_httpx(more)))

    return asyncio.run(call())


def _httpx(more: dict[str, Any]) -> dict[str, Any]:
    return {{"data": "content"}.get(name, name): value for name, value in more.items()}


def _response(response: httpx.Response) -> Response:
    return Response(response.status_code, response.text, [earlier.status_code for earlier in response.history])


@pytest.fixture(params=[with_requests, with_httpx, with_async_httpx], ids=["requests", "httpx", "async httpx"])
def call(request: pytest.FixtureRequest) -> Call:
    """Calls a URL with an auth: `call("GET", url, auth, headers=…, data=…)`. Follows redirects."""
    chosen: Call = request.param
    return chosen

"""The comparison with peers: table and JSON of given rows, and measurements with callers that need no package."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.providers import start_providers
from tests.bench.peers.callers import CALLERS, Target
from tests.bench.peers.endpoints import CLIENT_ID, SCOPE, SECRET, Endpoints
from tests.bench.peers.measuring import OWN_PYTHON, asked, run
from tests.bench.peers.peers import PEERS
from tests.bench.peers.result import TOKEN, Answer, combined
from tests.bench.peers.worker import Task


@pytest.fixture(scope="module")
def endpoints() -> Iterator[Endpoints]:
    with start_providers() as providers:
        yield Endpoints(providers)


def target(root: str) -> Target:
    return Target(token_url=f"{root}/token", client_id=CLIENT_ID, client_secret=SECRET["client_secret"], scope=SCOPE)


# ------------------------------------------------------------------ table and JSON


def test_each_peer_has_a_caller_and_each_caller_a_peer() -> None:
    assert [peer.caller for peer in PEERS if peer.caller not in CALLERS] == []
    assert {peer.caller for peer in PEERS} == set(CALLERS)
    assert len({peer.name for peer in PEERS}) == len(PEERS)


# ------------------------------------------------------------------ measurements


def test_callers_of_two_processes_are_counted_at_the_provider(endpoints: Endpoints) -> None:
    """The caller without a cache: each of its calls is a token request."""
    endpoint, root = endpoints.new("cold")
    results = run([Task("http", target(root), "cold", 3)] * 2, OWN_PYTHON)
    found = combined([asked(result) for result in results], endpoint.token_requests)
    assert (found.token_requests, found.answers) == (6, (Answer(TOKEN, 6),))


@pytest.mark.parametrize(("failure", "status"), [("500", 500), ("429", 429), ("invalid_client", 401)])
def test_a_failing_caller_reports_what_it_got(endpoints: Endpoints, failure: str, status: int) -> None:
    endpoint, root = endpoints.new(failure)
    endpoint.always(failure)
    (result,) = run([Task("http", target(root), "failing", 2)], OWN_PYTHON)
    assert asked(result).answers == (Answer(f"HTTP {status} as the provider sent it", 2),)
    assert endpoint.token_requests == 2


def test_an_existing_token_is_timed(endpoints: Endpoints) -> None:
    endpoint, root = endpoints.new("hit")
    (result,) = run([Task("http", target(root), "hit", 3)], OWN_PYTHON)
    assert 0 < result["median_us"] <= result["p99_us"]
    assert (result["asks"], endpoint.token_requests) == (3, 4)


# ------------------------------------------------------------------ the endpoint and the proxies

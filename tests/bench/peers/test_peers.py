"""The comparison with peers: table and JSON of given rows, and measurements with callers that need no package."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from local.process import StartFailed
from local.providers import start_providers
from tests.bench.peers.__main__ import markdown, write
from tests.bench.peers.callers import CALLERS, Target
from tests.bench.peers.endpoints import ASSERTION_GRANT, CLIENT_ID, FAULTS, SCOPE, SECRET, Endpoint, Endpoints
from tests.bench.peers.measuring import OWN_PYTHON, Course, asked, run
from tests.bench.peers.peers import PEERS
from tests.bench.peers.proxies import envoy, nginx
from tests.bench.peers.result import FAILURES, TOKEN, Answer, CallResults, Hit, Row, combined, remarks, table
from tests.bench.peers.worker import Task

REFUSED = "own's Refused: no"


@pytest.fixture(scope="module")
def endpoints() -> Iterator[Endpoints]:
    with start_providers() as providers:
        yield Endpoints(providers)


def row(*, cold: CallResults, failing: CallResults, hit: Hit | None = None) -> Row:
    return Row("Own", "1.2", "asked", "its page", cold, cold, dict.fromkeys(FAILURES, failing), hit)


def target(root: str) -> Target:
    return Target(token_url=f"{root}/token", client_id=CLIENT_ID, client_secret=SECRET["client_secret"], scope=SCOPE)


# ------------------------------------------------------------------ table and JSON


def test_the_json_has_every_field(tmp_path: Path) -> None:
    asks = CallResults(1, (Answer(TOKEN, 2),), 0.01)
    write([row(cold=asks, failing=asks, hit=Hit.of([1000, 3000]))], Course(), tmp_path / "build" / "peers.json")
    document = json.loads((tmp_path / "build" / "peers.json").read_text())
    assert set(document) == {"measured_at", "machine", "course", "peers"}
    assert document["course"]["callers"] == 200
    (peer,) = document["peers"]
    assert set(peer) == {
        *("name", "version", "used_as", "documentation", "one_process", "processes", "failures", "hit", "remarks")
    }
    assert set(peer["failures"]) == set(FAILURES) == set(FAULTS)
    assert peer["one_process"] == {"token_requests": 1, "answers": [{"what": TOKEN, "times": 2}], "slowest_s": 0.01}
    assert peer["hit"] == {"token_requests": 0, "asks": 2, "median_us": 2.0, "p99_us": 3.0}


def test_a_row_of_the_table_has_a_cell_for_each_column() -> None:
    cold = CallResults(200, (Answer(TOKEN, 199), Answer(REFUSED, 1)), 0.26)
    failing = CallResults(30, (Answer(REFUSED, 10),), 3.17)
    head, rule, line = table([row(cold=cold, failing=failing)], callers=200, processes=8, asks=10).splitlines()
    assert head.count("|") == rule.count("|") == line.count("|")
    assert line == (
        "| Own | 1.2 | 200, 0.3 s (1 got none) | 200, 0.3 s (1 got none) | 30 (3.2 s) | 30 (3.2 s) | 30 (3.2 s) | – |"
    )


def test_a_caller_that_gave_up_is_mentioned() -> None:
    cold, failing = CallResults(1, (Answer(TOKEN, 200),), 0.3), CallResults(4, (Answer(REFUSED, 2),), 30.0)
    assert "| 4 (of 2 asks, 30.0 s) |" in table([row(cold=cold, failing=failing)], callers=200, processes=8, asks=10)


def test_remarks_follow_from_the_figures() -> None:
    quiet = row(cold=CallResults(1, (Answer(TOKEN, 200),), 0.3), failing=CallResults(1, (Answer(REFUSED, 10),), 0.1))
    assert remarks(quiet) == [
        f"{title}: 10 asks, 1 request; the caller got 10 × {REFUSED}" for title in FAILURES.values()
    ]
    loud = row(
        cold=CallResults(150, (Answer(TOKEN, 199), Answer(REFUSED, 1)), 0.3),
        failing=CallResults(10, (Answer(REFUSED, 10),), 1.0),
        hit=Hit(token_requests=6, asks=5, median_us=1.0, p99_us=2.0),
    )
    said = "\n".join(remarks(loud))
    assert "the threads of one process made 150 requests for one token" in said
    assert "1 of 200 cold callers (one process) got no token" in said
    assert "it keeps no token: 6 asks made 6 requests" in said
    assert "each ask reached the provider, 10 requests, the slowest took 1.0 s" in said


def test_the_text_names_the_conditions_and_the_page() -> None:
    asks = CallResults(1, (Answer(TOKEN, 2),), 0.01)
    text = markdown([row(cold=asks, failing=asks)], Course(latency_s=0.25))
    assert "answers cold callers after 0.25 s" in text
    assert "**Own**: asked (its page)." in text


def test_the_results_of_processes_are_added() -> None:
    parts = [CallResults(0, (Answer(TOKEN, 24), Answer(REFUSED, 1)), 0.2), CallResults(0, (Answer(TOKEN, 25),), 0.4)]
    assert combined(parts, 8) == CallResults(8, (Answer(TOKEN, 49), Answer(REFUSED, 1)), 0.4)


def test_a_hit_needs_measurements() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        Hit.of([])


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


def test_a_caller_without_patience_calls_once(endpoints: Endpoints) -> None:
    _, root = endpoints.new("impatient")
    (result,) = run([Task("http", target(root), "failing", 5, patience_s=0.0)], OWN_PYTHON)
    assert asked(result).asks == 1


def test_an_existing_token_is_timed(endpoints: Endpoints) -> None:
    endpoint, root = endpoints.new("hit")
    (result,) = run([Task("http", target(root), "hit", 3)], OWN_PYTHON)
    assert 0 < result["median_us"] <= result["p99_us"]
    assert (result["asks"], endpoint.token_requests) == (3, 4)


def test_callers_that_cannot_start_are_reported(endpoints: Endpoints, capfd: pytest.CaptureFixture[str]) -> None:
    _, root = endpoints.new("nobody")
    with pytest.raises(StartFailed, match="ended early"):
        run([Task("nobody", target(root), "cold", 1)], OWN_PYTHON)
    assert "KeyError: 'nobody'" in capfd.readouterr().err


# ------------------------------------------------------------------ the endpoint and the proxies


def jwt(key: str, **claims: object) -> str:
    """An RS256 JWT, as a service account signs it."""
    loaded = serialization.load_pem_private_key(key.encode(), None)
    assert isinstance(loaded, rsa.RSAPrivateKey)
    parts = [json.dumps(part).encode() for part in ({"alg": "RS256", "typ": "JWT"}, claims)]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(loaded.sign(signed, padding.PKCS1v15(), hashes.SHA256())).rstrip(b"=")
    return f"{signed.decode()}.{signature.decode()}"


def posted(root: str, assertion: str) -> tuple[int, dict[str, object]]:
    with requests.Session() as session:
        session.trust_env = False
        form = {"grant_type": ASSERTION_GRANT, "assertion": assertion}
        answer = session.post(f"{root}/token", data=form, timeout=10)
        return answer.status_code, answer.json()


def test_the_service_account_gets_a_token_for_its_assertion(endpoints: Endpoints) -> None:
    _, root = endpoints.new("assertion")
    status, document = posted(root, jwt(endpoints.private_key, iss=CLIENT_ID, exp=int(time.time()) + 60, scope=SCOPE))
    assert (status, document["token_type"]) == (200, "Bearer")
    assert document["access_token"]


def test_an_assertion_of_another_account_or_an_expired_one_is_refused(endpoints: Endpoints) -> None:
    endpoint, root = endpoints.new("refused-assertion")
    soon, key = int(time.time()) + 60, endpoints.private_key
    with start_providers() as others:
        stranger = Endpoints(others).private_key
    valid = jwt(key, iss=CLIENT_ID, exp=soon)
    refused = [
        jwt(stranger, iss=CLIENT_ID, exp=soon),
        jwt(key, iss="somebody", exp=soon),
        jwt(key, iss=CLIENT_ID, exp=soon - 3600),
        jwt(key, iss=CLIENT_ID),
        valid[:-4],
        "no JWT",
        "",
    ]
    found = [posted(root, assertion) for assertion in refused]
    assert [(status, document["error"]) for status, document in found] == [(400, "invalid_grant")] * len(refused)
    assert isinstance(endpoint, Endpoint)
    assert endpoint.report()["issued"] == 0


def test_a_proxy_has_the_endpoints_path(tmp_path: Path) -> None:
    for make in (nginx, envoy):
        proxy = make("http://127.0.0.1:4600/hit", tmp_path)
        assert proxy.root == f"http://127.0.0.1:{proxy.port}/hit"
    listener = json.loads((tmp_path / "envoy.json").read_text())["static_resources"]["listeners"][0]
    assert listener["address"] == {"socket_address": {"address": "127.0.0.1", "port_value": proxy.port}}
    assert "proxy_pass http://127.0.0.1:4600;" in (tmp_path / "nginx.conf").read_text()

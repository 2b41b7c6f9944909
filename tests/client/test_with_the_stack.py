"""A service that uses the client, against the local stack: real functions and signatures, simulated providers."""

import json
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from local.aws import REGION
from local.client import SignedClient
from local.connections import DEMO_PROVIDERS, aws_client
from local.front import Front, Gateway, Route
from local.ports import listen
from local.providers import DEFAULT_ACCOUNTS, default_settings
from local.providers.simulator import Simulator
from local.sigv4 import LOCAL, SignatureVerifier
from local.stack import STAGE, Options, Stack
from token_broker_client import BrokerAuth, BrokerRefused, TokenBroker, client

from .conftest import Call

ROUTE = "/v1/tokens/{provider}/{connection}"
FUNCTION = "GetTokenFunction"
SIMULATORS = (*DEMO_PROVIDERS, "oauth2")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The local stack."""
    logs = tmp_path_factory.mktemp("logs")
    with Stack(Options(api_environments=2, worker_environments=1, ticks=False, log_dir=logs)) as stack:
        yield stack


@dataclass(frozen=True)
class Connection:
    """A new connection, so that no instance has a token of it, and its simulated provider."""

    simulator: Simulator
    name: str
    resource: str

    def auth(self, **options: Any) -> BrokerAuth:
        return BrokerAuth(self.simulator.slug, self.name, **options)


def connect(running: Stack, provider: str) -> Connection:
    """Adds a connection like a platform engineer does."""
    simulator = running.providers.simulator(provider)
    simulator.reset()
    name = f"test-{uuid.uuid4().hex[:8]}"
    settings = {**default_settings(provider, running.providers_url), "allowed_callers": [LOCAL.arn]}
    aws_client("secretsmanager", running.endpoint_url).create_secret(
        Name=f"{running.resources.secret_prefix}/{provider}/{name}",
        SecretString=json.dumps(DEFAULT_ACCOUNTS[provider]["secret"]),
    )
    with closing(SignedClient(running.url)) as platform:
        assert platform.call("PUT", f"/v1/connections/{provider}/{name}", body=settings).status == 201
    return Connection(simulator, name, f"{running.providers_url}/{provider}/api/resource")


@pytest.fixture(params=SIMULATORS)
def connection(request: pytest.FixtureRequest, running: Stack) -> Connection:
    """A connection to each simulator."""
    return connect(running, request.param)


class Counted:
    """Passes requests on to the function and counts them. The next `failing` requests get a 503 instead."""

    def __init__(self, function: Any) -> None:
        self.asked: list[dict[str, str]] = []
        self.failing = 0
        self._function = function
        self._lock = threading.Lock()

    def invoke(self, event: Any) -> Any:
        with self._lock:
            self.asked.append(event["queryStringParameters"] or {})
            failing, self.failing = self.failing, max(self.failing - 1, 0)
        if failing:
            body = json.dumps({"code": "broker_unavailable", "status": 503, "detail": "set by the test"})
            return {"statusCode": 503, "headers": {"Retry-After": "1"}, "body": body}
        return self._function.invoke(event)

    @property
    def reported(self) -> list[str]:
        return [query["rejected"] for query in self.asked if "rejected" in query]


@pytest.fixture
def broker(running: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    """The broker that a service's environment variables name."""
    counted = Counted(running.pools[FUNCTION])
    gateway = Gateway(
        [Route("GET", ROUTE, counted)],
        verifier=SignatureVerifier((LOCAL,)),
        gateway_responses=running.resources.gateway_responses,
        stage=STAGE,
        unsigned_caller=LOCAL,
    )
    with closing(Front(listen(0), gateway)) as front:
        for name, value in {
            "TOKEN_BROKER_URL": front.url,
            "AWS_ACCESS_KEY_ID": LOCAL.access_key,
            "AWS_SECRET_ACCESS_KEY": LOCAL.secret_key,
            "AWS_DEFAULT_REGION": REGION,
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        monkeypatch.setattr(client, "_shared", {})
        yield counted


def test_a_service_calls_each_providers_protected_resource(connection: Connection, broker: Counted) -> None:
    auth = connection.auth()
    responses = [requests.get(connection.resource, auth=auth, timeout=10) for _ in range(3)]
    assert [response.status_code for response in responses] == [200] * 3
    assert responses[0].json()["token_id"] == auth.token().token_id
    assert len(broker.asked) == 1


def test_without_the_auth_there_is_a_401(connection: Connection) -> None:
    assert requests.get(connection.resource, timeout=10).status_code == 401


def test_a_service_does_not_notice_that_the_provider_revoked_its_token(
    connection: Connection, broker: Counted, call: Call
) -> None:
    auth = connection.auth()
    assert call("GET", connection.resource, auth).status == 200
    revoked = auth.token().token_id
    assert connection.simulator.revoke_tokens() >= 1
    assert [call("GET", connection.resource, auth).status for _ in range(2)] == [200, 200]
    assert broker.reported == [revoked]
    assert len(broker.asked) == 2
    report = connection.simulator.report()
    assert (report["resource_requests"], report["resource_refused"], report["issued"]) == (4, 1, 2)


def test_a_second_revocation_within_seconds_is_not_noticed_either(
    running: Stack, broker: Counted, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    connection = connect(running, "unidy")
    auth = connection.auth()
    for _ in range(3):
        assert call("GET", connection.resource, auth).status == 200
        connection.simulator.revoke_tokens()
    assert call("GET", connection.resource, auth).status == 200
    assert len(broker.reported) == 3
    assert not caplog.records


def test_a_service_does_not_notice_two_503_of_the_broker(connection: Connection, broker: Counted) -> None:
    pauses: list[float] = []
    broker.failing = 2
    auth = connection.auth(broker=TokenBroker(sleep=pauses.append))
    assert requests.get(connection.resource, auth=auth, timeout=10).status_code == 200
    assert pauses == [1, 1]
    assert len(broker.asked) == 3


def test_a_service_does_not_notice_two_503_for_a_report(connection: Connection, broker: Counted) -> None:
    auth = connection.auth(broker=TokenBroker(sleep=lambda _: None))
    assert requests.get(connection.resource, auth=auth, timeout=10).status_code == 200
    connection.simulator.revoke_tokens()
    broker.failing = 2
    assert requests.get(connection.resource, auth=auth, timeout=10).status_code == 200
    assert len(broker.asked) == 4
    assert len(set(broker.reported)) == 1


def test_fifty_threads_that_start_at_once_make_one_call(connection: Connection, broker: Counted) -> None:
    start = threading.Barrier(50)

    def service() -> int:
        start.wait(30)
        with requests.Session() as session:
            session.trust_env = False
            session.auth = connection.auth()
            return session.get(connection.resource, timeout=30).status_code

    with ThreadPoolExecutor(50) as threads:
        statuses = [thread.result(60) for thread in [threads.submit(service) for _ in range(50)]]
    assert Counter(statuses) == {200: 50}
    assert len(broker.asked) == 1
    assert connection.simulator.report()["issued"] == 1


def test_fifty_threads_that_lose_their_token_at_once_make_one_report(running: Stack, broker: Counted) -> None:
    connection = connect(running, "unidy")
    auth = connection.auth()
    auth.token()
    connection.simulator.revoke_tokens()
    start = threading.Barrier(50)

    def service() -> int:
        start.wait(30)
        with requests.Session() as session:
            session.trust_env = False
            return session.get(connection.resource, auth=auth, timeout=30).status_code

    with ThreadPoolExecutor(50) as threads:
        statuses = [thread.result(60) for thread in [threads.submit(service) for _ in range(50)]]
    assert Counter(statuses) == {200: 50}
    assert len(broker.reported) == 1


def test_an_error_of_the_broker_is_raised_as_the_class_of_its_code(broker: Counted) -> None:
    with pytest.raises(BrokerRefused) as raised:
        requests.get("http://127.0.0.1:9/", auth=BrokerAuth("unidy", "nobodys"), timeout=1)
    assert raised.value.code == "unknown_connection"
    assert type(raised.value).__name__ == "UnknownConnection"
    assert len(broker.asked) == 1

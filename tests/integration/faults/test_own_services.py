"""DynamoDB, KMS, Secrets Manager or SQS fails, at every call of an acquisition in turn.

The real adapters run over moto. A failure replaces the request that botocore sends, and botocore still retries.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError

from local.providers import DEFAULT_ACCOUNTS
from tests.integration.faults.stage import MOTO, Stage
from tests.integration.handlers.functions import BrokerResponse, Clients
from tests.integration.handlers.problems import assert_problem
from token_broker.adapters.aws import CLIENT_CONFIG

SERVICES = ("dynamodb", "kms", "secretsmanager", "sqs")
LEASE_OVER_S = 19
AWS_TEXT = "fake-aws-text-4711"


class _Raw:
    """The body of a response that was made here."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, **_arguments: Any) -> Iterator[bytes]:
        yield self._content


Reply = Callable[[AWSRequest], AWSResponse]


def aws_error(status: int, code: str) -> Reply:
    """An error of AWS's JSON protocols."""

    def reply(request: AWSRequest) -> AWSResponse:
        body = json.dumps({"__type": code, "message": AWS_TEXT}).encode()
        return AWSResponse(request.url, status, {"x-amzn-ErrorType": code}, _Raw(body))  # type: ignore[arg-type]  # botocore uses only stream()

    return reply


def read_timeout(request: AWSRequest) -> AWSResponse:
    raise ReadTimeoutError(endpoint_url=str(request.url))


def connect_timeout(request: AWSRequest) -> AWSResponse:
    raise ConnectTimeoutError(endpoint_url=str(request.url))


def no_connection(request: AWSRequest) -> AWSResponse:
    raise EndpointConnectionError(endpoint_url=str(request.url))


FAILURES: dict[str, Reply] = {
    "throttled": aws_error(400, "ThrottlingException"),
    "denied": aws_error(400, "AccessDeniedException"),
    "slow": read_timeout,
    "slow to connect": connect_timeout,
    "away": no_connection,
    "broken": aws_error(500, "InternalServerError"),
}


@dataclass
class AwsFaults:
    """Makes requests of the functions' AWS clients fail. `calls`: the operations so far; a retry is not a new one."""

    clients: Clients
    calls: list[str] = field(default_factory=list)
    _at: int | None = None
    _service: str | None = None
    _reply: Reply | None = None

    def fail(self, reply: Reply, *, service: str | None = None, at: int | None = None) -> None:
        """All calls of a service fail from now on, or the call with this number (from 0) with its retries."""
        self.calls.clear()
        self._reply, self._service, self._at = reply, service, at

    def heal(self) -> None:
        self.calls.clear()
        self._reply = self._service = self._at = None

    def on_call(self, model: Any, **_arguments: Any) -> None:
        self.calls.append(f"{model.service_model.service_name}.{model.name}")

    def on_request(self, request: AWSRequest, **_arguments: Any) -> AWSResponse | None:
        service, number = self.calls[-1].partition(".")[0], len(self.calls) - 1
        if self._reply is None or self._service not in (None, service) or self._at not in (None, number):
            return None
        return self._reply(request)


@pytest.fixture(scope="module")
def own_clients(session: boto3.session.Session) -> Clients:
    """Clients that no other test uses, because faults and a retry budget are attached to them."""
    return Clients(session)


@pytest.fixture
def aws_faults(own_clients: Clients, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsFaults]:
    faults = AwsFaults(own_clients)
    made = [own_clients.client(service, config=CLIENT_CONFIG) for service in SERVICES]
    for client in made:
        client.meta.events.register("provide-client-params.*.*", faults.on_call)
        client.meta.events.register("before-send.*.*", faults.on_request)
    # botocore would wait up to 3 s of real time before its third attempt.
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    monkeypatch.setattr("botocore.retries.quota.RetryQuota.acquire", lambda *_: True)
    monkeypatch.setattr(stage.world.functions, "_clients", own_clients)
    yield faults
    for client in made:
        client.meta.events.unregister("provide-client-params.*.*", faults.on_call)
        client.meta.events.unregister("before-send.*.*", faults.on_request)


pytestmark = pytest.mark.parametrize("stage", [MOTO], indirect=True)


def assert_broker_unavailable(response: BrokerResponse) -> None:
    assert_problem(response, 503, "broker_unavailable")
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert AWS_TEXT not in response.text
    assert set(response.body) == {"type", "title", "status", "code", "detail"}


def assert_nothing_leaks(stage: Stage, slug: str, texts: list[str]) -> None:
    """No credential and no token is in an error response or in a log line."""
    simulator = stage.simulator(slug)
    secrets = [
        value for name, value in DEFAULT_ACCOUNTS[slug]["secret"].items() if name not in ("client_id", "username")
    ]
    secrets += list(simulator.tokens._tokens) + list(getattr(simulator, "_refresh_tokens", {}))
    assert [secret[:6] for secret in secrets for text in texts if secret in text] == []


def calls_of_a_cold_key(stage: Stage, aws_faults: AwsFaults, slug: str) -> list[str]:
    """The AWS calls of an acquisition without faults."""
    name = stage.connect(slug, name="clean")
    aws_faults.heal()
    assert stage.token(name).status == 200
    return list(aws_faults.calls)


@pytest.mark.parametrize("slug", ["unicommerce", "commerce-layer", "ucommerce", "unidy"])
def test_any_call_of_an_acquisition_may_fail(
    stage: Stage, aws_faults: AwsFaults, slug: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The caller must wait, and gets a token when the service works again. The provider is never asked twice."""
    calls = calls_of_a_cold_key(stage, aws_faults, slug)
    assert len(calls) <= 8
    kinds = list(FAILURES)
    texts = []
    for number, call in enumerate(calls):
        stage.clock.advance(60)
        name = stage.connect(slug, name=f"at-{number}")
        before = stage.requests(slug).token
        aws_faults.fail(FAILURES[kinds[number % len(kinds)]], at=number)
        response = stage.token(name)
        texts.append(response.text if response.status != 200 else "")
        asked = stage.requests(slug).token - before
        assert asked <= 1, call
        if response.status != 200:
            assert_broker_unavailable(response)
        aws_faults.heal()
        again = stage.token(name)
        if again.code == "broker_unavailable":
            # The failure is remembered.
            assert again.headers["retry-after"] == "2"
            stage.clock.advance(2)
            again = stage.token(name)
        elif again.status != 200:
            # The lease could not be ended. It expires.
            assert_problem(again, 503, "acquisition_in_progress")
            stage.clock.advance(LEASE_OVER_S)
            again = stage.token(name)
        assert again.status == 200, (call, again)
        assert stage.requests(slug).token - before <= asked + 1, call
    assert_nothing_leaks(stage, slug, [*texts, capsys.readouterr().err])


def test_a_request_to_our_own_services_is_sent_at_most_three_times(stage: Stage, aws_faults: AwsFaults) -> None:
    """Three read time-outs of 2 s each fit into a caller's deadline."""
    made = []

    def count(request: AWSRequest) -> AWSResponse:
        made.append(request.url)
        return read_timeout(request)

    name = stage.connect("unidy")
    aws_faults.fail(count, service="dynamodb")
    assert_broker_unavailable(stage.token(name))
    assert len(made) == 3

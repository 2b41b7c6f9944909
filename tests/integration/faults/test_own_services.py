"""DynamoDB, KMS, Secrets Manager or SQS fails, at every call of an acquisition in turn.

The real adapters run over moto. A failure replaces the request that botocore sends, and botocore still retries. A lost
response means: the request was carried out, and no response arrived.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError

from local.providers import DEFAULT_ACCOUNTS
from tests.integration.faults.stage import DONE, MOTO, Stage
from tests.integration.handlers.functions import BrokerResponse, Clients
from tests.integration.handlers.problems import assert_problem
from tests.integration.handlers.world import World
from token_broker.adapters.aws import CLIENT_CONFIG
from token_broker.ports import RenewalMessage

SERVICES = {"dynamodb": "DynamoDB", "kms": "KMS", "secretsmanager": "Secrets Manager", "sqs": "SQS"}
ALL = 99
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
# The role may not read the secret. That is the connection's fault, not an outage.
NOT_READABLE = ("secretsmanager", "denied")
OUTAGES = [
    (service, kind)
    for service in ("dynamodb", "kms", "secretsmanager")
    for kind in FAILURES
    if (service, kind) != NOT_READABLE
]


@dataclass
class AwsFaults:
    """Makes requests of the functions' AWS clients fail. `calls`: the operations so far; a retry is not a new one."""

    clients: Clients
    calls: list[str] = field(default_factory=list)
    _at: int | None = None
    _service: str | None = None
    _reply: Reply | None = None
    _lost: int = 0

    def fail(self, reply: Reply, *, service: str | None = None, at: int | None = None) -> None:
        """All calls of a service fail from now on, or the call with this number (from 0) with its retries."""
        self.calls.clear()
        self._reply, self._service, self._at = reply, service, at

    def lose(self, *, at: int, responses: int) -> None:
        """The call with this number is carried out, and this many responses to it are lost."""
        self.calls.clear()
        self._reply, self._service, self._at, self._lost = None, None, at, responses

    def heal(self) -> None:
        self.calls.clear()
        self._reply = self._service = self._at = None

    def on_call(self, model: Any, **_arguments: Any) -> None:
        self.calls.append(f"{model.service_model.service_name}.{model.name}")

    def on_request(self, request: AWSRequest, **_arguments: Any) -> AWSResponse | None:
        service, number = self.calls[-1].partition(".")[0], len(self.calls) - 1
        if (
            (self._service or self._at) is None
            or self._service not in (None, service)
            or self._at not in (None, number)
        ):
            return None
        if self._reply is not None:
            return self._reply(request)
        if self._lost == 0:
            return None
        self._lost -= 1
        client = self.clients.client(service)
        client._endpoint.http_session.send(request)
        return read_timeout(request)


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


@pytest.mark.parametrize("responses", [1, ALL])
@pytest.mark.parametrize("slug", ["unicommerce", "ucommerce", "unidy"])
def test_the_response_to_any_write_may_be_lost(stage: Stage, aws_faults: AwsFaults, slug: str, responses: int) -> None:
    """If one response is lost, botocore retries, the broker recognises its own write, and the caller notices nothing.

    If all are lost, the write stays, and the provider is not asked again for what is stored.
    """
    calls = calls_of_a_cold_key(stage, aws_faults, slug)
    writes = [number for number, call in enumerate(calls) if call == "dynamodb.UpdateItem"]
    assert len(writes) >= 2
    for number in writes:
        stage.clock.advance(60)
        name = stage.connect(slug, name=f"at-{number}")
        before = stage.requests(slug).token
        aws_faults.lose(at=number, responses=responses)
        response = stage.token(name)
        if responses == 1:
            assert response.status == 200, (number, response)
        aws_faults.heal()
        if response.status != 200:
            assert_broker_unavailable(response)
            stage.clock.advance(LEASE_OVER_S)
        again = stage.token(name)
        assert again.status == 200
        assert stage.requests(slug).token - before == 1, number
        report = stage.simulator(slug).report()
        assert (report["replayed_refresh_tokens"], report["replayed_codes"]) == (0, 0)


@pytest.mark.parametrize(("service", "kind"), OUTAGES)
def test_the_first_token_waits_for_our_own_service(
    stage: Stage, aws_faults: AwsFaults, service: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = stage.connect("unidy")
    aws_faults.fail(FAILURES[kind], service=service)
    response = stage.token(name)
    assert_broker_unavailable(response)
    assert SERVICES[service] in response.body["detail"]
    output = capsys.readouterr()
    assert AWS_TEXT not in output.out + output.err
    assert_nothing_leaks(stage, "unidy", [response.text, output.out, output.err])
    asked = stage.requests("unidy").token
    aws_faults.heal()
    stage.clock.advance(LEASE_OVER_S)
    assert stage.token(name).status == 200
    assert asked <= 1


@pytest.mark.parametrize("kind", FAILURES)
def test_memory_serves_for_five_minutes_while_dynamodb_fails(stage: Stage, aws_faults: AwsFaults, kind: str) -> None:
    name = stage.connect("unidy")
    first = stage.token(name)
    aws_faults.fail(FAILURES[kind], service="dynamodb")
    for _ in range(9):
        stage.clock.advance(33)
        response = stage.token_again(name)
        assert (response.status, response.body["source"]) == (200, "memory")
        assert response.body["token_id"] == first.body["token_id"]
    stage.clock.advance(4)
    assert_broker_unavailable(stage.token_again(name))
    aws_faults.heal()
    assert stage.token_again(name).body["token_id"] == first.body["token_id"]
    assert stage.requests("unidy").token == 1


@pytest.mark.parametrize("service", ["dynamodb", "kms", "secretsmanager"])
def test_memory_does_not_serve_an_expired_token_while_a_service_fails(
    stage: Stage, aws_faults: AwsFaults, service: str
) -> None:
    name = stage.connect("ucommerce")
    stage.token(name)
    aws_faults.fail(FAILURES["away"], service=service)
    stage.clock.advance(300)
    response = stage.token_again(name)
    assert_broker_unavailable(response)
    assert stage.requests("ucommerce").token <= 2


@pytest.mark.parametrize("service", ["kms", "secretsmanager", "sqs"])
def test_a_valid_token_is_served_while_its_renewal_has_no_service(
    stage: Stage, aws_faults: AwsFaults, service: str
) -> None:
    name = stage.connect("unidy")
    first = stage.token(name)
    stage.advance_near_expiry(first, remaining=timedelta(seconds=20))
    assert stage.token_again(name, min_ttl="0").status == 200
    aws_faults.fail(FAILURES["broken"], service=service)
    response = stage.token_again(name, min_ttl="0")
    assert (response.status, response.body["token_id"]) == (200, first.body["token_id"])


@pytest.mark.parametrize("kind", FAILURES)
def test_the_worker_returns_the_message_when_the_table_fails(stage: Stage, aws_faults: AwsFaults, kind: str) -> None:
    name = stage.connect("ucommerce")
    first = stage.token(name)
    stage.advance_near_expiry(first)
    (record,) = stage.records(name)
    aws_faults.fail(FAILURES[kind], service="dynamodb")
    message = RenewalMessage(record.key.name, record.key.scope_id)
    assert stage.work(message) == {"batchItemFailures": [{"itemIdentifier": "m-1"}]}
    aws_faults.heal()
    stage.clock.advance(LEASE_OVER_S)
    assert_renewed(stage, name, message, first)


@pytest.mark.parametrize("kind", FAILURES)
@pytest.mark.parametrize("service", ["kms", "secretsmanager"])
def test_the_worker_remembers_that_another_of_our_own_services_failed(
    stage: Stage, aws_faults: AwsFaults, service: str, kind: str
) -> None:
    """The message is done, so that an outage fills no dead-letter queue. No refresh token is lost: nothing was sent."""
    name = stage.connect("ucommerce")
    first = stage.token(name)
    stage.advance_near_expiry(first)
    (before,) = stage.records(name)
    requests = stage.requests("ucommerce")
    message = RenewalMessage(before.key.name, before.key.scope_id)
    aws_faults.fail(FAILURES[kind], service=service)
    assert stage.work(message) == DONE
    aws_faults.heal()
    served = stage.token(name)
    assert (served.status, served.body["token_id"]) == (200, first.body["token_id"])
    assert served.body["warnings"] == ["renewal_failing"]
    (record,) = stage.records(name)
    assert record.failure is not None
    not_readable = (service, kind) == NOT_READABLE
    assert record.failure.code == ("connection_misconfigured" if not_readable else "broker_unavailable")
    assert record.due_at == record.failure.retry_at > stage.clock()
    assert stage.work(message) == DONE
    assert stage.requests("ucommerce") == requests
    stage.clock.advance(to=record.due_at)
    if not_readable:
        # The token has expired by now: the cooldown is 5 min.
        assert stage.token(name).body["source"] == "provider"
    else:
        assert_renewed(stage, name, message, first)
    assert stage.simulator("ucommerce").report()["connect_requests"] == 1


def assert_renewed(stage: Stage, name: str, message: RenewalMessage, first: BrokerResponse) -> None:
    """The worker renews the token, and no refresh token is sent twice."""
    assert stage.work(message) == DONE
    second = stage.token(name)
    assert (second.status, second.body["warnings"], second.body["source"]) == (200, [], "table")
    assert second.body["token_id"] != first.body["token_id"]
    assert stage.simulator("ucommerce").report()["replayed_refresh_tokens"] == 0


def test_a_secret_that_the_role_may_not_decrypt_makes_the_connection_misconfigured(
    stage: Stage, aws_faults: AwsFaults
) -> None:
    name = stage.connect("unidy")
    aws_faults.fail(aws_error(400, "DecryptionFailure"), service="secretsmanager")
    response = stage.token(name)
    assert_problem(response, 409, "connection_misconfigured")
    for named in ("SecretKeyArns", "key's policy"):
        assert named in response.body["detail"]
    assert AWS_TEXT not in response.text
    assert stage.state(name).body["state"] == "misconfigured"
    aws_faults.heal()
    assert stage.token(name).status == 200
    assert stage.requests("unidy").token == 1


@pytest.mark.parametrize("kind", FAILURES)
def test_a_key_that_the_queue_did_not_accept_is_due_at_the_next_sweep(
    stage: Stage, aws_faults: AwsFaults, kind: str, world: World
) -> None:
    name = stage.connect("unidy")
    stage.advance_near_expiry(stage.token(name))
    aws_faults.fail(FAILURES[kind], service="sqs")
    with pytest.raises(Exception, match="SQS"):
        world.sweep(stage.clock())
    aws_faults.heal()
    stage.clock.advance(60)
    assert world.sweep(stage.clock())["queued"] == 1


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


def test_a_login_is_counted_once_even_if_the_response_to_the_count_is_lost(stage: Stage, aws_faults: AwsFaults) -> None:
    """Otherwise one login without a response would count as two, and so as a refusal."""
    calls = calls_of_a_cold_key(stage, aws_faults, "unicommerce")
    assert len(calls) >= 6
    refused = []
    for number, call in enumerate(calls):
        if call != "dynamodb.UpdateItem":
            continue
        stage.clock.advance(60)
        name = stage.connect("unicommerce", name=f"at-{number}")
        stage.simulator("unicommerce").fail("reset", times=1)
        aws_faults.lose(at=number, responses=1)
        refused.append(stage.token(name).code)
        aws_faults.heal()
        stage.simulator("unicommerce").clear_faults()
    assert set(refused) == {"provider_unavailable"}

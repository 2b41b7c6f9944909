"""The client against the front: what it asks is signed as API Gateway checks it, and what it gets is told whole."""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import boto3
import pytest

from tests.local.aws import REGION
from tests.local.front import Front, Gateway, Route
from tests.local.ports import listen
from tests.local.resources import GatewayResponse
from tests.local.sigv4 import LOCAL, SignatureVerifier
from token_broker_client import BrokerRefused, TokenBroker

DENIED = GatewayResponse(403, {"Content-Type": "application/problem+json"}, '{"code":"access_denied","detail":"no"}')


class Broker:
    """Stands for the broker: keeps the events, and answers as it was told to."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = json.dumps({"access_token": "tok-1", "headers": {"Authorization": "Bearer tok-1"}})

    def invoke(self, event: Any) -> Any:
        self.events.append(event)
        return {"statusCode": self.status, "headers": self.headers, "body": self.body}


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def url(broker: Broker) -> Iterator[str]:
    gateway = Gateway(
        [Route("GET", "/v1/tokens/{provider}/{connection}", broker)],
        verifier=SignatureVerifier(),
        gateway_responses={"INVALID_SIGNATURE": DENIED},
        stage="api",
        unsigned_caller=LOCAL,
    )
    with closing(Front(listen(0), gateway)) as front:
        yield front.url


def session(secret: str = "local") -> boto3.Session:
    return boto3.Session(aws_access_key_id="local", aws_secret_access_key=secret, region_name=REGION)


def test_a_token_comes_as_the_broker_describes_it(url: str, broker: Broker) -> None:
    token = TokenBroker(url, session=session()).token("unidy", "eu-main")
    assert token["headers"] == {"Authorization": "Bearer tok-1"}
    (event,) = broker.events
    assert event["pathParameters"] == {"provider": "unidy", "connection": "eu-main"}
    assert event["queryStringParameters"] is None


def test_what_is_asked_for_is_signed_with_the_rest(url: str, broker: Broker) -> None:
    client = TokenBroker(url, session=session())
    client.token("unidy", "eu-main", scope="users:read users:write", min_ttl=0, rejected="9f86d081884c7d65")
    assert broker.events[0]["queryStringParameters"] == {
        "scope": "users:read users:write",
        "min_ttl": "0",
        "rejected": "9f86d081884c7d65",
    }


def test_a_wrong_key_is_api_gateways_refusal(url: str, broker: Broker) -> None:
    with pytest.raises(BrokerRefused) as refused:
        TokenBroker(url, session=session("wrong")).token("unidy", "eu-main")
    assert (refused.value.status, refused.value.code) == (403, "access_denied")
    assert not broker.events


def test_a_refusal_tells_its_code_and_when_to_ask_again(url: str, broker: Broker) -> None:
    broker.status, broker.headers = 503, {"Retry-After": "2"}
    broker.body = json.dumps({"code": "acquisition_in_progress", "detail": "another caller is fetching it"})
    with pytest.raises(BrokerRefused, match="503 acquisition_in_progress: another caller is fetching it") as refused:
        TokenBroker(url, session=session()).token("unidy", "eu-main")
    assert refused.value.retry_after == 2


def test_an_answer_that_is_no_problem_is_still_a_refusal(url: str, broker: Broker) -> None:
    broker.status, broker.body = 502, "<html>"
    with pytest.raises(BrokerRefused) as refused:
        TokenBroker(url, session=session()).token("unidy", "eu-main")
    assert (refused.value.status, refused.value.code, refused.value.retry_after) == (502, "unknown", None)


def test_a_client_without_a_region_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(ValueError, match="no region"):
        TokenBroker("https://broker.example", session=boto3.Session())

"""TokenBroker against the front: what it asks is signed as API Gateway checks it, and what it gets is told whole."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import boto3
import pytest
import urllib3

from local.aws import REGION
from local.front import Front, Gateway, Route
from local.ports import LOOPBACK, listen, port_of
from local.resources import GatewayResponse
from local.sigv4 import LOCAL, SignatureVerifier
from token_broker.http import problems
from token_broker_client import BrokerRefused, BrokerUnreachable, ClientNotConfigured, TokenBroker, TryLater, errors
from token_broker_client.client import shared_broker
from token_broker_client.endpoint import REGION_IN_HOST, Endpoint
from token_broker_client.testing import STATUS, FakeBroker

DENIED = GatewayResponse(403, {"Content-Type": "application/problem+json"}, '{"code":"access_denied","detail":"no"}')
UNIDY = ("unidy", "eu-main")


class Broker:
    """Stands for the broker's function: keeps the events, and answers as it was told to."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = json.dumps(FakeBroker()._answer("/v1/tokens/unidy/eu-main", {}, timeout_s=1))

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


@pytest.fixture
def client(url: str) -> Iterator[TokenBroker]:
    with closing(TokenBroker(url, session=session(), sleep=lambda _: None)) as client:
        yield client


def test_a_token_comes_as_the_broker_describes_it(client: TokenBroker, broker: Broker) -> None:
    token = client.token(*UNIDY)
    assert token.headers == {"Authorization": "Bearer fake-unidy-eu-main-1"}
    assert token.access_token == "fake-unidy-eu-main-1"
    assert token.expires_at.isoformat() == "2026-01-01T01:00:00+00:00"
    (event,) = broker.events
    assert event["pathParameters"] == {"provider": "unidy", "connection": "eu-main"}
    assert event["queryStringParameters"] is None
    assert event["headers"]["User-Agent"].startswith("token-broker-client/")


def test_what_is_asked_for_is_signed_with_the_rest(client: TokenBroker, broker: Broker) -> None:
    client.token(*UNIDY, scope="users:read api://x/.default", min_ttl=0, rejected="9f86d081884c7d65")
    assert broker.events[0]["queryStringParameters"] == {
        "scope": "users:read api://x/.default",
        "min_ttl": "0",
        "rejected": "9f86d081884c7d65",
    }


def test_a_name_cannot_leave_its_place_in_the_path(client: TokenBroker, broker: Broker) -> None:
    client.token("unidy", "a/../b?c")
    assert broker.events[0]["path"] == "/v1/tokens/unidy/a%2F..%2Fb%3Fc"


def test_a_wrong_key_is_api_gateways_refusal(url: str, broker: Broker) -> None:
    with pytest.raises(errors.AccessDenied) as refused:
        TokenBroker(url, session=session("wrong")).token(*UNIDY)
    assert (refused.value.status, refused.value.code) == (403, "access_denied")
    assert not broker.events


def test_the_credentials_and_url_of_the_environment_are_used(
    url: str, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": REGION,
        "TOKEN_BROKER_URL": f"{url}/",
    }.items():
        monkeypatch.setenv(name, value)
    with closing(TokenBroker()) as client:
        client.token(*UNIDY)
    assert shared_broker() is shared_broker(f"{url}/")
    assert len(broker.events) == 1


def test_a_refusal_tells_its_code_and_when_to_ask_again(client: TokenBroker, broker: Broker) -> None:
    broker.status, broker.headers = 503, {"Retry-After": "60"}
    broker.body = json.dumps({"code": "provider_unavailable", "detail": "it is down", "provider_error": "x"})
    with pytest.raises(errors.ProviderUnavailable, match="503 provider_unavailable: it is down") as refused:
        client.token(*UNIDY)
    assert refused.value.retry_after == 60
    assert refused.value.provider_error == "x"
    assert len(broker.events) == 1


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [(502, "<html>", BrokerRefused), (200, "[]", BrokerRefused), (200, "{}", BrokerRefused), (307, "", BrokerRefused)],
)
def test_an_answer_of_something_in_between_is_a_refusal(
    client: TokenBroker, broker: Broker, status: int, body: str, error: type[BrokerRefused]
) -> None:
    broker.status, broker.body, broker.headers = status, body, {"Location": "http://127.0.0.1:9/"}
    with pytest.raises(error) as refused:
        client.token(*UNIDY)
    assert (refused.value.status, refused.value.code, refused.value.retry_after) == (status, "unknown", None)
    assert len(broker.events) == 1


def test_a_refusal_without_a_code_that_may_pass_is_tried_again(client: TokenBroker, broker: Broker) -> None:
    broker.status, broker.body, broker.headers = 503, "", {"Retry-After": "3600"}
    with pytest.raises(TryLater):
        client.token(*UNIDY)


def test_a_connection_is_kept_and_a_closed_one_replaced(url: str, broker: Broker) -> None:
    http = urllib3.PoolManager()
    with closing(TokenBroker(url, session=session(), http=http)) as client:
        for name in ("one", "two", "three"):
            client.token("unidy", name)
        pool = http.connection_from_url(url)
        assert (pool.num_connections, pool.num_requests) == (1, 3)
        client.close()
        client.token("unidy", "four")
    assert len(broker.events) == 4


def test_a_broker_that_is_not_there_is_unreachable() -> None:
    listener = listen(0)
    port = port_of(listener)
    listener.close()
    client = TokenBroker(f"http://{LOOPBACK}:{port}", session=session(), deadline_s=0.5)
    with pytest.raises(BrokerUnreachable, match="NewConnectionError"):
        client.token(*UNIDY)


@pytest.mark.parametrize(
    "url",
    [
        "http://broker.example/api",
        "broker.example",
        "",
        "https:///api",
        "https://broker.example/?x=1",
        "ftp://127.1.1.1x",
    ],
)
def test_a_url_that_would_carry_tokens_in_the_clear_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKEN_BROKER_URL", raising=False)
    with pytest.raises(ClientNotConfigured):
        TokenBroker(url)


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("abc123.execute-api.eu-west-1.amazonaws.com", "eu-west-1"),
        ("abc123-vpce-1.execute-api.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("vpce-1-2.execute-api.eu-central-1.vpce.amazonaws.com", "eu-central-1"),
        ("abc123.execute-api.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("tokens.example.com", None),
        ("abc.execute-api.eu-west-1.amazonaws.com.example.com", None),
    ],
)
def test_the_region_is_the_one_in_the_urls_host(host: str, region: str | None) -> None:
    found = REGION_IN_HOST.search(host)
    assert (found.group(1) if found else None) == region


def test_that_region_signs_before_the_sessions_and_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    def signed(url: str, region: str | None = None, of_session: str | None = REGION) -> str:
        keys = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name=of_session)
        return Endpoint(url, session=keys, region=region)._signed("GET", url, {}, b"")["Authorization"].split("/")[2]

    api_gateways, own = "https://abc.execute-api.us-east-1.amazonaws.com/api", "https://tokens.example.com"
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert signed(api_gateways) == "us-east-1"
    assert signed(api_gateways, region="us-west-2") == "us-west-2"
    assert signed(own) == REGION
    assert signed(own, of_session=None) == "eu-central-1"


def test_a_client_without_a_region_or_credentials_is_told_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ClientNotConfigured, match="no AWS credentials"):
        TokenBroker(url).token(*UNIDY)
    keys = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local")
    with pytest.raises(ClientNotConfigured, match="no region"):
        TokenBroker(url, session=keys).token(*UNIDY)
    monkeypatch.setenv("AWS_PROFILE", "missing")
    with pytest.raises(ClientNotConfigured, match="missing"):
        TokenBroker(url).token(*UNIDY)


def test_a_forked_child_starts_without_the_parents_connections_and_locks(client: TokenBroker, broker: Broker) -> None:
    client.token(*UNIDY)
    pool, lock = client._endpoint._http, client._lock
    with lock:  # as if another thread held it when the process forked
        client.start_afresh()
        assert client.kept(*UNIDY) is None
    assert client._endpoint._http is not pool
    client.token(*UNIDY)
    assert len(broker.events) == 2


def test_every_code_that_a_token_request_can_get_has_its_class() -> None:
    of_other_routes = {"would_revoke", "version_conflict", "too_many_trials"}
    ours = {kind.code: (kind.__name__, status) for kind, status in problems.STATUS.items()}
    gateways = {"access_denied": ("AccessDenied", 403), "throttled": ("Throttled", 429)}
    further = {"gateway_timeout": ("GatewayTimeout", 504), "internal_error": ("InternalError", 500)}
    expected = {code: it for code, it in (ours | gateways | further).items() if code not in of_other_routes}
    assert {code: (kind.__name__, STATUS[code]) for code, kind in errors._CLASSES.items()} == expected
    assert type(errors.refusal(418, {"code": "of_a_newer_broker"})) is BrokerRefused

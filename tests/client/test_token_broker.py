"""TokenBroker against the local API Gateway: signed requests, and every kind of response."""

import json
import os
import shutil
import subprocess
import traceback
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

import boto3
import pytest
import urllib3
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import ClientError, CredentialRetrievalError

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
    """A fake of the broker's function. Keeps the events. The test sets its response."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = json.dumps(FakeBroker()._respond("/v1/tokens/unidy/eu-main", {}, timeout_s=1))

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


def test_a_token_has_the_fields_of_the_brokers_response(client: TokenBroker, broker: Broker) -> None:
    token = client.token(*UNIDY)
    assert token.headers == {"Authorization": "Bearer fake-unidy-eu-main-1"}
    assert token.access_token == "fake-unidy-eu-main-1"
    assert token.expires_at.isoformat() == "2026-01-01T01:00:00+00:00"
    (event,) = broker.events
    assert event["pathParameters"] == {"provider": "unidy", "connection": "eu-main"}
    assert event["queryStringParameters"] is None
    assert event["headers"]["User-Agent"].startswith("token-broker-client/")


def test_the_query_is_signed(client: TokenBroker, broker: Broker) -> None:
    client.token(*UNIDY, scope="users:read api://x/.default", min_ttl=0, rejected="9f86d081884c7d65")
    assert broker.events[0]["queryStringParameters"] == {
        "scope": "users:read api://x/.default",
        "min_ttl": "0",
        "rejected": "9f86d081884c7d65",
    }


def test_a_name_is_escaped_in_the_path(client: TokenBroker, broker: Broker) -> None:
    client.token("unidy", "a/../b?c")
    assert broker.events[0]["path"] == "/v1/tokens/unidy/a%2F..%2Fb%3Fc"


def test_a_wrong_key_is_access_denied(url: str, broker: Broker) -> None:
    with pytest.raises(errors.AccessDenied) as raised:
        TokenBroker(url, session=session("wrong")).token(*UNIDY)
    assert (raised.value.status, raised.value.code) == (403, "access_denied")
    assert not broker.events


def test_credentials_and_url_come_from_the_environment(
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


CURL: Final = shutil.which("curl")


@pytest.mark.skipif(CURL is None, reason="needs curl")
@pytest.mark.parametrize(
    ("query", "since"),
    [
        ("", (7, 75)),
        ("?min_ttl=60&scope=users%3Aread%20users%3Awrite", (7, 75)),
        ("?scope=users:read", (8, 3)),
        ("?scope=users%3Aread&min_ttl=60", (8, 3)),
    ],
)
def test_which_query_curl_signs_rightly_depends_on_its_version(url: str, query: str, since: tuple[int, int]) -> None:
    """As docs/service-developers.md says."""

    def curl(*arguments: str) -> str:
        assert CURL is not None
        return subprocess.run([CURL, *arguments], capture_output=True, text=True, check=True).stdout

    major, minor = curl("--version").split()[1].split(".")[:2]
    signing = ("--aws-sigv4", f"aws:amz:{REGION}:execute-api", "--user", "local:local")
    target = f"{url}/v1/tokens/unidy/eu-main{query}"
    status = curl("--silent", "--output", os.devnull, "--write-out", "%{http_code}", *signing, target)
    assert status == ("200" if (int(major), int(minor)) >= since else "403")


def test_an_error_has_its_code_and_when_to_retry(client: TokenBroker, broker: Broker) -> None:
    broker.status = 503
    broker.headers = {"Retry-After": "60"}
    broker.body = json.dumps({"code": "provider_unavailable", "detail": "it is down", "provider_error": "x"})
    with pytest.raises(errors.ProviderUnavailable, match="503 provider_unavailable: it is down") as raised:
        client.token(*UNIDY)
    assert raised.value.retry_after == 60
    assert raised.value.provider_error == "x"
    assert len(broker.events) == 1


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [(502, "<html>", BrokerRefused), (200, "[]", BrokerRefused), (200, "{}", BrokerRefused), (307, "", BrokerRefused)],
)
def test_a_response_that_is_not_the_brokers_is_an_error(
    client: TokenBroker, broker: Broker, status: int, body: str, error: type[BrokerRefused]
) -> None:
    broker.status = status
    broker.body = body
    broker.headers = {"Location": "http://127.0.0.1:9/"}
    with pytest.raises(error) as raised:
        client.token(*UNIDY)
    assert (raised.value.status, raised.value.code, raised.value.retry_after) == (status, "unknown", None)
    assert len(broker.events) == 1


def test_a_503_without_a_code_is_try_later(client: TokenBroker, broker: Broker) -> None:
    broker.status = 503
    broker.body = ""
    broker.headers = {"Retry-After": "3600"}
    with pytest.raises(TryLater):
        client.token(*UNIDY)


def test_an_http_connection_stays_open_and_a_closed_one_is_replaced(url: str, broker: Broker) -> None:
    http = urllib3.PoolManager()
    with closing(TokenBroker(url, session=session(), http=http)) as client:
        for name in ("one", "two", "three"):
            client.token("unidy", name)
        pool = http.connection_from_url(url)
        assert (pool.num_connections, pool.num_requests) == (1, 3)
        client.close()
        client.token("unidy", "four")
    assert len(broker.events) == 4


def test_a_broker_that_does_not_listen_is_unreachable() -> None:
    listener = listen(0)
    port = port_of(listener)
    listener.close()
    client = TokenBroker(f"http://{LOOPBACK}:{port}", session=session(), deadline_s=0.5)
    with pytest.raises(BrokerUnreachable, match=f"at http://{LOOPBACK}:{port}: NewConnectionError"):
        client.token(*UNIDY)


@pytest.mark.parametrize(
    "url",
    [
        "http://broker.example/api",
        "broker.example",
        "https://user@broker.example",
        "https:///api",
        "https://broker.example/?x=1",
        "ftp://127.1.1.1x",
    ],
)
def test_a_url_that_would_send_tokens_unencrypted_is_an_error(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_the_region_comes_from_the_urls_host(host: str, region: str | None) -> None:
    found = REGION_IN_HOST.search(host)
    assert (found.group(1) if found else None) == region


def test_the_urls_region_goes_before_the_sessions_and_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    def signed(url: str, region: str | None = None, of_session: str | None = REGION) -> str:
        keys = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name=of_session)
        return Endpoint(url, session=keys, region=region)._signed("GET", url, {}, b"")["Authorization"].split("/")[2]

    api_gateways = "https://abc.execute-api.us-east-1.amazonaws.com/api"
    own = "https://tokens.example.com"
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert signed(api_gateways) == "us-east-1"
    assert signed(api_gateways, region="us-west-2") == "us-west-2"
    assert signed(own) == REGION
    assert signed(own, of_session=None) == "eu-central-1"


def test_a_client_without_a_region_or_credentials_raises_client_not_configured(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
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


class ExpiredCredentials(Credentials):
    """Credentials of a role that can be refreshed no longer, once `error` is set."""

    error: Exception | None = None

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        if self.error:
            raise self.error
        return super().get_frozen_credentials()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired."),
        ClientError({"Error": {"Code": "AccessDenied"}}, "AssumeRole"),
        CredentialRetrievalError(provider="iam-role", error_msg="no response"),
        KeyError("AccessKeyId"),
        OSError("no such file"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_without_credentials_a_kept_token_stays_in_use_and_there_is_no_new_one(url: str, error: Exception) -> None:
    now = [1000.0]
    keys = ExpiredCredentials("local", "local")
    own = session()
    own._session._credentials = keys  # type: ignore[attr-defined]  # botocore has no public way
    with closing(TokenBroker(url, session=own, clock=lambda: now[0], sleep=lambda _: None)) as client:
        token = client.token(*UNIDY)
        keys.error = error
        now[0] += 301
        assert client.token(*UNIDY) is token
        with pytest.raises(ClientNotConfigured, match=f"no AWS credentials to sign with: {type(error).__name__}"):
            client.token("unidy", "us-main")


def test_a_session_token_that_no_header_can_have_is_not_repeated(url: str) -> None:
    keys = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", aws_session_token="fake-secret\n")
    with pytest.raises(ClientNotConfigured) as raised:
        TokenBroker(url, session=keys, region=REGION).token(*UNIDY)
    assert "fake-secret" not in "".join(traceback.format_exception(raised.value))


def test_a_forked_child_starts_without_the_parents_connections_and_locks(client: TokenBroker, broker: Broker) -> None:
    client.token(*UNIDY)
    pool = client._endpoint._http
    with client._lock:  # as if another thread held it at the fork
        client.reset_after_fork()
        assert client.kept(*UNIDY) is None
    assert client._endpoint._http is not pool
    client.token(*UNIDY)
    assert len(broker.events) == 2


def test_every_code_that_a_token_request_can_get_has_its_class() -> None:
    of_other_routes = {
        "would_revoke",
        "version_conflict",
        "too_many_trials",
        "would_consume_grant",
        "unknown_consent",
        "wrong_consent_state",
        "new_account",
    }
    ours = {kind.code: (kind.__name__, status) for kind, status in problems.STATUS.items()}
    gateways = {"access_denied": ("AccessDenied", 403), "throttled": ("Throttled", 429)}
    further = {"gateway_timeout": ("GatewayTimeout", 504), "internal_error": ("InternalError", 500)}
    expected = {code: it for code, it in (ours | gateways | further).items() if code not in of_other_routes}
    assert {code: (kind.__name__, STATUS[code]) for code, kind in errors._CLASSES.items()} == expected
    assert type(errors.error_for_problem(418, {"code": "of_a_newer_broker"})) is BrokerRefused

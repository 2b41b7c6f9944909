"""The front acts as API Gateway: signatures, routes, proxy events, proxy responses and gateway responses."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.client import SignedClient
from local.front import HEALTH_PATH, Front, Gateway, Route
from local.lambda_environments import EnvironmentPool, Function
from local.ports import listen
from local.resources import GatewayResponse
from local.sigv4 import (
    LOCAL,
    SERVICE,
    STRANGER,
    Caller,
    SignatureVerifier,
)

HANDLER = """
import json


def lambda_handler(event, context):
    query = event["queryStringParameters"] or {}
    if "raise" in query:
        raise ValueError("broken")
    if "malformed" in query:
        return {"body": "no status"}
    return {
        "statusCode": 201,
        "headers": {"Content-Type": "application/json", "X-Once": "1"},
        "multiValueHeaders": {"X-Twice": ["a", "b"]},
        "body": json.dumps(event),
    }
"""
TOKEN_PATH = "/v1/tokens/{provider}/{connection}"
PROBLEM = {"Content-Type": "application/problem+json", "Cache-Control": "no-store"}
RESPONSES = {
    "DEFAULT_4XX": GatewayResponse(0, PROBLEM, '{"code":"access_denied","detail":$context.error.messageString}'),
    "DEFAULT_5XX": GatewayResponse(503, PROBLEM, '{"code":"broker_unavailable"}'),
}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvironmentPool]:
    code: Path = tmp_path_factory.mktemp("code")
    (code / "echo.py").write_text(HANDLER)
    with EnvironmentPool(Function("EchoFunction", "echo.lambda_handler", {}, 5.0, 128, (code,)), size=2) as pool:
        yield pool


def gateway(pool: EnvironmentPool, verifier: SignatureVerifier | None) -> Gateway:
    routes = [Route("GET", TOKEN_PATH, pool), Route("PUT", "/v1/connections/{provider}/{connection}", pool)]
    return Gateway(routes, verifier=verifier, gateway_responses=RESPONSES, stage="api", unsigned_caller=LOCAL)


@pytest.fixture(scope="module")
def front(pool: EnvironmentPool) -> Iterator[Front]:
    with closing(Front(listen(0), gateway(pool, SignatureVerifier()))) as front:
        yield front


@pytest.fixture
def client(front: Front) -> Iterator[SignedClient]:
    with closing(SignedClient(front.url)) as client:
        yield client


def test_a_signed_call_becomes_a_rest_proxy_event(client: SignedClient, front: Front) -> None:
    response = client.call("GET", "/v1/tokens/unidy/eu-main", [("scope", "a b"), ("min_ttl", "1"), ("min_ttl", "2")])
    event = response.body
    assert event["resource"] == TOKEN_PATH
    assert event["path"] == "/v1/tokens/unidy/eu-main"
    assert event["httpMethod"] == "GET"
    assert event["pathParameters"] == {"provider": "unidy", "connection": "eu-main"}
    assert event["queryStringParameters"] == {"scope": "a b", "min_ttl": "2"}
    assert event["multiValueQueryStringParameters"] == {"scope": ["a b"], "min_ttl": ["1", "2"]}
    assert event["headers"]["Host"] == urlsplit(front.url).netloc
    assert event["multiValueHeaders"]["Host"] == [urlsplit(front.url).netloc]
    assert not {"authorization", "connection"} & {name.lower() for name in event["headers"]}
    assert event["stageVariables"] is None
    assert event["body"] is None
    assert event["isBase64Encoded"] is False


def test_the_request_context_is_api_gateways(client: SignedClient) -> None:
    context = client.call("GET", "/v1/tokens/unidy/eu-main").body["requestContext"]
    assert context["resourcePath"] == TOKEN_PATH
    assert context["path"] == "/api/v1/tokens/unidy/eu-main"
    assert context["stage"] == "api"
    assert context["accountId"] == "123456789012"
    assert context["identity"]["userArn"] == "arn:aws:sts::123456789012:assumed-role/local/session"
    assert context["identity"]["accessKey"] == "local"
    assert context["identity"]["accountId"] == "123456789012"
    assert context["identity"]["sourceIp"] == "127.0.0.1"
    assert abs(context["requestTimeEpoch"] / 1000 - datetime.now(UTC).timestamp()) < 60
    assert {"requestId", "extendedRequestId", "requestTime", "protocol", "apiId", "domainName"} <= context.keys()


def test_a_signed_body_arrives_as_it_was_sent(client: SignedClient) -> None:
    response = client.call("PUT", "/v1/connections/unidy/eu-main", body={"scope": "é"})
    assert json.loads(response.body["body"]) == {"scope": "é"}
    assert response.body["httpMethod"] == "PUT"


def test_path_parameters_are_decoded_and_the_path_is_not(client: SignedClient) -> None:
    event = client.call("GET", "/v1/tokens/unidy/a%2Fb%20c").body
    assert event["path"] == "/v1/tokens/unidy/a%2Fb%20c"
    assert event["pathParameters"]["connection"] == "a/b c"


def test_a_proxy_response_becomes_the_http_response(client: SignedClient, front: Front) -> None:
    response = client.call("GET", "/v1/tokens/unidy/eu-main")
    assert response.status == 201
    assert response.headers["X-Once"] == "1"
    assert response.headers["X-Twice"] == "a, b"
    assert response.headers["x-amzn-RequestId"] == response.body["requestContext"]["requestId"]
    assert requests.get(front.url + HEALTH_PATH, timeout=5).json() == {"status": "ready"}


@pytest.mark.parametrize("query", ["raise", "malformed"])
def test_a_function_that_fails_is_a_gateway_response(client: SignedClient, query: str) -> None:
    response = client.call("GET", "/v1/tokens/unidy/eu-main", [(query, "1")])
    assert response.status == 503
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.body == {"code": "broker_unavailable"}


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/nothing"), ("POST", "/v1/tokens/unidy/eu-main"), ("GET", "/v1/tokens/unidy/")]
)
def test_an_unknown_route_is_a_missing_authentication_token(client: SignedClient, method: str, path: str) -> None:
    response = client.call(method, path)
    assert response.status == 403
    assert response.body == {"code": "access_denied", "detail": "Missing Authentication Token"}


def test_an_unsigned_call_is_refused_with_a_problem_document(front: Front) -> None:
    response = requests.get(front.url + "/v1/tokens/unidy/eu-main", timeout=5)
    assert response.status_code == 403
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["code"] == "access_denied"


@pytest.mark.parametrize(
    ("caller", "region", "detail"),
    [
        (Caller("local", "wrong", LOCAL.arn), "eu-west-1", "does not match"),
        (Caller("nobody", "local", LOCAL.arn), "eu-west-1", "security token"),
        (LOCAL, "us-east-1", "scoped to"),
    ],
    ids=["wrong secret", "unknown key", "other region"],
)
def test_a_wrong_signature_is_refused(front: Front, caller: Caller, region: str, detail: str) -> None:
    with closing(SignedClient(front.url, caller, region=region)) as client:
        response = client.call("GET", "/v1/tokens/unidy/eu-main")
    assert response.status == 403
    assert detail in response.body["detail"]


def test_another_caller_is_reported_as_itself(front: Front) -> None:
    with closing(SignedClient(front.url, STRANGER)) as client:
        identity = client.call("GET", "/v1/tokens/unidy/eu-main").body["requestContext"]["identity"]
    assert identity["userArn"] == "arn:aws:sts::123456789012:assumed-role/stranger/session"


def test_a_signature_in_the_query_is_verified_and_passed_on(front: Front) -> None:
    request = AWSRequest("GET", front.url + "/v1/tokens/unidy/eu-main?scope=a%20b")
    request.headers["Host"] = urlsplit(front.url).netloc
    SigV4QueryAuth(Credentials("local", "local"), SERVICE, "eu-west-1", expires=60).add_auth(request)
    url = str(request.url)
    assert requests.get(url, timeout=5).json()["queryStringParameters"]["X-Amz-Expires"] == "60"
    assert requests.get(url.replace("a%20b", "a%20c"), timeout=5).status_code == 403


def test_without_signatures_every_call_is_the_local_callers(pool: EnvironmentPool) -> None:
    with closing(Front(listen(0), gateway(pool, None))) as front:
        response = requests.get(front.url + "/v1/tokens/unidy/eu-main", timeout=5)
    assert response.json()["requestContext"]["identity"]["userArn"].endswith(":assumed-role/local/session")


@pytest.mark.parametrize(
    ("arn", "reported"),
    [
        ("arn:aws:iam::123456789012:role/team/app", "arn:aws:sts::123456789012:assumed-role/app/session"),
        ("arn:aws:iam::123456789012:user/team/ann", "arn:aws:iam::123456789012:user/team/ann"),
    ],
)
def test_a_role_is_reported_by_its_session_and_a_user_by_its_arn(arn: str, reported: str) -> None:
    assert Caller("key", "secret", arn).identity["userArn"] == reported

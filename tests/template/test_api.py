"""The API of the template: its routes, who may call them, and API Gateway's own responses."""

import json

import pytest

from local.resources import Document, gateway_responses_of, routes_of

from .intrinsics import Resolver

GET_TOKEN = "GetTokenFunction"
MANAGE = "ManageConnectionsFunction"
OBTAIN = "ObtainConsentFunction"
CALLBACK = "/v1/consent/callback/{provider}"
CONSENT = "/v1/connections/{provider}/{connection}/consent"
ROUTES = {
    ("GET", "/v1/tokens/{provider}/{connection}", GET_TOKEN),
    ("DELETE", "/v1/tokens/{provider}/{connection}", GET_TOKEN),
    ("POST", "/v1/connections/{provider}/{connection}/trial", GET_TOKEN),
    ("POST", f"{CONSENT}", OBTAIN),
    ("GET", f"{CONSENT}/{{consent_id}}", OBTAIN),
    ("POST", f"{CONSENT}/{{consent_id}}/finish", OBTAIN),
    ("POST", f"{CONSENT}/{{consent_id}}/confirm", OBTAIN),
    ("POST", f"{CONSENT}/{{consent_id}}/confirm-new-account", OBTAIN),
    ("DELETE", "/v1/connections/{provider}/{connection}/grant", GET_TOKEN),
    ("GET", "/v1/connections", MANAGE),
    ("GET", "/v1/connections/{provider}/{connection}", MANAGE),
    ("PUT", "/v1/connections/{provider}/{connection}", MANAGE),
    ("POST", "/v1/connections/{provider}/{connection}/check", MANAGE),
    ("GET", "/v1/connections/{provider}/{connection}/history", MANAGE),
    ("POST", "/v1/connections/{provider}/{connection}/restore", MANAGE),
    ("DELETE", "/v1/connections/{provider}/{connection}", MANAGE),
    ("GET", "/v1/providers", MANAGE),
    ("GET", "/v1/health", MANAGE),
}
# Every response type of API Gateway, with the status and code for callers.
RESPONSES = {
    "ACCESS_DENIED": (403, "access_denied"),
    "API_CONFIGURATION_ERROR": (500, "internal_error"),
    "AUTHORIZER_CONFIGURATION_ERROR": (500, "internal_error"),
    "AUTHORIZER_FAILURE": (500, "internal_error"),
    "BAD_REQUEST_BODY": (400, "invalid_request"),
    "BAD_REQUEST_PARAMETERS": (400, "invalid_request"),
    "DEFAULT_4XX": (400, "invalid_request"),
    "DEFAULT_5XX": (500, "internal_error"),
    "EXPIRED_TOKEN": (403, "access_denied"),
    "INTEGRATION_FAILURE": (503, "broker_unavailable"),
    "INTEGRATION_TIMEOUT": (504, "gateway_timeout"),
    "INVALID_API_KEY": (403, "access_denied"),
    "INVALID_SIGNATURE": (403, "access_denied"),
    "MISSING_AUTHENTICATION_TOKEN": (403, "access_denied"),
    "QUOTA_EXCEEDED": (429, "throttled"),
    "REQUEST_TOO_LARGE": (413, "invalid_request"),
    "RESOURCE_NOT_FOUND": (404, "invalid_request"),
    "THROTTLED": (429, "throttled"),
    "UNAUTHORIZED": (403, "access_denied"),
    "UNSUPPORTED_MEDIA_TYPE": (415, "invalid_request"),
    "WAF_FILTERED": (403, "access_denied"),
}


def api(translated: Document) -> Document:
    document: Document = translated["Resources"]["TokenBrokerApi"]["Properties"]["Body"]
    return document


def test_every_route_goes_to_its_function(translated: Document) -> None:
    routes = routes_of(translated)
    assert {(route.method, route.path, route.function) for route in routes} == ROUTES
    assert len(routes) == len(ROUTES)


@pytest.mark.parametrize("callback", ["false", "true"])
def test_every_route_but_the_callback_needs_a_signature(translated: Document, callback: str) -> None:
    """There is exactly one method without IAM, and only with the parameter."""
    body = Resolver(translated, {"ConsentCallback": callback}).resources()["TokenBrokerApi"]["Properties"]["Body"]
    unsigned = []
    for path, methods in body["paths"].items():
        for method, operation in methods.items():
            if operation["security"] != [{"AWS_IAM": []}]:
                unsigned.append((method, path))
            assert "credentials" not in operation["x-amazon-apigateway-integration"], f"{method} {path}"
    assert unsigned == ([("get", CALLBACK)] if callback == "true" else [])
    assert {
        (route.method, route.path, route.signed) for route in routes_of(translated, {"ConsentCallback": callback})
    } == {
        *((method, path, True) for method, path, _ in ROUTES),
        *([("GET", CALLBACK, False)] if callback == "true" else []),
    }


def test_the_policy_admits_nobody_without_iam_but_to_the_callback(translated: Document) -> None:
    for callback in ("false", "true"):
        parameters = {"ConsentCallback": callback, "OrganizationId": "o-abcdefghij"}
        body = Resolver(translated, parameters).resources()["TokenBrokerApi"]["Properties"]["Body"]
        statements = body["x-amazon-apigateway-policy"]["Statement"]
        allowed = [found["Resource"] for found in statements if found["Effect"] == "Allow"]
        assert allowed == (["execute-api:/api/GET/v1/consent/callback/*"] if callback == "true" else [])
        tls, organisation = (found for found in statements if found["Effect"] == "Deny")
        assert tls["Resource"] == "execute-api:/*"
        excluded = organisation.get("NotResource", "")
        assert excluded.endswith(":*/api/GET/v1/consent/callback/*") is (callback == "true")
        assert organisation.get("Resource") == (None if callback == "true" else "execute-api:/*")


def test_the_callback_is_throttled_by_itself_and_its_function_has_few_environments(translated: Document) -> None:
    resources = Resolver(translated, {"ConsentCallback": "true"}).resources()
    stage, own = resources["TokenBrokerApiapiStage"]["Properties"]["MethodSettings"]
    assert (stage["ResourcePath"], own["ResourcePath"]) == ("/*", CALLBACK.replace("/", "~1").replace("~1v1", "/~1v1"))
    assert (own["HttpMethod"], own["ThrottlingRateLimit"], own["ThrottlingBurstLimit"]) == ("GET", 5, 10)
    assert own["DataTraceEnabled"] is own["CachingEnabled"] is False
    assert resources["ReceiveCodeFunction"]["Properties"]["ReservedConcurrentExecutions"] == 5


def test_the_callbacks_role_can_do_three_things(translated: Document) -> None:
    """KMS allows it to seal a code: see test_permissions."""
    role = Resolver(translated, {"ConsentCallback": "true"}).resources()["ReceiveCodeRole"]["Properties"]
    statements = role["Policies"][0]["PolicyDocument"]["Statement"]
    write, queue, _log, _trace = statements
    assert (write["Action"], write["Resource"]) == ("dynamodb:UpdateItem", "GrantTable.Arn")
    assert write["Condition"] == {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": "S#*"}}
    assert (queue["Action"], queue["Resource"]) == ("sqs:SendMessage", "ConsentQueue.Arn")
    variables = Resolver(translated).resources().keys()
    assert not [name for name in variables if name.startswith("ReceiveCode")]


def test_there_is_one_stage_traced_and_without_execution_logs(translated: Document) -> None:
    stage = Resolver(translated).resources()["TokenBrokerApiapiStage"]["Properties"]
    assert stage["TracingEnabled"] is True
    (settings,) = stage["MethodSettings"]
    assert settings["DataTraceEnabled"] is False
    assert settings["LoggingLevel"] == "OFF"


def test_every_response_type_is_a_problem(translated: Document) -> None:
    assert gateway_responses_of(translated).keys() == RESPONSES.keys()


@pytest.mark.parametrize("kind", RESPONSES)
def test_a_response_of_api_gateway_is_a_problem_with_a_stable_code(translated: Document, kind: str) -> None:
    response = gateway_responses_of(translated)[kind]
    problem = json.loads(response.body)
    assert (response.status, problem["code"]) == RESPONSES[kind]
    assert problem["status"] == response.status
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["detail"]
    assert ("errors" in problem) == (problem["code"] == "invalid_request")
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Pragma"] == "no-cache"
    assert ("Retry-After" in response.headers) == (response.status in {429, 503, 504})


def test_no_response_repeats_the_request(translated: Document) -> None:
    # $context.error.message holds the caller's canonical request with its session token.
    assert not [kind for kind, response in gateway_responses_of(translated).items() if "$context" in response.body]

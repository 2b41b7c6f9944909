"""The API of the template: its routes, who may call them, and API Gateway's own responses."""

import json

import pytest

from local.resources import Document, gateway_responses_of, routes_of

GET_TOKEN = "GetTokenFunction"
MANAGE = "ManageConnectionsFunction"
OBTAIN = "ObtainConsentFunction"
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


def test_every_route_needs_a_signature_and_runs_with_the_api_s_permissions(translated: Document) -> None:
    for path, methods in api(translated)["paths"].items():
        for method, operation in methods.items():
            assert operation["security"] == [{"AWS_IAM": []}], f"{method} {path}"
            assert "credentials" not in operation["x-amazon-apigateway-integration"], f"{method} {path}"


def test_there_is_one_stage_traced_and_without_execution_logs(translated: Document) -> None:
    (stage,) = (
        value["Properties"] for value in translated["Resources"].values() if value["Type"] == "AWS::ApiGateway::Stage"
    )
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

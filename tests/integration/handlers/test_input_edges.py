"""Invalid input gets `invalid_request` with the name of the field, whatever API Gateway accepts."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from .functions import Api, BrokerResponse
from .problems import assert_problem, fields
from .world import World

TOKENS = "/v1/tokens/unidy/demo"
SETTINGS = "/v1/connections/unidy/demo"


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/v1/tokens/unidy/Demo", ["connection"]),
        ("/v1/tokens/UNIDY/demo", ["provider"]),
        ("/v1/tokens/Unidy/-demo", ["connection", "provider"]),
        ("/v1/tokens/unidy/demo%2Fother", ["connection"]),
        ("/v1/tokens/unidy/%64emo", ["connection"]),
        ("/v1/tokens/unidy/demo%00", ["connection"]),
        ("/v1/tokens/unidy/de%20mo", ["connection"]),
        ("/v1/tokens/unidy/d%C3%A9mo", ["connection"]),
        ("/v1/tokens/unidy/" + "d" * 64, ["connection"]),
    ],
)
def test_names_that_do_not_match_the_pattern_are_rejected(api: Api, path: str, named: list[str]) -> None:
    assert fields(api.call("GET", path)) == named


@pytest.mark.parametrize("path", ["/v1/tokens/unidy/demo/", "//v1/tokens/unidy/demo", "/v1/tokens//unidy/demo", "/x"])
def test_a_path_that_is_not_canonical_is_rejected(world: World, path: str) -> None:
    """IAM checked the raw path, so it must be the path that the names make up."""
    world.connect("unidy")
    function, event = world.api.event("GET", TOKENS)
    response = BrokerResponse.of(world.functions.invoke(function, {**event, "path": path}))
    assert_problem(response, 400, "invalid_request")
    assert world.report("unidy")["token_requests"] == 0


def test_a_path_of_another_connection_is_rejected(world: World) -> None:
    world.connect("unidy")
    function, event = world.api.event("GET", "/v1/tokens/unidy/other")
    # The path parameters say demo, but IAM checked the path.
    event["pathParameters"] = {"provider": "unidy", "connection": "demo"}
    response = BrokerResponse.of(world.functions.invoke(function, event))
    assert (response.status, response.code) in [(400, "invalid_request"), (404, "unknown_connection")]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("scope=", ["scope"]),
        ("scope=users:read%20%20users:write", ["scope"]),
        ("scope=%20users:read", ["scope"]),
        ("scope=users:read%0A", ["scope"]),
        ("scope=us%22ers", ["scope"]),
        ("scope=us%5Cers", ["scope"]),
        ("scope=%C3%A9", ["scope"]),
        ("scope=" + "x" * 1001, ["scope"]),
        ("scope=" + "%20".join(f"s{number}" for number in range(51)), ["scope"]),
        ("scope=a&scope=b", ["scope"]),
        ("min_ttl=1&min_ttl=1", ["min_ttl"]),
        ("min_ttl=", ["min_ttl"]),
        ("min_ttl=-1", ["min_ttl"]),
        ("min_ttl=3601", ["min_ttl"]),
        ("min_ttl=1e3", ["min_ttl"]),
        ("min_ttl=1.0", ["min_ttl"]),
        ("min_ttl=%2B5", ["min_ttl"]),
        ("min_ttl=%D9%A3%D9%A0", ["min_ttl"]),  # Arabic-Indic digits, which int() reads
        ("min_ttl=5%0A", ["min_ttl"]),
        ("rejected=", ["rejected"]),
        ("rejected=9F86D081884C7D65", ["rejected"]),
        ("rejected=9f86d081884c7d6", ["rejected"]),
        ("rejected=9f86d081884c7d65%0A", ["rejected"]),
        ("force=true", ["force"]),
        ("Scope=users:read", ["Scope"]),
    ],
)
def test_an_invalid_query_is_rejected_with_the_parameters_name(world: World, query: str, named: list[str]) -> None:
    world.connect("unidy")
    assert fields(world.api.call("GET", TOKENS, query)) == named
    assert world.report("unidy")["token_requests"] == 0


@pytest.mark.parametrize("query", ["min_ttl=0", "min_ttl=3600", "rejected=9f86d081884c7d65", "scope=users:read"])
def test_the_limits_of_valid_values_are_valid(world: World, query: str) -> None:
    world.connect("unidy")
    assert world.api.call("GET", TOKENS, query).status == 200


@pytest.mark.parametrize("name", ["X-Amz-Signature", "x-amz-credential", "X-Amz-Security-Token", "X-Amz-Algorithm"])
def test_a_signature_in_the_query_string_is_rejected(world: World, name: str) -> None:
    world.connect("unidy")
    response = world.api.call("GET", TOKENS, {name: "an-invented-value"})
    assert_problem(response, 400, "invalid_request")
    assert "an-invented-value" not in response.text
    assert world.report("unidy")["token_requests"] == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", TOKENS),
        ("GET", SETTINGS),
        ("PUT", SETTINGS),
        ("DELETE", SETTINGS),
        ("POST", f"{SETTINGS}/trial"),
        ("GET", "/v1/connections"),
        ("GET", "/v1/providers"),
        ("GET", "/v1/health"),
    ],
)
def test_every_route_rejects_unknown_parameters(world: World, method: str, path: str) -> None:
    world.connect("unidy")
    response = world.api.call(method, path, {"colour": "red"}, body=world.settings("unidy"))
    assert fields(response) == ["colour"]


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=", "limit=ten", "limit=%D9%A3", "limit=1&limit=2"])
def test_a_limit_outside_1_to_100_is_rejected(api: Api, query: str) -> None:
    assert fields(api.call("GET", "/v1/connections", query)) == ["limit"]


@pytest.mark.parametrize("cursor", ["", "*", "%C3%A9", "QyM", "AAAA", "x" * 3000])
def test_an_unknown_cursor_is_rejected(api: Api, cursor: str) -> None:
    assert fields(api.call("GET", "/v1/connections", f"cursor={cursor}")) == ["cursor"]


@pytest.mark.parametrize("query", ["force=yes", "force=", "force=TRUE", "force=true&force=true"])
def test_a_flag_is_true_or_false(world: World, query: str) -> None:
    world.connect("unidy")
    assert fields(world.api.call("POST", f"{SETTINGS}/trial", query)) == ["force"]


@pytest.mark.parametrize(
    "body",
    [None, "{", "{'a': 1}", "\x00", "[" * 100_000, " " * (256 * 1024 + 1)],
    ids=["none", "cut", "python", "nul", "deep", "long"],
)
def test_a_body_that_is_not_json_is_rejected(api: Api, body: str | None) -> None:
    assert fields(api.call("PUT", SETTINGS, body=body)) == ["body"]


@pytest.mark.parametrize("body", ["[]", "7", "null", '"text"', "NaN"])
def test_a_body_that_is_not_an_object_is_rejected(api: Api, body: str) -> None:
    assert_problem(api.call("PUT", SETTINGS, body=body), 400, "invalid_request")


def test_a_body_may_come_in_base64(world: World) -> None:
    function, event = world.api.event("PUT", SETTINGS)
    encoded = base64.b64encode(json.dumps(world.settings("unidy")).encode()).decode()
    event |= {"body": encoded, "isBase64Encoded": True}
    assert BrokerResponse.of(world.functions.invoke(function, event)).status == 201


@pytest.mark.parametrize("body", ["{}", "a", "%%%%", "/////w=="])
def test_a_body_that_is_not_base64_of_json_is_rejected(world: World, body: str) -> None:
    function, event = world.api.event("PUT", SETTINGS)
    event |= {"body": body, "isBase64Encoded": True}
    assert fields(BrokerResponse.of(world.functions.invoke(function, event))) == ["body"]


@pytest.mark.parametrize(
    "nulls",
    [
        {"multiValueQueryStringParameters": None, "queryStringParameters": None},
        {"headers": None, "multiValueHeaders": None},
        {"body": None, "stageVariables": None},
    ],
    ids=lambda nulls: next(iter(nulls)),
)
def test_fields_that_api_gateway_sends_as_null_are_no_error(world: World, nulls: dict[str, Any]) -> None:
    world.connect("unidy")
    for method, path in (("GET", TOKENS), ("DELETE", TOKENS), ("DELETE", SETTINGS)):
        function, event = world.api.event(method, path)
        assert BrokerResponse.of(world.functions.invoke(function, event | nulls)).status == 200


def test_a_put_without_headers_is_no_error(world: World) -> None:
    function, event = world.api.event("PUT", SETTINGS, body=world.settings("unidy"))
    event |= {"headers": None, "multiValueHeaders": None}
    assert BrokerResponse.of(world.functions.invoke(function, event)).status == 201


@pytest.mark.parametrize("user_arn", [None, "", "arn:aws:iam::123456789012:root"])
def test_a_caller_without_role_or_user_is_not_allowed(world: World, user_arn: str | None) -> None:
    world.connect("unidy")
    function, event = world.api.event("GET", TOKENS)
    event["requestContext"]["identity"]["userArn"] = user_arn
    assert_problem(BrokerResponse.of(world.functions.invoke(function, event)), 403, "caller_not_allowed")


@pytest.mark.parametrize("header", ["X-Caller", "X-Forwarded-User", "X-Amzn-Identity"])
def test_no_header_changes_the_caller(world: World, header: str) -> None:
    world.connect("unidy", allowed_callers=["arn:aws:iam::123456789012:role/someone-else"])
    headers = {header: "arn:aws:iam::123456789012:role/someone-else"}
    assert_problem(world.api.call("GET", TOKENS, headers=headers), 403, "caller_not_allowed")


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_text_that_cannot_be_encoded_is_rejected_before_it_is_stored(world: World, text: str) -> None:
    settings = world.settings("oauth2", params={"audience": text})
    assert fields(world.api.put("oauth2/demo", settings)) == ["params"]


def test_a_ca_bundle_without_certificate_is_rejected_before_it_is_stored(world: World) -> None:
    bundle = "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"
    assert fields(world.api.put("unidy/demo", world.settings("unidy", ca_bundle=bundle))) == ["ca_bundle"]

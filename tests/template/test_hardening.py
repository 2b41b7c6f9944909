"""What keeps others out and data in: resource policy, encryption in transit, protection from deletion, bounds, logs."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from local.resources import Document, load_template, translate

from .intrinsics import PSEUDO, Resolver, references

OTHER, THIRD, ORGANISATION, ENDPOINT = "210987654321", "111122223333", "o-abcdefghij", "vpce-0123456789abcdef0"
ROLES = ["GetToken", "ManageConnections", "SweepDue", "RenewToken", "SecretChanged", "SweepSchedule"]
BOUNDARY = "arn:aws:iam::123456789012:policy/boundary"
EVERYTHING = {
    "SecretKeyArns": "arn:aws:kms:eu-west-1:123456789012:key/1",
    "AllowedAccountIds": OTHER,
    "OrganizationId": ORGANISATION,
    "DomainName": "tokens.example.com",
    "CertificateArn": "arn:aws:acm:eu-west-1:123456789012:certificate/1",
    "HostedZoneId": "Z1",
    "SubnetIds": "subnet-1,subnet-2",
    "SecurityGroupIds": "sg-1",
    "PermissionsBoundaryArn": BOUNDARY,
    "Deployment": "Canary10Percent5Minutes",
    "SetApiGatewayAccount": "true",
}


def resolved(parameters: dict[str, str] | None = None) -> dict[str, Document]:
    """The stack's resources under these parameters. SAM is told of them too, as CloudFormation tells it."""
    document = translate(load_template(), region="eu-west-1", parameters=parameters)
    return Resolver(document, parameters).resources()


def policy(**parameters: str) -> list[Document]:
    statements: list[Document] = resolved(parameters)["TokenBrokerApi"]["Properties"]["Body"][
        "x-amazon-apigateway-policy"
    ]["Statement"]
    return statements


def invoke(effect: str, resource: str, operator: str, key: str, value: Any, principal: Any = "*") -> Document:
    return {
        "Effect": effect,
        "Principal": principal,
        "Action": "execute-api:Invoke",
        "Resource": resource,
        "Condition": {operator: {key: value}},
    }


TLS_ONLY = invoke("Deny", "execute-api:/*", "Bool", "aws:SecureTransport", "false")
MEMBERS_ONLY = invoke("Deny", "execute-api:/*", "StringNotEquals", "aws:PrincipalOrgID", ORGANISATION)
ENDPOINTS_ONLY = invoke("Deny", "execute-api:/*", "StringNotEquals", "aws:SourceVpce", [ENDPOINT])
OTHERS_FETCH = invoke(
    "Allow",
    "execute-api:/api/GET/v1/tokens/*",
    "StringNotEquals",
    "aws:PrincipalAccount",
    PSEUDO["AWS::AccountId"],
    {"AWS": [OTHER]},
)


@pytest.mark.parametrize(
    ("parameters", "more"),
    [
        ({}, []),
        ({"AllowedAccountIds": OTHER}, [OTHERS_FETCH]),
        ({"AllowedAccountIds": f"{OTHER},{THIRD}"}, [{**OTHERS_FETCH, "Principal": {"AWS": [OTHER, THIRD]}}]),
        ({"OrganizationId": ORGANISATION}, [MEMBERS_ONLY]),
        ({"EndpointType": "PRIVATE", "VpcEndpointIds": ENDPOINT}, [ENDPOINTS_ONLY]),
        (
            {
                "AllowedAccountIds": OTHER,
                "OrganizationId": ORGANISATION,
                "EndpointType": "PRIVATE",
                "VpcEndpointIds": ENDPOINT,
            },
            [OTHERS_FETCH, MEMBERS_ONLY, ENDPOINTS_ONLY],
        ),
    ],
)
def test_the_resource_policy_lets_other_accounts_in_and_keeps_everybody_else_out(
    parameters: dict[str, str], more: list[Document]
) -> None:
    assert policy(**parameters) == [TLS_ONLY, *more]


def test_nobody_of_this_account_is_let_in_by_the_resource_policy() -> None:
    # Under AWS_IAM an Allow here would do without one in the caller's own policy.
    for statement in policy(AllowedAccountIds=f"{OTHER},{PSEUDO['AWS::AccountId']}"):
        if statement["Effect"] == "Allow":
            assert statement["Condition"] == {"StringNotEquals": {"aws:PrincipalAccount": PSEUDO["AWS::AccountId"]}}
            assert statement["Principal"] != "*"


def test_a_changed_parameter_reaches_the_resource_policy(template: Document) -> None:
    # API Gateway applies a policy with the next deployment, and SAM makes one only of a changed document.
    assert template["Resources"]["TokenBrokerApi"]["Properties"]["AlwaysDeploy"] is True


@pytest.mark.parametrize("kind", ["REGIONAL", "PRIVATE"])
def test_the_api_s_endpoint_is_a_parameter(kind: str) -> None:
    ids = {"VpcEndpointIds": ENDPOINT} if kind == "PRIVATE" else {}
    api = resolved({"EndpointType": kind, **ids})["TokenBrokerApi"]["Properties"]
    assert api["EndpointConfiguration"]["Types"] == [kind]
    assert api["EndpointConfiguration"].get("VpcEndpointIds") == ([ENDPOINT] if kind == "PRIVATE" else None)


@pytest.mark.parametrize(
    ("parameters", "broken"),
    [
        ({}, ["CodeIsNamed"]),
        ({"CodeDigest": "0" * 64}, []),
        ({"CodeDigest": "0" * 64, "EndpointType": "PRIVATE"}, ["PrivateApiHasEndpoints"]),
        ({"CodeDigest": "0" * 64, "EndpointType": "PRIVATE", "VpcEndpointIds": ENDPOINT}, []),
        ({"CodeDigest": "0" * 64, "VpcEndpointIds": ENDPOINT}, ["RegionalApiHasNoEndpoints"]),
        ({"CodeDigest": "0" * 64, "DomainName": "tokens.example.com"}, ["DomainHasCertificate"]),
        ({"CodeDigest": "0" * 64, "SubnetIds": "subnet-1"}, ["SubnetsHaveSecurityGroups"]),
        (
            {
                "CodeDigest": "0" * 64,
                "EndpointType": "PRIVATE",
                "VpcEndpointIds": ENDPOINT,
                "DomainName": "tokens.example.com",
                "CertificateArn": EVERYTHING["CertificateArn"],
            },
            ["PrivateApiHasEndpoints"],
        ),
    ],
)
def test_parameters_that_do_not_go_together_stop_the_deployment(
    translated: Document, parameters: dict[str, str], broken: list[str]
) -> None:
    resolver = Resolver(translated, parameters)
    found = [
        name
        for name, rule in translated["Rules"].items()
        if resolver(rule.get("RuleCondition", True))
        and not all(resolver(assertion["Assert"]) for assertion in rule["Assertions"])
    ]
    assert found == broken


@pytest.mark.parametrize("queue", ["RenewalQueue", "RenewalDeadLetterQueue"])
def test_a_queue_answers_over_tls_alone(translated: Document, queue: str) -> None:
    found = Resolver(translated).resources()[f"{queue}Policy"]["Properties"]
    assert found["Queues"] == [queue]
    (statement,) = found["PolicyDocument"]["Statement"]
    assert statement == {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": f"{queue}.Arn",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def test_every_queue_has_such_a_policy(translated: Document) -> None:
    queues = {name for name, value in translated["Resources"].items() if value["Type"] == "AWS::SQS::Queue"}
    policies = {name for name, value in translated["Resources"].items() if value["Type"] == "AWS::SQS::QueuePolicy"}
    assert policies == {f"{queue}Policy" for queue in queues}


def test_data_outlives_the_stack(template: Document) -> None:
    for name in ("ConnectionTable", "DataKey", "AuditLogGroup", "ApiGatewayAccount", "ApiGatewayLogRole"):
        resource = template["Resources"][name]
        assert (name, resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == (name, "Retain", "Retain")
    assert template["Resources"]["ConnectionTable"]["Properties"]["DeletionProtectionEnabled"] == {
        "Ref": "DeletionProtection"
    }
    assert template["Parameters"]["DeletionProtection"]["Default"] == "true"


def test_a_role_is_bounded_where_the_account_asks_for_it() -> None:
    for parameters, boundary in (({}, None), (EVERYTHING, BOUNDARY)):
        roles = {n: r["Properties"] for n, r in resolved(parameters).items() if r["Type"] == "AWS::IAM::Role"}
        assert roles.keys() >= {f"{verb}Role" for verb in ROLES}
        assert {role.get("PermissionsBoundary") for role in roles.values()} == {boundary}


def test_requests_are_throttled_and_answers_are_not_cached(translated: Document) -> None:
    stage = Resolver(translated, {"ThrottleRate": "50", "ThrottleBurst": "60"}).resources()["TokenBrokerApiapiStage"]
    (settings,) = stage["Properties"]["MethodSettings"]
    assert settings["HttpMethod"] == "*"
    assert settings["ResourcePath"] == "/*"
    assert (settings["ThrottlingRateLimit"], settings["ThrottlingBurstLimit"]) == ("50", "60")
    assert settings["CachingEnabled"] is False
    assert not stage["Properties"].get("CacheClusterEnabled")


def test_the_access_log_is_json_that_tells_no_path_query_or_signature(translated: Document) -> None:
    log = Resolver(translated).resources()["TokenBrokerApiapiStage"]["Properties"]["AccessLogSetting"]
    assert log["DestinationArn"] == "arn:aws:logs:eu-west-1:123456789012:log-group:AccessLogGroup"
    told = set(json.loads(log["Format"]).values())
    # Those alone: $context.path has the names as sent, requestOverride and error.message the caller's signed request.
    assert told == {
        "$context.error.responseType",
        "$context.httpMethod",
        "$context.identity.accountId",
        "$context.identity.sourceIp",
        "$context.identity.userArn",
        "$context.identity.vpceId",
        "$context.integrationLatency",
        "$context.requestId",
        "$context.requestTimeEpoch",
        "$context.resourcePath",
        "$context.responseLatency",
        "$context.responseLength",
        "$context.status",
    }


def test_every_log_is_kept_for_a_stated_time_under_the_data_key(translated: Document) -> None:
    groups = {n: r["Properties"] for n, r in translated["Resources"].items() if r["Type"] == "AWS::Logs::LogGroup"}
    assert groups.keys() == {
        *("AuditLogGroup", "AccessLogGroup", "SweepDueLogGroup", "RenewTokenLogGroup", "SecretChangedLogGroup")
    }
    for name, group in groups.items():
        kept = "AuditRetentionDays" if name == "AuditLogGroup" else "LogRetentionDays"
        assert group["RetentionInDays"] == {"Ref": kept}
        assert group["KmsKeyId"] == {"Fn::GetAtt": ["DataKey", "Arn"]}
    # The key lets CloudWatch Logs encrypt groups under this path alone.
    names = [Resolver(translated)(group["LogGroupName"]) for group in groups.values()]
    assert all(re.fullmatch(r"/token-broker/\w+", name) for name in names)
    assert translated["Parameters"]["AuditRetentionDays"]["Default"] == 400


def test_secrets_under_keys_of_their_own_are_opened_through_secrets_manager_alone() -> None:
    assert "SecretKeysPolicy" not in resolved({})
    found = resolved(EVERYTHING)["SecretKeysPolicy"]["Properties"]
    assert found["Roles"] == ["GetTokenRole", "RenewTokenRole"]
    (statement,) = found["PolicyDocument"]["Statement"]
    assert statement == {
        "Effect": "Allow",
        "Action": "kms:Decrypt",
        "Resource": [EVERYTHING["SecretKeyArns"]],
        "Condition": {
            "StringEquals": {"kms:ViaService": "secretsmanager.eu-west-1.amazonaws.com"},
            "StringLike": {
                "kms:EncryptionContext:SecretARN": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:token-broker/*"
            },
        },
    }


def test_a_fixed_egress_address_is_for_those_who_call_providers() -> None:
    functions = {n: r["Properties"] for n, r in resolved(EVERYTHING).items() if r["Type"] == "AWS::Lambda::Function"}
    inside = {name for name, function in functions.items() if "VpcConfig" in function}
    assert inside == {"GetTokenFunction", "RenewTokenFunction"}
    for name in inside:
        assert functions[name]["VpcConfig"] == {"SubnetIds": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]}
        assert {"Key": "network-policy", "Value": "NetworkPolicy"} in functions[name]["Tags"]
    allow, deny = resolved(EVERYTHING)["NetworkPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (allow["Effect"], deny["Effect"]) == ("Allow", "Deny")
    assert allow["Action"] == deny["Action"]
    # The key is in the calls of a function's code alone.
    assert deny["Condition"] == {"Null": {"lambda:SourceFunctionArn": "false"}}


def test_a_domain_of_its_own_has_no_base_path() -> None:
    assert not [name for name in resolved({}) if name.startswith("CustomDomain")]
    found = resolved(EVERYTHING)
    assert "BasePath" not in found["CustomDomainMapping"]["Properties"]
    assert found["CustomDomainMapping"]["Properties"]["Stage"] == "TokenBrokerApiapiStage"
    assert found["CustomDomain"]["Properties"]["SecurityPolicy"] == "TLS_1_2"
    assert found["CustomDomainRecordSet"]["Properties"]["Name"] == "tokens.example.com"


@pytest.mark.parametrize("parameters", [{}, EVERYTHING])
def test_there_is_an_order_in_which_everything_can_be_created(parameters: dict[str, str]) -> None:
    # cfn-lint looks at the template before SAM has taken the API apart, so it cannot tell.
    document = translate(load_template(), region="eu-west-1", parameters=parameters)
    waiting = {
        name: {found for found in references(resource) if found in document["Resources"]} - {name}
        for name, resource in document["Resources"].items()
    }
    while ready := [name for name, needs in waiting.items() if not needs & waiting.keys()]:
        for name in ready:
            del waiting[name]
    assert not waiting

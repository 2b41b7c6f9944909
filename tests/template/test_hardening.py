"""Resource policy, encryption in transit, protection from deletion, permissions boundary, logs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from local.resources import Document, load_template, translate

from .intrinsics import PSEUDO, Resolver, references

OTHER, THIRD, ORGANISATION, ENDPOINT = "210987654321", "111122223333", "o-abcdefghij", "vpce-0123456789abcdef0"
ROLES = [
    "GetToken",
    "ManageConnections",
    "SweepDue",
    "RenewToken",
    "SecretChanged",
    "ObtainConsent",
    "ExchangeCode",
    "SweepSchedule",
]
BOUNDARY = "arn:aws:iam::123456789012:policy/boundary"
EVERYTHING = {
    "SecretKeyArns": "arn:aws:kms:eu-west-1:123456789012:key/1",
    "AllowedAccountIds": OTHER,
    "OrganizationId": ORGANISATION,
    "DomainName": "tokens.example.com",
    "CertificateArn": "arn:aws:acm:eu-west-1:123456789012:certificate/1",
    "HostedZoneId": "Z1",
    "ConsentCallback": "true",
    "SubnetIds": "subnet-1,subnet-2",
    "SecurityGroupIds": "sg-1",
    "PermissionsBoundaryArn": BOUNDARY,
    "Deployment": "Canary10Percent5Minutes",
    "SetApiGatewayAccount": "true",
}


def resolved(parameters: dict[str, str] | None = None, attributes: dict[str, str] | None = None) -> dict[str, Document]:
    """The stack's resources with these parameters, which SAM gets too, as from CloudFormation."""
    document = translate(load_template(), region="eu-west-1", parameters=parameters)
    return Resolver(document, parameters, attributes).resources()


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
def test_the_resource_policy_allows_named_accounts_and_denies_everybody_else(
    parameters: dict[str, str], more: list[Document]
) -> None:
    assert policy(**parameters) == [TLS_ONLY, *more]


def test_the_resource_policy_allows_nobody_of_this_account() -> None:
    # With AWS_IAM an Allow here would be enough without one in the caller's own policy.
    for statement in policy(AllowedAccountIds=f"{OTHER},{PSEUDO['AWS::AccountId']}"):
        if statement["Effect"] == "Allow":
            assert statement["Condition"] == {"StringNotEquals": {"aws:PrincipalAccount": PSEUDO["AWS::AccountId"]}}
            assert statement["Principal"] != "*"


def test_a_changed_parameter_reaches_the_resource_policy(template: Document) -> None:
    # API Gateway applies a policy with the next deployment. SAM deploys only a changed document.
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
        ({"CodeDigest": "0" * 64, "ConsentCallback": "true"}, []),
        (
            {
                "CodeDigest": "0" * 64,
                "ConsentCallback": "true",
                "EndpointType": "PRIVATE",
                "VpcEndpointIds": ENDPOINT,
            },
            ["CallbackIsReachable"],
        ),
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
def test_parameters_that_contradict_each_other_stop_the_deployment(
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


QUEUES = ["RenewalQueue", "RenewalDeadLetterQueue", "ConsentQueue", "ConsentDeadLetterQueue"]


@pytest.mark.parametrize("queue", QUEUES)
def test_a_queue_accepts_only_tls(translated: Document, queue: str) -> None:
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


def test_data_is_retained_when_the_stack_is_deleted(template: Document) -> None:
    tables, keys = ("ConnectionTable", "GrantTable"), ("DataKey", "GrantKey")
    for name in (*tables, *keys, "AuditLogGroup", "ApiGatewayAccount", "ApiGatewayLogRole"):
        resource = template["Resources"][name]
        assert (name, resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == (name, "Retain", "Retain")
    for table in tables:
        protection = template["Resources"][table]["Properties"]["DeletionProtectionEnabled"]
        assert protection == {"Ref": "DeletionProtection"}
    assert template["Parameters"]["DeletionProtection"]["Default"] == "true"


def test_every_role_has_the_permissions_boundary_if_one_is_set() -> None:
    for parameters, boundary in (({}, None), (EVERYTHING, BOUNDARY)):
        roles = {n: r["Properties"] for n, r in resolved(parameters).items() if r["Type"] == "AWS::IAM::Role"}
        assert roles.keys() >= {f"{verb}Role" for verb in ROLES}
        assert {role.get("PermissionsBoundary") for role in roles.values()} == {boundary}


def test_requests_are_throttled_and_responses_are_not_cached(translated: Document) -> None:
    stage = Resolver(translated, {"ThrottleRate": "50", "ThrottleBurst": "60"}).resources()["TokenBrokerApiapiStage"]
    (settings,) = stage["Properties"]["MethodSettings"]
    assert settings["HttpMethod"] == "*"
    assert settings["ResourcePath"] == "/*"
    assert (settings["ThrottlingRateLimit"], settings["ThrottlingBurstLimit"]) == ("50", "60")
    assert settings["CachingEnabled"] is False
    assert not stage["Properties"].get("CacheClusterEnabled")


def test_the_access_log_is_json_without_path_query_or_signature(translated: Document) -> None:
    log = Resolver(translated).resources()["TokenBrokerApiapiStage"]["Properties"]["AccessLogSetting"]
    assert log["DestinationArn"] == "arn:aws:logs:eu-west-1:123456789012:log-group:AccessLogGroup"
    told = set(json.loads(log["Format"]).values())
    # Only these: $context.path has the names as sent; requestOverride and error.message have the signed request.
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
    # The key allows CloudWatch Logs to encrypt only groups under this path.
    names = [Resolver(translated)(group["LogGroupName"]) for group in groups.values()]
    assert all(re.fullmatch(r"/token-broker/\w+", name) for name in names)
    assert translated["Parameters"]["AuditRetentionDays"]["Default"] == 400


def test_secrets_under_customer_keys_are_decrypted_only_through_secrets_manager() -> None:
    assert "SecretKeysPolicy" not in resolved({})
    found = resolved(EVERYTHING)["SecretKeysPolicy"]["Properties"]
    assert found["Roles"] == ["GetTokenRole", "RenewTokenRole", "ObtainConsentRole", "ExchangeCodeRole"]
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


def test_only_functions_that_call_providers_are_in_the_subnets() -> None:
    functions = {n: r["Properties"] for n, r in resolved(EVERYTHING).items() if r["Type"] == "AWS::Lambda::Function"}
    inside = {name for name, function in functions.items() if "VpcConfig" in function}
    assert inside == {"GetTokenFunction", "RenewTokenFunction", "ObtainConsentFunction", "ExchangeCodeFunction"}
    for name in inside:
        assert functions[name]["VpcConfig"] == {"SubnetIds": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]}
        assert {"Key": "network-policy", "Value": "NetworkPolicy"} in functions[name]["Tags"]
    allow, deny = resolved(EVERYTHING)["NetworkPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (allow["Effect"], deny["Effect"]) == ("Allow", "Deny")
    assert allow["Action"] == deny["Action"]
    # Only calls of a function's code have this condition key.
    assert deny["Condition"] == {"Null": {"lambda:SourceFunctionArn": "false"}}


def test_a_custom_domain_has_no_base_path() -> None:
    assert not [name for name in resolved({}) if name.startswith("CustomDomain")]
    found = resolved(EVERYTHING)
    assert "BasePath" not in found["CustomDomainMapping"]["Properties"]
    assert found["CustomDomainMapping"]["Properties"]["Stage"] == "TokenBrokerApiapiStage"
    assert found["CustomDomain"]["Properties"]["SecurityPolicy"] == "TLS_1_2"
    assert found["CustomDomainRecordSet"]["Properties"]["Name"] == "tokens.example.com"


@pytest.mark.parametrize("parameters", [{}, EVERYTHING])
def test_the_resources_have_an_order_of_creation(parameters: dict[str, str]) -> None:
    # cfn-lint checks the template before SAM expands the API, so it cannot check this.
    document = translate(load_template(), region="eu-west-1", parameters=parameters)
    waiting = {
        name: {found for found in references(resource) if found in document["Resources"]} - {name}
        for name, resource in document["Resources"].items()
    }
    while ready := [name for name, needs in waiting.items() if not needs & waiting.keys()]:
        for name in ready:
            del waiting[name]
    assert not waiting


# Characters that AWS allows in names that the template makes from the stack's name.
LONGEST = {
    "AlarmName": 255,
    "DashboardName": 255,
    "LogGroupName": 512,
    "Namespace": 255,
    "POWERTOOLS_METRICS_NAMESPACE": 255,
}


def test_every_name_fits_with_the_longest_stack_name() -> None:
    found = list(names(resolved(EVERYTHING, {"AWS::StackName": "s" * 128, "AWS::Region": "ap-southeast-10"})))
    assert {name for name, _ in found} == LONGEST.keys()
    assert not [(name, value) for name, value in found if len(value) > LONGEST[name]]


def names(value: Any) -> Iterator[tuple[str, str]]:
    """The properties of LONGEST that are strings, at any depth."""
    if isinstance(value, list):
        for item in value:
            yield from names(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name in LONGEST and isinstance(item, str):
                yield name, item
            yield from names(item)

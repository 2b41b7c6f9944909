"""How a deployment goes live: versions, alias, gradual deployments, and functions' parameters."""

from __future__ import annotations

import re
from typing import Any

import pytest

from local.resources import Document, load_template, translate

from .intrinsics import Resolver

FUNCTIONS = [
    "GetToken",
    "ManageConnections",
    "SweepDue",
    "RenewToken",
    "SecretChanged",
    "ObtainConsent",
    "ExchangeCode",
]
BUSY_FUNCTIONS = {"GetTokenFunction", "ManageConnectionsFunction"}


def with_parameters(**parameters: str) -> dict[str, Document]:
    """The resources with these parameters, which SAM gets too."""
    document = translate(load_template(), region="eu-west-1", parameters=parameters)
    return Resolver(document, parameters).resources()


def of_type(resources: dict[str, Document], kind: str) -> dict[str, dict[str, Any]]:
    return {name: value["Properties"] for name, value in resources.items() if value["Type"] == kind}


@pytest.mark.parametrize("verb", FUNCTIONS)
def test_a_new_digest_alone_makes_a_new_version_of_every_function(verb: str) -> None:
    # SAM does not notice a changed layer or parameter. Without the digest the old code would stay live.
    versions = []
    for digest in ("a" * 64, "a" * 64, "b" * 64):
        resources = with_parameters(CodeDigest=digest)
        alias = resources[f"{verb}FunctionAliaslive"]["Properties"]
        assert alias["Name"] == "live"
        assert alias["FunctionName"] == f"{verb}Function"
        version = alias["FunctionVersion"].removesuffix(".Version")
        assert resources[version]["Properties"]["FunctionName"] == f"{verb}Function"
        assert resources[version]["DeletionPolicy"] == "Delete"
        versions.append(version)
    assert versions[0] == versions[1] != versions[2]


OWN_FILES = "arn:aws:lambda:eu-west-1:123456789012:layer:our-providers:3"


@pytest.mark.parametrize(
    ("arn", "layers", "folder"), [("", [], ""), (OWN_FILES, [OWN_FILES], "/opt/token_broker_providers")]
)
def test_only_functions_that_read_provider_files_get_their_layer(arn: str, layers: list[str], folder: str) -> None:
    resources = with_parameters(ProviderFilesLayerArn=arn)
    for verb in FUNCTIONS:
        function = resources[f"{verb}Function"]["Properties"]
        reads = verb not in ("SweepDue", "SecretChanged")
        assert [layer for layer in function["Layers"] if "our-providers" in layer] == (layers if reads else [])
        assert function["Environment"]["Variables"].get("PROVIDER_FILES") == (folder if reads else None)


@pytest.mark.parametrize(
    ("arn", "is_valid"),
    [("", True), (OWN_FILES, True), (OWN_FILES.rpartition(":")[0], False), ("our-providers", False)],
)
def test_the_layer_of_provider_files_is_one_version(template: Document, arn: str, is_valid: bool) -> None:
    pattern = template["Parameters"]["ProviderFilesLayerArn"]["AllowedPattern"]
    assert (re.fullmatch(pattern, arn) is not None) is is_valid


def test_everything_calls_the_alias(translated: Document) -> None:
    resources = Resolver(translated).resources()
    targets = [
        resources["SweepSchedule"]["Properties"]["Target"]["Arn"],
        *(target["Arn"] for target in resources["SecretChangedRule"]["Properties"]["Targets"]),
        *(mapping["FunctionName"] for mapping in of_type(resources, "AWS::Lambda::EventSourceMapping").values()),
        *(permission["FunctionName"] for permission in of_type(resources, "AWS::Lambda::Permission").values()),
    ]
    assert len(targets) > len(FUNCTIONS)
    for path, methods in resources["TokenBrokerApi"]["Properties"]["Body"]["paths"].items():
        for method, operation in methods.items():
            called = re.search(r"/functions/(\w+)/invocations$", operation["x-amazon-apigateway-integration"]["uri"])
            assert called, f"{method} {path}"
            targets.append(called[1])
    assert {target.removesuffix("FunctionAliaslive") for target in targets} == set(FUNCTIONS)
    (invoke,) = resources["SweepScheduleRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    assert invoke["Resource"] == "SweepDueFunction.Arn:live"


def test_no_deployment_is_gradual_by_default(translated: Document) -> None:
    resources = Resolver(translated).resources()
    assert not of_type(resources, "AWS::CodeDeploy::DeploymentGroup")
    assert "DeploymentRole" not in resources


def test_sam_knows_every_deployment_preference(template: Document) -> None:
    ways = template["Parameters"]["Deployment"]["AllowedValues"]
    assert template["Mappings"]["Deployments"] == {
        way: {"IsGradual": "false" if way == "AllAtOnce" else "true"} for way in ways
    }


def test_a_gradual_deployment_goes_back_when_an_alarm_rings() -> None:
    resources = with_parameters(Deployment="Linear10PercentEvery1Minute")
    groups = of_type(resources, "AWS::CodeDeploy::DeploymentGroup")
    assert groups.keys() == {f"{verb}FunctionDeploymentGroup" for verb in FUNCTIONS}
    for group in groups.values():
        assert group["DeploymentConfigName"] == "CodeDeployDefault.LambdaLinear10PercentEvery1Minute"
        assert group["ServiceRoleArn"] == "DeploymentRole.Arn"
        assert group["AutoRollbackConfiguration"]["Enabled"] is True
        assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
        alarms = {alarm["Name"] for alarm in group["AlarmConfiguration"]["Alarms"]}
        assert alarms == {"NewVersionErrorsAlarm"}
    for verb in FUNCTIONS:
        update = resources[f"{verb}FunctionAliaslive"]["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
        assert update["DeploymentGroupName"] == f"{verb}FunctionDeploymentGroup"
    # SAM's own role would have a managed policy for every function of the account.
    assert [name for name in of_type(resources, "AWS::IAM::Role") if "CodeDeploy" in name] == []
    statements = resources["DeploymentRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    shifted = {statement["Resource"] for statement in statements if "lambda:UpdateAlias" in statement["Action"]}
    assert shifted == {f"{verb}Function.Arn" for verb in FUNCTIONS}


def test_the_alarm_that_stops_a_deployment_sees_the_new_versions_alone() -> None:
    names: list[str] = []
    seen: list[set[tuple[str, str]]] = []
    for digest in ("a" * 64, "b" * 64):
        resources = with_parameters(Deployment="Linear10PercentEvery1Minute", CodeDigest=digest)
        alarm = resources["NewVersionErrorsAlarm"]["Properties"]
        metrics = [item["MetricStat"]["Metric"] for item in alarm["Metrics"] if "MetricStat" in item]
        versions = {name.split("FunctionVersion")[0]: name for name in of_type(resources, "AWS::Lambda::Version")}
        for metric in metrics:
            dimensions = {dimension["Name"]: dimension["Value"] for dimension in metric["Dimensions"]}
            function = dimensions.get("FunctionName") or dimensions["function"]
            verb = function.removesuffix("Function")
            assert (dimensions.get("ExecutedVersion") or dimensions["version"]) == f"{versions[verb]}.Version"
            if metric["Namespace"] == "AWS/Lambda":
                # Lambda counts an alias's calls by version only under these three dimensions together.
                assert dimensions.keys() == {"FunctionName", "Resource", "ExecutedVersion"}
                assert dimensions["Resource"] == f"{function}:live"
        seen.append({(metric["MetricName"], str(metric["Dimensions"])) for metric in metrics})
        names.append(alarm["AlarmName"])
    assert len(seen[0]) == len(FUNCTIONS) + len(BUSY_FUNCTIONS) + 1
    assert seen[0].isdisjoint(seen[1])
    # The state of an alarm stays when the alarm is changed, so a new deployment has a new alarm.
    assert names[0] != names[1]


def test_only_the_busy_functions_of_the_api_have_snapshots_and_only_on_request() -> None:
    for asked in ("None", "PublishedVersions"):
        functions = of_type(with_parameters(SnapStart=asked), "AWS::Lambda::Function")
        snapped = {name: function["SnapStart"] for name, function in functions.items() if "SnapStart" in function}
        assert snapped == {name: {"ApplyOn": asked} for name in BUSY_FUNCTIONS}


@pytest.mark.parametrize("architecture", ["x86_64", "arm64"])
def test_functions_and_compiled_layer_are_of_one_architecture(architecture: str) -> None:
    resources = with_parameters(Architecture=architecture)
    for function in of_type(resources, "AWS::Lambda::Function").values():
        assert function["Architectures"] == [architecture]
    (vendor,) = (name for name in resources if name.startswith("VendorLayer"))
    assert resources[vendor]["Properties"]["CompatibleArchitectures"] == [architecture]


def test_concurrency_is_reserved_on_request() -> None:
    parameters = {f"{verb}Concurrency": "7" for verb in ("GetToken", "ManageConnections", "RenewToken")}
    for given, reserved in (
        ({}, {}),
        (parameters, {f"{name.removesuffix('Concurrency')}Function": "7" for name in parameters}),
    ):
        functions = of_type(with_parameters(**given), "AWS::Lambda::Function")
        found = {
            name: function["ReservedConcurrentExecutions"]
            for name, function in functions.items()
            if "ReservedConcurrentExecutions" in function
        }
        assert found == reserved


def test_the_role_of_the_access_log_is_created_before_the_stage() -> None:
    resources = with_parameters(SetApiGatewayAccount="true")
    (tag,) = resources["AccessLogGroup"]["Properties"]["Tags"]
    assert tag["Value"] == "ApiGatewayAccount"
    assert resources["ApiGatewayAccount"]["DependsOn"] == "TokenBrokerApi"
    assert "AccessLogGroup" in resources["TokenBrokerApiapiStage"]["Properties"]["AccessLogSetting"]["DestinationArn"]
    assert not {"ApiGatewayAccount", "ApiGatewayLogRole"} & with_parameters().keys()

"""Creates every resource type of the template that moto supports, and checks what was deployed.

Resources that only moto's services support (alarms, queue policies, the schedule) are created through their APIs, whose
models check each property. Types that moto does not support are listed, so that none is forgotten.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from local.resources import Document, load_template, translate

from .intrinsics import Resolver

REGION, STACK = "eu-west-2", "token-broker"
PARAMETERS = {
    "SubnetIds": "",
    "DeletionProtection": "true",
    "SecretKeyArns": "arn:aws:kms:eu-west-2:123456789012:key/1",
}
# By moto's CloudFormation.
CREATED = {
    *("AWS::CloudWatch::Dashboard", "AWS::DynamoDB::Table", "AWS::Events::Rule", "AWS::IAM::Policy", "AWS::IAM::Role"),
    *("AWS::KMS::Key", "AWS::Lambda::EventSourceMapping", "AWS::Lambda::Function", "AWS::Lambda::LayerVersion"),
    *("AWS::Lambda::Version", "AWS::Logs::LogGroup", "AWS::SQS::Queue"),
}
BY_API = {"AWS::CloudWatch::Alarm", "AWS::SQS::QueuePolicy", "AWS::Scheduler::Schedule"}
# moto's API Gateway cannot read SAM's document, and without an API there is nothing to permit. moto has no aliases in
# CloudFormation and no CodeDeploy. The conditional types are those of a domain and of the region.
NEITHER = {
    *("AWS::ApiGateway::RestApi", "AWS::ApiGateway::Deployment", "AWS::ApiGateway::Stage", "AWS::Lambda::Permission"),
    *("AWS::Lambda::Alias", "AWS::Lambda::EventInvokeConfig"),
    *("AWS::ApiGateway::Account", "AWS::ApiGateway::DomainName", "AWS::ApiGateway::BasePathMapping"),
    *("AWS::Route53::RecordSet", "AWS::CodeDeploy::Application", "AWS::CodeDeploy::DeploymentGroup"),
}
RECOVERY = "PointInTimeRecoverySpecification"
TOPIC = {"PageTopicArn": f"arn:aws:sns:{REGION}:123456789012:page"}
Client = Callable[[str], Any]


@pytest.fixture(scope="module")
def client(endpoint_url: str) -> Client:
    session: Any = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name=REGION)
    return lambda service: session.client(service, endpoint_url=endpoint_url)


@pytest.fixture(scope="module")
def document() -> Document:
    """The translated template. References to an alias, which moto lacks, go to the function."""
    text = json.dumps(translate(load_template(), region=REGION, parameters=PARAMETERS))
    found: Document = json.loads(re.sub(r'"Ref": "(\w+)Aliaslive"', r'"Fn::GetAtt": ["\1", "Arn"]', text))
    return found


@pytest.fixture(scope="module")
def created(client: Client, document: Document) -> dict[str, str]:
    """The physical ids of all created resources, by logical id."""
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("empty.py", "")
    location = {"LocationConstraint": REGION}
    client("s3").create_bucket(Bucket="not-packaged", CreateBucketConfiguration=location)
    client("s3").put_object(Bucket="not-packaged", Key="code", Body=code.getvalue())
    resolver = Resolver(document, PARAMETERS)
    wanted = {
        name: {key: value for key, value in resource.items() if key != "DependsOn"}
        for name, resource in document["Resources"].items()
        if resource["Type"] in CREATED and ("Condition" not in resource or resolver.holds(resource["Condition"]))
    }
    template = {key: document[key] for key in ("AWSTemplateFormatVersion", "Parameters", "Conditions")}
    cloudformation = client("cloudformation")
    cloudformation.create_stack(
        StackName=STACK,
        TemplateBody=json.dumps({**template, "Resources": wanted}),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in PARAMETERS.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    found = cloudformation.describe_stack_resources(StackName=STACK)["StackResources"]
    ids = {
        item["LogicalResourceId"]: item.get("PhysicalResourceId", "") for item in found if item.get("LogicalResourceId")
    }
    assert ids.keys() == wanted.keys()
    _complete(client, document, ids)
    return ids


def _complete(client: Client, document: Document, created: dict[str, str]) -> None:
    """Sets what moto's CloudFormation leaves out, with the calls that CloudFormation makes."""
    dynamodb, logs = client("dynamodb"), client("logs")
    for name, table in of_type(document, "AWS::DynamoDB::Table", created).items():
        expiry, recovery = (table.pop(key, None) for key in ("TimeToLiveSpecification", RECOVERY))
        table["SSESpecification"]["Enabled"] = table["SSESpecification"].pop("SSEEnabled")
        table["DeletionProtectionEnabled"] = table.get("DeletionProtectionEnabled") == "true"
        dynamodb.update_table(TableName=created[name], DeletionProtectionEnabled=False)
        dynamodb.delete_table(TableName=created[name])
        dynamodb.create_table(TableName=created[name], **table)
        if expiry:
            dynamodb.update_time_to_live(TableName=created[name], TimeToLiveSpecification=expiry)
        if recovery:
            dynamodb.update_continuous_backups(TableName=created[name], **{RECOVERY: recovery})
    for group in of_type(document, "AWS::Logs::LogGroup", created).values():
        # moto accepts a log group's key only at creation.
        logs.delete_log_group(logGroupName=group["LogGroupName"])
        logs.create_log_group(logGroupName=group["LogGroupName"], kmsKeyId=group["KmsKeyId"])
        logs.put_retention_policy(logGroupName=group["LogGroupName"], retentionInDays=int(group["RetentionInDays"]))


def test_no_type_is_forgotten() -> None:
    gradual = translate(load_template(), region=REGION, parameters={"Deployment": "Canary10Percent5Minutes"})
    types = {resource["Type"] for resource in gradual["Resources"].values()}
    assert types == CREATED | BY_API | NEITHER


def test_the_connection_table(client: Client, created: dict[str, str]) -> None:
    table = client("dynamodb").describe_table(TableName=created["ConnectionTable"])["Table"]
    assert table["KeySchema"] == [{"AttributeName": "pk", "KeyType": "HASH"}]
    assert table["DeletionProtectionEnabled"] is True
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    backups = client("dynamodb").describe_continuous_backups(TableName=created["ConnectionTable"])
    recovery = backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
    assert recovery["PointInTimeRecoveryStatus"] == "ENABLED"


def test_the_token_table(client: Client, created: dict[str, str]) -> None:
    dynamodb = client("dynamodb")
    table = dynamodb.describe_table(TableName=created["TokenTable"])["Table"]
    assert [(key["AttributeName"], key["KeyType"]) for key in table["KeySchema"]] == [("pk", "HASH"), ("sk", "RANGE")]
    (index,) = table["GlobalSecondaryIndexes"]
    assert index["IndexName"] == "due"
    assert [key["AttributeName"] for key in index["KeySchema"]] == ["due_shard", "due_at"]
    assert index["Projection"] == {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["ttl"]}
    expiry = dynamodb.describe_time_to_live(TableName=created["TokenTable"])["TimeToLiveDescription"]
    assert expiry == {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}


@pytest.mark.parametrize("table", ["ConnectionTable", "TokenTable"])
def test_tables_are_encrypted_with_the_data_key(client: Client, created: dict[str, str], table: str) -> None:
    encryption = client("dynamodb").describe_table(TableName=created[table])["Table"]["SSEDescription"]
    assert encryption["SSEType"] == "KMS"
    assert encryption["KMSMasterKeyArn"].rpartition("/")[2] == created["DataKey"]


def test_the_queues(client: Client, created: dict[str, str]) -> None:
    sqs = client("sqs")
    attributes = {
        name: sqs.get_queue_attributes(QueueUrl=created[name], AttributeNames=["All"])["Attributes"]
        for name in ("RenewalQueue", "RenewalDeadLetterQueue")
    }
    assert json.loads(attributes["RenewalQueue"]["RedrivePolicy"]) == {
        "deadLetterTargetArn": attributes["RenewalDeadLetterQueue"]["QueueArn"],
        "maxReceiveCount": 5,
    }
    assert attributes["RenewalQueue"]["MessageRetentionPeriod"] == "3600"
    assert attributes["RenewalDeadLetterQueue"]["MessageRetentionPeriod"] == "1209600"
    for queue in attributes.values():
        assert queue["KmsMasterKeyId"].rpartition("/")[2] == created["DataKey"]


@pytest.mark.parametrize("key", ["DataKey", "SealingKey"])
def test_the_keys(client: Client, created: dict[str, str], key: str) -> None:
    kms = client("kms")
    assert kms.get_key_rotation_status(KeyId=created[key])["KeyRotationEnabled"] is True
    administration = kms.get_key_policy(KeyId=created[key], PolicyName="default")["Policy"]["Statement"][0]
    assert administration["Sid"] == "AccountAdministersKey"
    assert administration["Principal"] == {"AWS": "arn:aws:iam::123456789012:root"}
    assert not {"kms:Decrypt", "kms:GenerateDataKey", "kms:CreateGrant"} & set(administration["Action"])


def test_the_logs(client: Client, created: dict[str, str]) -> None:
    groups = {group["logGroupName"]: group for group in client("logs").describe_log_groups()["logGroups"]}
    kept = {name.rpartition("/")[2]: group["retentionInDays"] for name, group in groups.items()}
    assert kept == {"audit": 400, "access": 90, "sweep_due": 90, "renew_token": 90, "secret_changed": 90}
    assert {group["kmsKeyId"].rpartition("/")[2] for group in groups.values()} == {created["DataKey"]}


def test_the_functions(client: Client, created: dict[str, str]) -> None:
    functions = client("lambda")
    for verb in ("GetToken", "ManageConnections", "SweepDue", "RenewToken", "SecretChanged"):
        found = functions.get_function_configuration(FunctionName=created[f"{verb}Function"])
        assert found["Runtime"] == "python3.13"
        assert found["Role"].endswith(f"/{created[f'{verb}Role']}")
        assert found["Architectures"] == ["x86_64"]
        assert found["Environment"]["Variables"]["TOKEN_TABLE"] == created["TokenTable"]
    (mapping,) = functions.list_event_source_mappings()["EventSourceMappings"]
    assert mapping["BatchSize"] == 1
    assert mapping["FunctionArn"].endswith(created["RenewTokenFunction"])


def test_the_roles(client: Client, created: dict[str, str]) -> None:
    iam = client("iam")
    (own,) = iam.list_role_policies(RoleName=created["ManageConnectionsRole"])["PolicyNames"]
    assert own == "manage-connections"
    acquirers = {"GetTokenRole": "get-token", "RenewTokenRole": "renew-token"}
    for role, name in acquirers.items():
        assert set(iam.list_role_policies(RoleName=created[role])["PolicyNames"]) == {name, "secret-keys"}
        document = iam.get_role_policy(RoleName=created[role], PolicyName="secret-keys")["PolicyDocument"]
        (statement,) = document["Statement"]
        assert statement["Resource"] == [PARAMETERS["SecretKeyArns"]]


def test_the_rule_and_the_dashboard(client: Client, created: dict[str, str]) -> None:
    rules = client("events").list_rules()["Rules"]
    patterns = [json.loads(rule["EventPattern"])["detail"] for rule in rules]
    (by_trail,) = (pattern["eventName"] for pattern in patterns if "eventName" in pattern)
    (by_itself,) = (pattern for pattern in patterns if "labelUpdated" in pattern)
    assert "PutSecretValue" in by_trail
    assert by_itself["name"] == [{"prefix": "token-broker/"}]
    for rule in rules:
        (target,) = client("events").list_targets_by_rule(Rule=rule["Name"])["Targets"]
        assert target["Arn"].endswith(created["SecretChangedFunction"])
    body = client("cloudwatch").get_dashboard(DashboardName=f"{STACK}-{REGION}")["DashboardBody"]
    assert json.loads(body)["widgets"]


def of_type(document: Document, kind: str, created: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The resolved properties of a type's resources, with the physical ids of created ones."""
    key_arn = f"arn:aws:kms:{REGION}:123456789012:key/{created['DataKey']}"
    names = {
        f"{queue}.QueueName": created[queue].rpartition("/")[2] for queue in ("RenewalQueue", "RenewalDeadLetterQueue")
    }
    resolver = Resolver(document, {**PARAMETERS, **TOPIC}, {**created, **names, "DataKey.Arn": key_arn})
    return {name: found["Properties"] for name, found in resolver.resources().items() if found["Type"] == kind}


def test_the_alarms(client: Client, document: Document, created: dict[str, str]) -> None:
    cloudwatch = client("cloudwatch")
    wanted = of_type(document, "AWS::CloudWatch::Alarm", created)
    for name, properties in wanted.items():
        cloudwatch.put_metric_alarm(AlarmName=name, **properties)
    alarms = {alarm["AlarmName"]: alarm for alarm in cloudwatch.describe_alarms()["MetricAlarms"]}
    assert alarms.keys() == wanted.keys()
    assert alarms["SweepNotRunningAlarm"]["TreatMissingData"] == "breaching"
    assert alarms["SweepNotRunningAlarm"]["AlarmActions"] == [TOPIC["PageTopicArn"]]


def test_the_queue_policies(client: Client, document: Document, created: dict[str, str]) -> None:
    sqs = client("sqs")
    for properties in of_type(document, "AWS::SQS::QueuePolicy", created).values():
        (url,) = properties["Queues"]
        policy = json.dumps(properties["PolicyDocument"])
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        kept = json.loads(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"])
        assert [statement["Effect"] for statement in kept["Statement"]] == ["Deny"]


def test_the_schedule(client: Client, document: Document, created: dict[str, str]) -> None:
    scheduler = client("scheduler")
    ((name, properties),) = of_type(document, "AWS::Scheduler::Schedule", created).items()
    arns = {"Arn": "arn:aws:lambda:eu-west-2:123456789012:function:f", "RoleArn": "arn:aws:iam::123456789012:role/r"}
    scheduler.create_schedule(Name=name, **{**properties, "Target": {**properties["Target"], **arns}})
    assert scheduler.get_schedule(Name=name)["ScheduleExpression"] == "rate(1 minute)"

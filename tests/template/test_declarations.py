"""The template's functions, tables, queues, keys, schedule and rule."""

from datetime import timedelta
from typing import Any

import pytest

from local.resources import Document
from token_broker.core.consent_sessions import TIME_TO_EXCHANGE
from token_broker.service.exchange_code import TIME_TO_STORE

FUNCTIONS = [
    "GetToken",
    "ManageConnections",
    "SweepDue",
    "RenewToken",
    "SecretChanged",
    "ObtainConsent",
    "ExchangeCode",
]
AUDITED = ["GetToken", "ManageConnections", "ObtainConsent", "ExchangeCode"]
LOCAL_SETTINGS = {"TOKEN_BROKER_LOCAL", "TOKEN_BROKER_TIME_SCALE", "TOKEN_BROKER_LEASE_SCALE", "AWS_ENDPOINT_URL"}


def properties(document: Document, name: str) -> dict[str, Any]:
    found: dict[str, Any] = document["Resources"][name]["Properties"]
    return found


@pytest.mark.parametrize("verb", FUNCTIONS)
def test_a_function_has_its_own_role_a_log_and_tracing(translated: Document, verb: str) -> None:
    function = properties(translated, f"{verb}Function")
    assert function["Runtime"] == "python3.13"
    assert function["Role"] == {"Fn::GetAtt": [f"{verb}Role", "Arn"]}
    log = "AuditLogGroup" if verb in AUDITED else f"{verb}LogGroup"
    assert function["LoggingConfig"] == {"LogGroup": {"Ref": log}}
    assert function["TracingConfig"] == {"Mode": "Active"}
    # Lambda writes the log with the function's role, which allows only that log.
    (policy,) = properties(translated, f"{verb}Role")["Policies"]
    logs = [
        statement for statement in policy["PolicyDocument"]["Statement"] if "logs:PutLogEvents" in statement["Action"]
    ]
    assert [statement["Resource"] for statement in logs] == [{"Fn::GetAtt": [log, "Arn"]}]


def test_there_are_no_other_functions(translated: Document) -> None:
    functions = {n: value for n, value in translated["Resources"].items() if value["Type"] == "AWS::Lambda::Function"}
    assert functions.keys() == {*(f"{verb}Function" for verb in FUNCTIONS), "ReceiveCodeFunction"}
    assert [name for name, value in functions.items() if "Condition" in value] == ["ReceiveCodeFunction"]


@pytest.mark.parametrize("verb", FUNCTIONS)
def test_no_function_has_a_setting_of_the_local_stack(translated: Document, verb: str) -> None:
    variables = properties(translated, f"{verb}Function")["Environment"]["Variables"]
    assert not LOCAL_SETTINGS & variables.keys()


def test_every_parameter_is_described_and_bounded(template: Document) -> None:
    for name, parameter in template["Parameters"].items():
        assert parameter["Description"], name
        assert {"AllowedValues", "AllowedPattern", "MaxValue"} & parameter.keys(), name


def test_private_networks_are_not_allowed_by_default(template: Document) -> None:
    assert template["Parameters"]["AllowPrivateNetworks"]["Default"] == "false"


def test_every_output_is_described(template: Document) -> None:
    assert all(output["Description"] for output in template["Outputs"].values())


@pytest.mark.parametrize("name", ["ConnectionTable", "GrantTable"])
def test_a_table_that_is_a_source_of_truth_can_be_restored(template: Document, name: str) -> None:
    table = template["Resources"][name]
    assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
    assert table["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    # Without these keys it cannot be read.
    assert {template["Resources"][key]["DeletionPolicy"] for key in ("DataKey", "GrantKey")} == {"Retain"}


def test_the_connection_table_is_keyed_by_connection(template: Document) -> None:
    table = properties(template, "ConnectionTable")
    assert table["KeySchema"] == [{"AttributeName": "pk", "KeyType": "HASH"}]


def test_the_token_table_cannot_be_restored(template: Document) -> None:
    """A restore would bring revoked tokens back."""
    assert "PointInTimeRecoverySpecification" not in properties(template, "TokenTable")


@pytest.mark.parametrize(
    ("name", "projection"),
    [
        ("TokenTable", {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["ttl"]}),
        ("GrantTable", {"ProjectionType": "KEYS_ONLY"}),
    ],
)
def test_a_table_with_due_items_has_a_ttl_and_the_due_index(
    template: Document, name: str, projection: Document
) -> None:
    table = properties(template, name)
    assert table["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}
    assert table["KeySchema"] == [
        {"AttributeName": "pk", "KeyType": "HASH"},
        {"AttributeName": "sk", "KeyType": "RANGE"},
    ]
    (due,) = table["GlobalSecondaryIndexes"]
    assert due["IndexName"] == "due"
    assert due["KeySchema"] == [
        {"AttributeName": "due_shard", "KeyType": "HASH"},
        {"AttributeName": "due_at", "KeyType": "RANGE"},
    ]
    assert due["Projection"] == projection


def test_tables_and_queues_are_encrypted_with_the_data_key(template: Document) -> None:
    data_key = {"Fn::GetAtt": ["DataKey", "Arn"]}
    for table in ("ConnectionTable", "TokenTable", "GrantTable"):
        encryption = properties(template, table)["SSESpecification"]
        assert encryption == {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": data_key}
    for queue in ("RenewalQueue", "RenewalDeadLetterQueue", "ConsentQueue", "ConsentDeadLetterQueue"):
        assert properties(template, queue)["KmsMasterKeyId"] == data_key


@pytest.mark.parametrize("key", ["SealingKey", "GrantKey", "DataKey"])
def test_keys_rotate(template: Document, key: str) -> None:
    assert properties(template, key)["EnableKeyRotation"] is True


def test_a_message_is_not_delivered_again_while_it_is_processed(template: Document) -> None:
    """AWS asks for six times the function's time-out. All deliveries fit into the time that a message is kept."""
    queue = properties(template, "RenewalQueue")
    assert queue["VisibilityTimeout"] == 6 * properties(template, "RenewTokenFunction")["Timeout"]
    assert 5 * queue["VisibilityTimeout"] < queue["MessageRetentionPeriod"]
    assert queue["RedrivePolicy"] == {
        "deadLetterTargetArn": {"Fn::GetAtt": ["RenewalDeadLetterQueue", "Arn"]},
        "maxReceiveCount": 5,
    }
    assert queue["MessageRetentionPeriod"] == 3600
    assert properties(template, "RenewalDeadLetterQueue")["MessageRetentionPeriod"] == 14 * 86_400


def test_what_a_code_brought_is_stored_before_the_function_ends_and_an_exchange_counts_until_then(
    template: Document,
) -> None:
    time_out = timedelta(seconds=properties(template, "ExchangeCodeFunction")["Timeout"])
    assert TIME_TO_STORE + timedelta(seconds=3) < time_out < TIME_TO_EXCHANGE


@pytest.mark.parametrize(
    ("event", "concurrency"),
    [("RenewTokenFunctionDueToken", {"Ref": "RenewalConcurrency"}), ("ExchangeCodeFunctionReceivedCode", 5)],
)
def test_messages_come_in_batches_of_one_and_with_limited_concurrency(
    translated: Document, event: str, concurrency: Any
) -> None:
    mapping = properties(translated, event)
    assert mapping["BatchSize"] == 1
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": concurrency}


def test_the_sweep_runs_each_minute_and_is_not_repeated(translated: Document) -> None:
    schedule = properties(translated, "SweepSchedule")
    assert schedule["ScheduleExpression"] == "rate(1 minute)"
    assert schedule["Target"]["Input"] == '{"time": "<aws.scheduler.scheduled-time>"}'
    assert schedule["Target"]["RetryPolicy"]["MaximumRetryAttempts"] == 0
    asynchronous = properties(translated, "SweepDueFunctionEventInvokeConfig")
    assert asynchronous["MaximumRetryAttempts"] == 0
    assert asynchronous["MaximumEventAgeInSeconds"] == 60


def test_every_change_of_a_secret_invokes_the_function(translated: Document) -> None:
    pattern = properties(translated, "SecretChangedRule")["EventPattern"]
    assert pattern["source"] == ["aws.secretsmanager"]
    assert set(pattern["detail-type"]) == {"AWS API Call via CloudTrail", "AWS Service Event via CloudTrail"}
    assert set(pattern["detail"]["eventName"]) == {
        "DeleteSecret",
        "PutSecretValue",
        "RestoreSecret",
        "RotationSucceeded",
        "UpdateSecret",
        "UpdateSecretVersionStage",
    }


def test_a_new_current_version_of_a_connections_secret_invokes_the_function_without_a_trail(
    translated: Document,
) -> None:
    pattern = properties(translated, "SecretLabelRule")["EventPattern"]
    assert (pattern["source"], pattern["detail-type"]) == (["aws.secretsmanager"], ["Secret Label Updated"])
    assert pattern["detail"] == {
        "name": [{"prefix": {"Fn::Sub": "${SecretPrefix}/"}}],
        "labelUpdated": ["AWSCURRENT"],
    }


@pytest.mark.parametrize("source", ["SecretLabel", "SecretChanged"])
def test_each_rule_may_invoke_the_function(translated: Document, source: str) -> None:
    (target,) = properties(translated, f"{source}Rule")["Targets"]
    permission = properties(translated, f"{source}Permission")
    assert permission["SourceArn"] == {"Fn::GetAtt": [f"{source}Rule", "Arn"]}
    assert target["Arn"] == permission["FunctionName"] == {"Ref": "SecretChangedFunctionAliaslive"}

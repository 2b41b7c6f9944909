"""create_resources creates the template's resources in a local endpoint and returns the functions' variables."""

import boto3
import pytest

from local import resources
from local.resources import LocalStack, create_resources, load_template

EVERYWHERE = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_LOG_LEVEL", "TOKEN_TABLE"}
ACQUIRERS = EVERYWHERE | {
    "ALLOW_PRIVATE_NETWORKS",
    "CONNECTION_TABLE",
    "RENEWAL_QUEUE_URL",
    "SEALING_KEY_ARN",
    "SECRET_PREFIX",
}


def test_each_function_has_variables_for_what_it_uses(stack: LocalStack) -> None:
    assert {function: set(environment) for function, environment in stack.environments.items()} == {
        "GetTokenFunction": ACQUIRERS,
        "RenewTokenFunction": ACQUIRERS,
        "ManageConnectionsFunction": (ACQUIRERS - {"SEALING_KEY_ARN", "ALLOW_PRIVATE_NETWORKS"}) | {"CODE_DIGEST"},
        "SweepDueFunction": EVERYWHERE | {"RENEWAL_QUEUE_URL"},
        "SecretChangedFunction": EVERYWHERE | {"SECRET_PREFIX"},
    }


def test_environments_name_what_was_created(stack: LocalStack) -> None:
    environment = stack.environments["GetTokenFunction"]
    assert environment["CONNECTION_TABLE"] == stack.connection_table
    assert environment["TOKEN_TABLE"] == stack.token_table
    assert environment["RENEWAL_QUEUE_URL"] == stack.renewal_queue_url
    assert environment["SEALING_KEY_ARN"] == stack.sealing_key_arn
    assert environment["SECRET_PREFIX"] == stack.secret_prefix == "token-broker"
    assert environment["ALLOW_PRIVATE_NETWORKS"] == "false"
    assert environment["POWERTOOLS_SERVICE_NAME"] == "token-broker"


def test_functions_come_with_handler_time_and_memory(stack: LocalStack) -> None:
    assert stack.handlers["SweepDueFunction"] == "sweep_due.app.lambda_handler"
    assert stack.timeouts["GetTokenFunction"] == stack.timeouts["ManageConnectionsFunction"] == 28
    assert set(stack.memory.values()) == {1024}


def test_schedule_queue_and_rule_name_their_functions(stack: LocalStack) -> None:
    assert stack.sweep_function == "SweepDueFunction"
    assert stack.renew_function == "RenewTokenFunction"
    assert stack.secret_changed_function == "SecretChangedFunction"
    assert stack.secret_event_pattern["source"] == ["aws.secretsmanager"]


def test_the_token_table_has_its_keys_and_index(stack: LocalStack, endpoint_url: str, session: boto3.Session) -> None:
    dynamodb = session.client("dynamodb", endpoint_url=endpoint_url)
    table = dynamodb.describe_table(TableName=stack.token_table)["Table"]
    assert [key["AttributeName"] for key in table["KeySchema"]] == ["pk", "sk"]
    assert [index["IndexName"] for index in table["GlobalSecondaryIndexes"]] == ["due"]


def test_the_queue_accepts_and_redrives_messages(stack: LocalStack, endpoint_url: str, session: boto3.Session) -> None:
    sqs = session.client("sqs", endpoint_url=endpoint_url)
    attributes = sqs.get_queue_attributes(QueueUrl=stack.renewal_queue_url, AttributeNames=["All"])["Attributes"]
    assert attributes["VisibilityTimeout"] == "90"
    dead_letters = sqs.get_queue_attributes(QueueUrl=stack.dead_letter_queue_url, AttributeNames=["QueueArn"])
    assert dead_letters["Attributes"]["QueueArn"] in attributes["RedrivePolicy"]
    sqs.send_message(QueueUrl=stack.renewal_queue_url, MessageBody="{}")
    (message,) = sqs.receive_message(QueueUrl=stack.renewal_queue_url)["Messages"]
    assert message["Body"] == "{}"


def test_the_sealing_key_seals(stack: LocalStack, endpoint_url: str, session: boto3.Session) -> None:
    kms = session.client("kms", endpoint_url=endpoint_url)
    context = {"table": stack.token_table}
    key = kms.generate_data_key(KeyId=stack.sealing_key_arn, KeySpec="AES_256", EncryptionContext=context)
    opened = kms.decrypt(CiphertextBlob=key["CiphertextBlob"], EncryptionContext=context)
    assert opened["Plaintext"] == key["Plaintext"]


def test_parameters_reach_the_functions(endpoint_url: str) -> None:
    parameters = {"SecretPrefix": "team/broker", "MemorySize": "512"}
    stack = create_resources(endpoint_url, region="eu-central-1", parameters=parameters)
    assert stack.secret_prefix == stack.environments["SecretChangedFunction"]["SECRET_PREFIX"] == "team/broker"
    assert stack.memory["SweepDueFunction"] == 512


def test_a_type_that_the_endpoint_ignores_is_reported(endpoint_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # moto reports success for a type that its CloudFormation does not support.
    template = load_template()
    template["Resources"]["Forgotten"] = {"Type": "AWS::Scheduler::ScheduleGroup"}
    monkeypatch.setattr(resources, "load_template", lambda: template)
    monkeypatch.setattr(resources, "CREATED_TYPES", resources.CREATED_TYPES | {"AWS::Scheduler::ScheduleGroup"})
    with pytest.raises(RuntimeError, match="not created: Forgotten"):
        create_resources(endpoint_url, region="eu-north-1")

"""Each role may do what its function calls, on what it calls it, and the keys open for nobody else."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.local.resources import TEMPLATE, Document

# What each function calls, per resource. A new call is added here, in the role and nowhere else.
ALLOWED = {
    "GetTokenRole": {
        "ConnectionTable": {"dynamodb:BatchGetItem", "dynamodb:GetItem"},
        "TokenTable": {"dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:UpdateItem"},
        "secret:${SecretPrefix}/*": {"secretsmanager:GetSecretValue"},
        "RenewalQueue": {"sqs:SendMessage"},
        "AuditLogGroup": {"logs:CreateLogStream", "logs:PutLogEvents"},
        "*": {"xray:PutTelemetryRecords", "xray:PutTraceSegments"},
    },
    "ManageConnectionsRole": {
        "ConnectionTable": {"dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Scan"},
        "TokenTable": {"dynamodb:Query", "dynamodb:UpdateItem"},
        "RenewalQueue": {"sqs:SendMessage"},
        "AuditLogGroup": {"logs:CreateLogStream", "logs:PutLogEvents"},
        "*": {"xray:PutTelemetryRecords", "xray:PutTraceSegments"},
    },
    "SweepDueRole": {
        "${TokenTable.Arn}/index/due": {"dynamodb:Query"},
        "TokenTable": {"dynamodb:UpdateItem"},
        "RenewalQueue": {"sqs:SendMessage"},
        "SweepDueLogGroup": {"logs:CreateLogStream", "logs:PutLogEvents"},
        "*": {"xray:PutTelemetryRecords", "xray:PutTraceSegments"},
    },
    "RenewTokenRole": {
        "ConnectionTable": {"dynamodb:BatchGetItem"},
        "TokenTable": {"dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:UpdateItem"},
        "secret:${SecretPrefix}/*": {"secretsmanager:GetSecretValue"},
        "RenewalQueue": {
            "sqs:DeleteMessage",
            "sqs:GetQueueAttributes",
            "sqs:ReceiveMessage",
            "sqs:SendMessage",
        },
        "RenewTokenLogGroup": {"logs:CreateLogStream", "logs:PutLogEvents"},
        "*": {"xray:PutTelemetryRecords", "xray:PutTraceSegments"},
    },
    "SecretChangedRole": {
        "TokenTable": {"dynamodb:Query", "dynamodb:UpdateItem"},
        "SecretChangedLogGroup": {"logs:CreateLogStream", "logs:PutLogEvents"},
        "*": {"xray:PutTelemetryRecords", "xray:PutTraceSegments"},
    },
    "SweepScheduleRole": {"${SweepDueFunction.Arn}:live": {"lambda:InvokeFunction"}},
    # Those that a parameter adds: CodeDeploy's, and API Gateway's for the region.
    "DeploymentRole": {
        "cloudwatch:${AWS::Region}:${AWS::AccountId}:alarm:*": {"cloudwatch:DescribeAlarms"},
        **{
            f"{verb}Function": {"lambda:GetAlias", "lambda:GetProvisionedConcurrencyConfig", "lambda:UpdateAlias"}
            for verb in ("GetToken", "ManageConnections", "SweepDue", "RenewToken", "SecretChanged")
        },
    },
    "ApiGatewayLogRole": {
        "logs:${AWS::Region}:${AWS::AccountId}:*": {
            "logs:CreateLogGroup",
            "logs:CreateLogStream",
            "logs:DescribeLogGroups",
            "logs:DescribeLogStreams",
            "logs:FilterLogEvents",
            "logs:GetLogEvents",
            "logs:PutLogEvents",
        },
    },
}


def actions(statement: Document) -> list[str]:
    action = statement["Action"]
    return [action] if isinstance(action, str) else action


def role_statements(document: Document) -> Iterator[tuple[str, Document]]:
    for name, resource in document["Resources"].items():
        if resource["Type"] == "AWS::IAM::Role":
            for policy in resource["Properties"]["Policies"]:
                for statement in policy["PolicyDocument"]["Statement"]:
                    yield name, statement


def key_statements(document: Document) -> Iterator[tuple[str, Document]]:
    for name, resource in document["Resources"].items():
        if resource["Type"] == "AWS::KMS::Key":
            for statement in resource["Properties"]["KeyPolicy"]["Statement"]:
                yield name, statement


def resource_name(resource: Any) -> str:
    """The logical id that a statement's one resource names, or the tail of the ARN that it builds."""
    if isinstance(resource, str):
        return resource
    if "Fn::GetAtt" in resource:
        return str(resource["Fn::GetAtt"][0])
    tail = str(resource["Fn::Sub"]).removeprefix("arn:${AWS::Partition}:")
    return tail.removeprefix("secretsmanager:${AWS::Region}:${AWS::AccountId}:")


@pytest.mark.parametrize("role", ALLOWED)
def test_a_role_allows_what_its_function_calls_and_no_more(translated: Document, role: str) -> None:
    allowed = {
        resource_name(statement["Resource"]): set(actions(statement))
        for name, statement in role_statements(translated)
        if name == role
    }
    assert allowed == ALLOWED[role]


def test_no_role_is_left_out_above_and_sam_adds_none(translated: Document) -> None:
    roles = {name: role for name, role in translated["Resources"].items() if role["Type"] == "AWS::IAM::Role"}
    assert roles.keys() == ALLOWED.keys()
    assert not [name for name, role in roles.items() if role["Properties"].get("ManagedPolicyArns")]


def test_every_statement_has_its_own_actions_and_one_resource(translated: Document) -> None:
    statements = [*role_statements(translated), *key_statements(translated)]
    assert len(statements) > 30
    for name, statement in statements:
        assert statement["Effect"] == "Allow", name
        assert not [action for action in actions(statement) if "*" in action], name
        assert not isinstance(statement["Resource"], list), name


def test_only_tracing_has_no_resource_of_its_own(translated: Document) -> None:
    unbounded = {
        tuple(actions(statement)) for _, statement in role_statements(translated) if statement["Resource"] == "*"
    }
    assert unbounded == {("xray:PutTelemetryRecords", "xray:PutTraceSegments")}


def test_every_statement_says_why() -> None:
    # A parser keeps no comments, so this reads the text. Trust policies, right under "Statement:", need none.
    before = ""
    for line in map(str.strip, TEMPLATE.read_text(encoding="utf-8").splitlines()):
        if line.startswith(("- Sid:", "- Effect:", "- &")) and before != "Statement:":
            assert before.startswith("#"), f"no reason given between {before!r} and {line!r}"
        before = line


def test_only_the_two_functions_that_acquire_tokens_use_the_sealing_key(translated: Document) -> None:
    use = [
        statement
        for name, statement in key_statements(translated)
        if name == "SealingKey" and {"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"} & set(actions(statement))
    ]
    (statement,) = use
    users = {principal["Fn::GetAtt"][0] for principal in statement["Principal"]["AWS"]}
    assert users == {"GetTokenRole", "RenewTokenRole"}
    assert statement["Condition"] == {
        "StringEquals": {
            "kms:EncryptionContext:table": {"Ref": "TokenTable"},
            "kms:EncryptionContext:purpose": ["access_token", "refresh_token"],
        },
        "StringLike": {"kms:EncryptionContext:key": "C#*/*|T#*"},
    }


def test_manage_connections_can_neither_read_secrets_nor_open_tokens(translated: Document) -> None:
    services = {
        action.partition(":")[0]
        for name, statement in role_statements(translated)
        if name == "ManageConnectionsRole"
        for action in actions(statement)
    }
    assert services == {"dynamodb", "sqs", "logs", "xray"}
    function = translated["Resources"]["ManageConnectionsFunction"]["Properties"]
    assert "SEALING_KEY_ARN" not in function["Environment"]["Variables"]


def test_the_data_key_serves_named_services_of_this_account_alone(translated: Document) -> None:
    for name, statement in key_statements(translated):
        if name == "DataKey" and statement["Principal"] == {"AWS": "*"}:
            condition = statement["Condition"]["StringEquals"]
            assert condition["kms:CallerAccount"] == {"Ref": "AWS::AccountId"}
            assert condition["kms:ViaService"]

"""Each role's rights on the deployed stack, tried with the role's own credentials."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.rehearsal.account import Account
from tests.rehearsal.deployment import Stack

Try = tuple[str, str, str, dict[str, Any], bool]


def check_roles(account: Account, stack: Stack) -> str:
    """Tries every row. Returns how many. Raises AssertionError with those that IAM decides otherwise."""
    tries = list(_tries(account, stack))
    wrong = [
        f"{role} {'may not' if allowed else 'may'} {service}:{operation}"
        for role, service, operation, arguments, allowed in tries
        if account.is_allowed(stack.resources[role], service, operation, **arguments) != allowed
    ]
    assert not wrong, wrong
    roles = {role for role, *_ in tries}
    return f"{len(tries)} calls tried with {len(roles)} roles"


def _tries(account: Account, stack: Stack) -> Iterator[Try]:
    """Role, service, operation, arguments, and whether it is allowed."""
    outputs, resources = stack.outputs, stack.resources
    tokens, connections = outputs["TokenTableName"], outputs["ConnectionTableName"]
    consents = resources["GrantTable"]
    key = {"pk": {"S": "C#unidy/demo"}}
    token_key = {**key, "sk": {"S": "none"}}
    # Nothing is stored: the condition does not hold.
    put = {"TableName": connections, "Item": {"pk": {"S": "none"}}, "ConditionExpression": "attribute_exists(pk)"}
    queue = {"QueueUrl": outputs["RenewalQueueUrl"]}
    own_secret = {"SecretId": account.secret_name(stack, "unidy", "demo"), "VersionStage": "AWSCURRENT"}
    other_secret = {"SecretId": "somebody-elses/unidy/demo"}
    context = {"table": tokens, "purpose": "access_token", "key": "rehearsal/none none"}
    seal = {"KeyId": outputs["SealingKeyArn"], "NumberOfBytes": 32, "EncryptionContext": context}
    invoke = {"FunctionName": resources["GetTokenFunction"], "Qualifier": "live", "Payload": json.dumps({})}
    account.emulator.client("secretsmanager").create_secret(Name=other_secret["SecretId"], SecretString="{}")

    for role, may in {
        "GetTokenRole": {"secret", "key", "read tokens", "read settings", "read consents"},
        "ManageConnectionsRole": {"write settings", "read settings", "read consents"},
        "ObtainConsentRole": {"secret", "read settings", "read consents"},
        "ExchangeCodeRole": {"secret", "read settings"},
        "SweepDueRole": set(),
        "RenewTokenRole": {"secret", "key", "read tokens", "read settings", "read consents"},
        "SecretChangedRole": set(),
    }.items():
        yield role, "secretsmanager", "get_secret_value", own_secret, "secret" in may
        yield role, "secretsmanager", "get_secret_value", other_secret, False
        yield role, "secretsmanager", "put_secret_value", {**other_secret, "SecretString": "{}"}, False
        yield role, "kms", "generate_data_key", seal, "key" in may
        yield role, "sqs", "get_queue_attributes", queue, role == "RenewTokenRole"
        yield role, "dynamodb", "get_item", {"TableName": tokens, "Key": token_key}, "read tokens" in may
        yield role, "dynamodb", "get_item", {"TableName": connections, "Key": key}, "read settings" in may
        # The emulator gives IAM no dynamodb:LeadingKeys, by which this role may read sessions and no consents.
        if role != "ExchangeCodeRole":
            yield role, "dynamodb", "get_item", {"TableName": consents, "Key": token_key}, "read consents" in may
        yield role, "dynamodb", "put_item", put, "write settings" in may
        yield role, "dynamodb", "scan", {"TableName": tokens}, False
        yield role, "lambda", "invoke", invoke, False
        yield role, "iam", "list_roles", {}, False
    yield "SecretChangedRole", "sqs", "send_message", {**queue, "MessageBody": "not a message"}, False

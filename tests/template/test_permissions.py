"""Each statement is narrow and says why, and nobody else may use the keys.

tests/security/test_least_privilege.py checks that roles grant exactly what is called.
"""

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib import resources
from string import Template

import pytest

from local.resources import TEMPLATE, Document, load_template, translate

from .intrinsics import Resolver
from .test_hardening import EVERYTHING


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
                # A statement that only some parameters need is looked at as if it were there.
                yield name, statement["Fn::If"][1] if "Fn::If" in statement else statement


def test_sam_adds_no_policies_of_its_own(translated: Document) -> None:
    roles = {name: role for name, role in translated["Resources"].items() if role["Type"] == "AWS::IAM::Role"}
    assert len(roles) > 5
    assert not [name for name, role in roles.items() if role["Properties"].get("ManagedPolicyArns")]


def test_every_statement_has_its_own_actions_and_one_resource(translated: Document) -> None:
    statements = [*role_statements(translated), *key_statements(translated)]
    assert len(statements) > 30
    for name, statement in statements:
        assert statement["Effect"] == "Allow", name
        assert not [action for action in actions(statement) if "*" in action], name
        assert not isinstance(statement["Resource"], list), name


def test_every_statement_says_why() -> None:
    # A parser drops comments, so this reads the text. Trust policies, directly under "Statement:", need no comment.
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
        "StringLike": {"kms:EncryptionContext:key": "*/* *"},
    }


def test_each_function_uses_the_grant_key_for_its_purposes_alone(translated: Document) -> None:
    """Its encryption context has no physical name, so that a restored table opens."""
    found: dict[tuple[str, str], set[str]] = {}
    for name, statement in key_statements(translated):
        if name == "GrantKey" and statement.get("Sid") != "AccountAdministersKey":
            condition = statement["Condition"]["StringEquals"]
            assert condition["kms:EncryptionContext:table"] == "grants"
            principals, purposes = statement["Principal"]["AWS"], condition["kms:EncryptionContext:purpose"]
            for principal in principals if isinstance(principals, list) else [principals]:
                for action in actions(statement):
                    named = {purposes} if isinstance(purposes, str) else set(purposes)
                    found.setdefault((principal["Fn::GetAtt"][0], action), set()).update(named)
    seal, open_ = "kms:GenerateDataKey", "kms:Decrypt"
    assert found == {
        ("GetTokenRole", seal): {"consent_refresh_token"},
        ("GetTokenRole", open_): {"consent_refresh_token"},
        ("RenewTokenRole", seal): {"consent_refresh_token"},
        ("RenewTokenRole", open_): {"consent_refresh_token"},
        # It opens no code, and no refresh token of a live consent.
        ("ObtainConsentRole", seal): {"pkce_verifier", "consent_code", "consent_refresh_token"},
        ("ObtainConsentRole", open_): {"quarantined_refresh_token"},
        # It opens no refresh token.
        ("ExchangeCodeRole", seal): {"quarantined_refresh_token"},
        ("ExchangeCodeRole", open_): {"pkce_verifier", "consent_code"},
        # It takes the redirects of strangers, and opens nothing.
        ("ReceiveCodeRole", seal): {"consent_code"},
    }


def test_only_named_services_of_this_account_may_use_the_data_key(translated: Document) -> None:
    for name, statement in key_statements(translated):
        if name == "DataKey" and statement["Principal"] == {"AWS": "*"}:
            condition = statement["Condition"]["StringEquals"]
            assert condition["kms:CallerAccount"] == {"Ref": "AWS::AccountId"}
            assert condition["kms:ViaService"]


# How AWS writes the ARN of what GetAtt Arn gives.
ARNS = {
    "AWS::DynamoDB::Table": "dynamodb:eu-west-1:123456789012:table/{}",
    "AWS::Lambda::Function": "lambda:eu-west-1:123456789012:function:{}",
    "AWS::Logs::LogGroup": "logs:eu-west-1:123456789012:log-group:{}:*",
    "AWS::SQS::Queue": "sqs:eu-west-1:123456789012:{}",
}
HERE = {"Partition": "aws", "Region": "eu-west-1", "Account": "123456789012"}
QUALIFIED = ("function alias", "function version")
COLONS_IF_QUALIFIED = "arn:aws:lambda:REGION:ACCOUNT:function:NAME:QUALIFIER".count(":")


@pytest.fixture(scope="module")
def service_authorization() -> dict[str, Document]:
    """AWS's service authorization reference by service, as cfn-lint ships it: actions and resource types."""
    text = resources.files("cfnlint").joinpath("data", "AdditionalSpecs", "Policies.json").read_text(encoding="utf-8")
    found: dict[str, Document] = json.loads(text)
    return found


def identity_statements(document: Document) -> Iterator[tuple[str, Document]]:
    """The statements of all roles and policies, with every part of the template created and resolved."""
    arns = {
        f"{name}.Arn": f"arn:aws:{ARNS[resource['Type']].format(name)}"
        for name, resource in document["Resources"].items()
        if resource["Type"] in ARNS
    }
    for name, resource in Resolver(document, EVERYTHING, arns).resources().items():
        properties = resource["Properties"]
        documents = [policy["PolicyDocument"] for policy in properties.get("Policies", ())]
        if resource["Type"] == "AWS::IAM::Policy":
            documents.append(properties["PolicyDocument"])
        if resource["Type"] in ("AWS::IAM::Role", "AWS::IAM::Policy"):
            for policy in documents:
                yield from ((name, statement) for statement in policy["Statement"])


def test_aws_knows_every_action_for_its_kind_of_resource(service_authorization: dict[str, Document]) -> None:
    document = translate(load_template(), region="eu-west-1", parameters=EVERYTHING)
    checked = set()
    for name, statement in identity_statements(document):
        stated = statement["Resource"]
        for action in actions(statement):
            service, _, operation = action.partition(":")
            known = service_authorization[service]["Actions"].get(operation.lower())
            assert known is not None, f"{name}: AWS has no action {action}"
            kinds = known.get("Resources", [])
            for arn in [stated] if isinstance(stated, str) else stated:
                assert arn == "*" or takes(service_authorization[service], kinds, arn), f"{name}: {action} on {arn}"
            checked.add(action)
    assert {"lambda:GetProvisionedConcurrencyConfig", "dynamodb:Query", "secretsmanager:GetSecretValue"} <= checked


# AWS's services that have one name in every partition.
UNIVERSAL = {
    f"{service}.amazonaws.com" for service in ("apigateway", "events", "lambda", "scheduler", "secretsmanager")
}


@pytest.mark.parametrize(
    ("partition", "region", "suffix"),
    [("aws-cn", "cn-north-1", "amazonaws.com.cn"), ("aws-us-gov", "us-gov-west-1", "amazonaws.com")],
)
def test_every_arn_and_service_is_of_the_stacks_partition(partition: str, region: str, suffix: str) -> None:
    place = {"AWS::Partition": partition, "AWS::Region": region, "AWS::URLSuffix": suffix}
    document = translate(load_template(), region=region, parameters=EVERYTHING)
    parameters = {name: value.replace("arn:aws:", f"arn:{partition}:") for name, value in EVERYTHING.items()}
    text = json.dumps(Resolver(document, parameters, place).resources())
    assert set(re.findall(r"arn:(aws[\w-]*):", text)) == {partition}
    services = set(re.findall(r"[a-z0-9.-]+\.amazonaws\.com[a-z.]*", text)) - UNIVERSAL
    regional = ("codedeploy", "dynamodb", "logs", "secretsmanager", "sqs")
    assert services == {f"{service}.{region}.{suffix}" for service in regional}


def takes(service: Document, kinds: list[str], arn: str) -> bool:
    """Whether an action on these kinds of resources can have this one, which may end in a wildcard."""
    # Actions and resources do not agree on capital letters.
    forms = {kind.lower(): resource["ARNFormats"] for kind, resource in service["Resources"].items()}
    for kind in kinds:
        if kind in QUALIFIED and arn.count(":") != COLONS_IF_QUALIFIED:
            # The data gives functions, aliases and versions one form. The last two have one more part.
            continue
        for form in forms[kind.lower()]:
            here = Template(form).substitute(HERE)
            if re.fullmatch(here, arn) or fnmatchcase(here.replace(".*", "name"), arn):
                return True
    return False


def test_whoever_administers_a_key_may_neither_use_it_nor_grant_its_use(translated: Document) -> None:
    for name, statement in key_statements(translated):
        if statement.get("Sid") == "AccountAdministersKey":
            assert not {"kms:Decrypt", "kms:GenerateDataKey", "kms:CreateGrant"} & set(actions(statement)), name

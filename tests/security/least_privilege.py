"""Compares the AWS calls of each function, at the botocore layer, with the grants of its role in template.yaml.

A grant is an action on a resource by its logical id (`TokenTable`, `TokenTable/index/due`, `secret:${SecretPrefix}/*`),
under conditions. A key's policy grants to the roles that it names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

import pytest

from local.resources import STACK_NAME, Document, LocalStack, load_template, translate
from tests.integration.handlers.functions import Functions

# Two API calls with one IAM action.
ACTIONS: Final = {"sqs:SendMessageBatch": "sqs:SendMessage"}
# SAM appends this to a function's logical id for its alias.
ALIAS: Final = "Aliaslive"
SECRETS: Final = "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:"


# Resources by logical id, each with the condition keys of the call.
Touched = list[tuple[str, dict[str, tuple[str, ...]]]]


@dataclass(frozen=True)
class Call:
    """One call of a function on one resource. `facts`: the values of its condition keys."""

    function: str
    action: str
    resource: str
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)
    operation: str = field(default="", compare=False)


@dataclass(frozen=True)
class Grant:
    """A statement's grant of one action. `conditions`: values by operator and condition key."""

    action: str
    resource: str
    conditions: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict, compare=False)
    denies: bool = False


class CallLog:
    """Records the calls of functions with their parameters. They are resolved when the stack's names are known."""

    def __init__(self) -> None:
        self._noted: list[tuple[str, str, str, dict[str, Any]]] = []

    def note(self, function: str, service: str, operation: str, params: dict[str, Any]) -> None:
        self._noted.append((function, service, operation, params))

    def calls(self, stack: LocalStack) -> list[Call]:
        """Each call on each resource. A resource outside the stack is named `?` and its own name."""
        return [
            Call(function, ACTIONS.get(f"{service}:{operation}", f"{service}:{operation}"), resource, facts, operation)
            for function, service, operation, params in self._noted
            for resource, facts in _RESOURCES[service](stack, params)
        ]


_LOGS: list[CallLog] = []
_RUNNING: list[str] = []


@contextmanager
def recording() -> Iterator[CallLog]:
    """Records the calls of functions until the context ends. Contexts may nest; each records all calls."""
    log, invoke = CallLog(), Functions.invoke

    def invoked(self: Functions, function: str, event: Any) -> Any:
        # Functions run one at a time, but may call from several threads.
        _RUNNING.append(function)
        try:
            return invoke(self, function, event)
        finally:
            _RUNNING.pop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Functions, "invoke", invoked)
        _LOGS.append(log)
        try:
            yield log
        finally:
            _LOGS.remove(log)


def note_call(params: dict[str, Any], model: Any, **_: Any) -> None:
    """Handles botocore's event provide-client-params. Calls outside a function are the test's own and are ignored."""
    if _RUNNING:
        for log in _LOGS:
            log.note(_RUNNING[-1], model.service_model.service_name, model.name, dict(params))


def _tables(stack: LocalStack, params: dict[str, Any]) -> Touched:
    logical = {
        stack.token_table: "TokenTable",
        stack.connection_table: "ConnectionTable",
        stack.grant_table: "GrantTable",
    }
    index = f"/index/{params['IndexName']}" if "IndexName" in params else ""
    names = params["RequestItems"] if "RequestItems" in params else [params["TableName"]]
    facts: dict[str, tuple[str, ...]] = {"dynamodb:LeadingKeys": (params["Key"]["pk"]["S"],)} if "Key" in params else {}
    return [(logical.get(name, f"? {name}") + index, facts) for name in names]


def _secret(_stack: LocalStack, params: dict[str, Any]) -> Touched:
    return [(f"secret:{params['SecretId']}", {"secretsmanager:VersionStage": (params["VersionStage"],)})]


def _key(stack: LocalStack, params: dict[str, Any]) -> Touched:
    if "SigningAlgorithm" in params:
        alias, algorithm = params["KeyId"], params["SigningAlgorithm"]
        return [("kms:key/*", {"kms:RequestAlias": (str(alias),), "kms:SigningAlgorithm": (str(algorithm),)})]
    context = params.get("EncryptionContext", {})
    facts = {f"kms:EncryptionContext:{name}": (value,) for name, value in context.items()}
    logical = {stack.sealing_key_arn: "SealingKey", stack.grant_key_arn: "GrantKey"}
    name = logical.get(params["KeyId"], f"? {params['KeyId']}")
    return [(name, {**facts, "kms:EncryptionContextKeys": tuple(context)})]


def _queue(stack: LocalStack, params: dict[str, Any]) -> Touched:
    url = params["QueueUrl"]
    logical = {stack.renewal_queue_url: "RenewalQueue", stack.consent_queue_url: "ConsentQueue"}
    return [(logical.get(url, f"? {url}"), {})]


_RESOURCES: Final[Mapping[str, Callable[[LocalStack, dict[str, Any]], Touched]]] = {
    "dynamodb": _tables,
    "secretsmanager": _secret,
    "kms": _key,
    "sqs": _queue,
}


class Roles:
    """The grants of template.yaml's roles, by function and by role."""

    def __init__(self, document: Document) -> None:
        resources = document["Resources"]
        self.by_role: dict[str, list[Grant]] = {
            name: [] for name, resource in resources.items() if resource["Type"] == "AWS::IAM::Role"
        }
        for name, resource in resources.items():
            properties = resource["Properties"]
            match resource["Type"]:
                case "AWS::IAM::Role":
                    for policy in properties["Policies"]:
                        self._add([name], policy["PolicyDocument"])
                case "AWS::IAM::Policy":
                    self._add([role["Ref"] for role in properties["Roles"]], properties["PolicyDocument"])
                case "AWS::KMS::Key":
                    for found in properties["KeyPolicy"]["Statement"]:
                        statement = found["Fn::If"][1] if "Fn::If" in found else found
                        for role in _roles_in(statement.get("Principal")):
                            self.by_role[role] += _grants(statement, name)
        self.of_function = {
            name: str(resource["Properties"]["Role"]["Fn::GetAtt"][0])
            for name, resource in resources.items()
            if resource["Type"] == "AWS::Lambda::Function"
        }

    def _add(self, roles: Sequence[str], policy: Document) -> None:
        for statement in policy["Statement"]:
            for role in roles:
                self.by_role[role] += _grants(statement, _resource_name(statement["Resource"]))

    @classmethod
    def of_template(cls) -> Roles:
        return cls(translate(load_template(), region="eu-west-1"))

    def permits(self, call: Call, stack: LocalStack) -> bool:
        """Whether the function's role allows a call, as IAM decides."""
        matching = [
            grant
            for grant in self.by_role[self.of_function[call.function]]
            if grant.action == call.action
            and fnmatchcase(call.resource, _filled(grant.resource, stack))
            and all(
                _holds(operator, call.facts.get(key), [_filled(value, stack) for value in values])
                for operator, conditions in grant.conditions.items()
                for key, values in conditions.items()
            )
        ]
        return bool(matching) and not any(grant.denies for grant in matching)


def _grants(statement: Document, resource: str) -> Iterator[Grant]:
    action = statement["Action"]
    conditions = {
        operator: {key: values if isinstance(values, list) else [values] for key, values in keys.items()}
        for operator, keys in statement.get("Condition", {}).items()
    }
    for name in [action] if isinstance(action, str) else action:
        yield Grant(name, resource, conditions, denies=statement["Effect"] == "Deny")


def _roles_in(principal: Any) -> list[str]:
    found = principal.get("AWS", []) if isinstance(principal, dict) else []
    return [item["Fn::GetAtt"][0] for item in (found if isinstance(found, list) else [found]) if "Fn::GetAtt" in item]


def _resource_name(resource: Any) -> str:
    """The logical id or parameter in a statement's resource, or the end of the ARN that it builds."""
    match resource:
        case str():
            return resource
        case {"Fn::GetAtt": [name, *_]} | {"Ref": name} | {"Fn::Split": [_, {"Ref": name}]}:
            return str(name).removesuffix(ALIAS)
        case {"Fn::Sub": str(text)}:
            named = re.sub(r"\$\{(\w+)\.Arn\}", r"\1", text.removeprefix(SECRETS))
            return named.replace("arn:${AWS::Partition}:", "").replace("${AWS::Region}:${AWS::AccountId}:", "")
    raise NotImplementedError(f"teach _resource_name {resource}")


def _filled(value: Any, stack: LocalStack) -> str:
    if isinstance(value, dict):
        value = "${" + str(value["Ref"]) + "}" if "Ref" in value else value["Fn::Sub"]
    text = str(value).replace("${SecretPrefix}", stack.secret_prefix).replace("${TokenTable}", stack.token_table)
    text = text.replace("${AWS::StackName}", STACK_NAME)
    assert "${" not in text, f"{value}: teach _filled what it stands for"
    return text


def _holds(operator: str, found: Sequence[str] | None, wanted: Sequence[str]) -> bool:
    """IAM's condition operators that the template uses. A missing key does not match."""
    match operator:
        case "StringEquals":
            return found is not None and any(value in wanted for value in found)
        case "StringLike":
            return found is not None and any(fnmatchcase(value, pattern) for value in found for pattern in wanted)
        case "ForAllValues:StringEquals":
            return all(value in wanted for value in found or ())
        case "ForAllValues:StringLike":
            return all(any(fnmatchcase(value, pattern) for pattern in wanted) for value in found or ())
        case "Null":
            return all((found is None) is (value == "true") for value in wanted)
    raise NotImplementedError(f"teach _holds {operator}")

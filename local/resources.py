"""Creates the resources of template.yaml in a local AWS endpoint, and reads functions and routes from it.

SAM's own translator turns the template into CloudFormation. The endpoint's CloudFormation creates what holds data:
tables, queues, keys, and the roles and log groups that those name. Each function's environment comes back as outputs of
that stack, so that Ref, GetAtt and Sub mean the same as in AWS. Functions, schedule, rule and routes are not created,
because moto does not run them; the local stack does.
"""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

TEMPLATE: Final = Path(__file__).parents[1] / "template.yaml"
STACK_NAME: Final = "token-broker"
CREATED_TYPES: Final = frozenset(
    {
        "AWS::DynamoDB::Table",
        "AWS::IAM::Role",
        "AWS::KMS::Key",
        "AWS::Logs::LogGroup",
        "AWS::SQS::Queue",
    }
)
# The schedule's role names a function, which is not created.
NOT_CREATED: Final = frozenset({"SweepScheduleRole"})
# Functions are called by their alias, whose logical id SAM derives from theirs.
ALIAS: Final = "Aliaslive"
FUNCTION_IN_URI: Final = re.compile(r"\$\{(\w+)" + ALIAS + r"\}/invocations$")

SIGNED: Final[list[dict[str, list[str]]]] = [{"AWS_IAM": []}]

Document = dict[str, Any]


@dataclass(frozen=True)
class Route:
    """One method and path template of the API (`/v1/tokens/{provider}/{connection}`), and the function behind it."""

    method: str
    path: str
    function: str
    signed: bool = True


@dataclass(frozen=True)
class GatewayResponse:
    """API Gateway's own response of one type. Status 0: API Gateway's default."""

    status: int
    headers: dict[str, str]
    body: str


@dataclass(frozen=True)
class LocalStack:
    """The template as created: functions by logical id with their environments, and the names of the resources."""

    environments: dict[str, dict[str, str]]
    handlers: dict[str, str]
    timeouts: dict[str, int]  # seconds
    memory: dict[str, int]  # MiB
    routes: list[Route]
    gateway_responses: dict[str, GatewayResponse]
    connection_table: str
    token_table: str
    grant_table: str
    renewal_queue_url: str
    dead_letter_queue_url: str
    consent_queue_url: str
    consent_dead_letter_queue_url: str
    sealing_key_arn: str
    grant_key_arn: str
    secret_prefix: str
    sweep_function: str
    sweep_input: str  # the schedule's Input, with <aws.scheduler.scheduled-time> in it
    renew_function: str
    exchange_function: str
    secret_changed_function: str


def load_template() -> Document:
    """template.yaml before any transform, CloudFormation's short tags (!Ref) read."""
    # Through JSON, so that YAML aliases do not share objects.
    document: Document = json.loads(json.dumps(yaml_parse(TEMPLATE.read_text(encoding="utf-8"))))
    return document


def translate(template: Document, *, region: str, parameters: dict[str, str] | None = None) -> Document:
    """The CloudFormation template that SAM makes of `template`. Calls no AWS service. Changes its argument."""
    logging.getLogger("samtranslator").setLevel(logging.ERROR)  # it warns of feature toggles that only AWS has
    # The translator insists on a place in S3, and code that is not packaged yet has none.
    unpackaged = "s3://not-packaged/code"
    template["Globals"]["Function"]["CodeUri"] = unpackaged
    for resource in _of_type(template, "AWS::Serverless::LayerVersion").values():
        resource["Properties"]["ContentUri"] = unpackaged
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name=region))
    # No function uses SAM's managed policies.
    translated: Document = translator.translate(template, dict(parameters or {}), get_managed_policy_map=dict)
    return translated


def create_resources(
    endpoint_url: str, *, region: str = "eu-west-1", parameters: dict[str, str] | None = None
) -> LocalStack:
    """Create the stack's resources behind `endpoint_url` and return what was created.

    `parameters` are the template's. Raises RuntimeError if the endpoint reports success but left something out.
    """
    document = translate(load_template(), region=region, parameters=parameters)
    functions = {
        name: function
        for name, function in _of_type(document, "AWS::Lambda::Function").items()
        if _is_created(document, function, parameters or {})
    }
    wanted: Document = {
        "ConnectionTable": {"Ref": "ConnectionTable"},
        "TokenTable": {"Ref": "TokenTable"},
        "GrantTable": {"Ref": "GrantTable"},
        "RenewalQueueUrl": {"Ref": "RenewalQueue"},
        "DeadLetterQueueUrl": {"Ref": "RenewalDeadLetterQueue"},
        "ConsentQueueUrl": {"Ref": "ConsentQueue"},
        "ConsentDeadLetterQueueUrl": {"Ref": "ConsentDeadLetterQueue"},
        "SealingKeyArn": {"Fn::GetAtt": ["SealingKey", "Arn"]},
        "GrantKeyArn": {"Fn::GetAtt": ["GrantKey", "Arn"]},
        "SecretPrefix": {"Ref": "SecretPrefix"},
    }
    for function, resource in functions.items():
        properties = resource["Properties"]
        wanted[f"{function}.MemorySize"] = properties["MemorySize"]
        wanted[f"{function}.Timeout"] = properties["Timeout"]
        for name, value in properties["Environment"]["Variables"].items():
            wanted[f"{function}.{name}"] = value

    outputs = _create_stack(document, wanted, endpoint_url=endpoint_url, region=region, parameters=parameters)

    schedule = _only(document, "AWS::Scheduler::Schedule")
    rules = _of_type(document, "AWS::Events::Rule").values()
    targets = [target["Arn"] for rule in rules for target in rule["Properties"]["Targets"]]
    (secret_changed_function,) = {_function_of(target) for target in targets}
    return LocalStack(
        environments={
            function: {
                name: outputs[f"{function}.{name}"] for name in resource["Properties"]["Environment"]["Variables"]
            }
            for function, resource in functions.items()
        },
        handlers={function: resource["Properties"]["Handler"] for function, resource in functions.items()},
        timeouts={function: int(outputs[f"{function}.Timeout"]) for function in functions},
        memory={function: int(outputs[f"{function}.MemorySize"]) for function in functions},
        routes=routes_of(document, parameters),
        gateway_responses=gateway_responses_of(document),
        connection_table=outputs["ConnectionTable"],
        token_table=outputs["TokenTable"],
        grant_table=outputs["GrantTable"],
        renewal_queue_url=outputs["RenewalQueueUrl"],
        dead_letter_queue_url=outputs["DeadLetterQueueUrl"],
        consent_queue_url=outputs["ConsentQueueUrl"],
        consent_dead_letter_queue_url=outputs["ConsentDeadLetterQueueUrl"],
        sealing_key_arn=outputs["SealingKeyArn"],
        grant_key_arn=outputs["GrantKeyArn"],
        secret_prefix=outputs["SecretPrefix"],
        sweep_function=_function_of(schedule["Target"]["Arn"]),
        sweep_input=schedule["Target"]["Input"],
        renew_function=_polling(document, "RenewalQueue"),
        exchange_function=_polling(document, "ConsentQueue"),
        secret_changed_function=secret_changed_function,
    )


def routes_of(document: Document, parameters: Mapping[str, str] | None = None) -> list[Route]:
    """The routes of the translated API with these parameters, in the template's order."""

    def chosen(value: Any) -> Any:
        """A value without the conditions that SAM puts around the parts of a conditional route."""
        while isinstance(value, dict) and "Fn::If" in value:
            condition, then, otherwise = value["Fn::If"]
            value = then if _is_created(document, {"Condition": condition}, parameters or {}) else otherwise
        return value

    routes = []
    for path, methods in _only(document, "AWS::ApiGateway::RestApi")["Body"]["paths"].items():
        for method, operation in chosen(methods).items():
            if method == "Ref":  # AWS::NoValue: the route's condition does not hold
                continue
            found = chosen(operation)
            uri = chosen(found["x-amazon-apigateway-integration"]["uri"])["Fn::Sub"]
            function = FUNCTION_IN_URI.search(uri)
            if function is None:
                raise ValueError(f"{method.upper()} {path}: no function in {uri}")
            routes.append(Route(method.upper(), path, function[1], signed=found["security"] == SIGNED))
    return routes


def gateway_responses_of(document: Document) -> dict[str, GatewayResponse]:
    """API Gateway's own responses by type, header names without their prefix and values without quotes."""
    body = _only(document, "AWS::ApiGateway::RestApi")["Body"]
    return {
        kind: GatewayResponse(
            status=int(response["statusCode"]),
            headers={
                name.removeprefix("gatewayresponse.header."): value.strip("'")
                for name, value in response["responseParameters"].items()
            },
            body=response["responseTemplates"]["application/json"],
        )
        for kind, response in body["x-amazon-apigateway-gateway-responses"].items()
    }


def _create_stack(
    document: Document, wanted: Document, *, endpoint_url: str, region: str, parameters: dict[str, str] | None
) -> dict[str, str]:
    """Create what moto can create, and return the values of `wanted`, which may hold intrinsic functions."""
    created = {
        name: resource
        for name, resource in document["Resources"].items()
        if resource["Type"] in CREATED_TYPES
        and name not in NOT_CREATED
        and _is_created(document, resource, parameters or {})
    }
    # An output's name must be alphanumeric, which the name of a variable is not: outputs are numbered.
    intrinsics = {name: value for name, value in wanted.items() if isinstance(value, dict)}
    numbers = {name: f"Value{number}" for number, name in enumerate(intrinsics)}
    template = {
        "AWSTemplateFormatVersion": document["AWSTemplateFormatVersion"],
        "Parameters": document["Parameters"],
        "Conditions": document["Conditions"],
        "Resources": created,
        "Outputs": {numbers[name]: {"Value": value} for name, value in intrinsics.items()},
    }
    cloudformation = boto3.client(
        "cloudformation",
        endpoint_url=endpoint_url,
        region_name=region,
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    cloudformation.create_stack(
        StackName=STACK_NAME,
        TemplateBody=json.dumps(template),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in (parameters or {}).items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    stack = cloudformation.describe_stacks(StackName=STACK_NAME)["Stacks"][0]
    resources = cloudformation.describe_stack_resources(StackName=STACK_NAME)["StackResources"]
    # moto skips what it does not know (an entry without a name) and still reports success.
    missing = created.keys() - {resource.get("LogicalResourceId") for resource in resources}
    if stack["StackStatus"] != "CREATE_COMPLETE" or missing:
        raise RuntimeError(f"the stack is {stack['StackStatus']}; not created: {', '.join(sorted(missing)) or 'none'}")
    _set_key_policies(resources, endpoint_url=endpoint_url, region=region)
    values = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    return {name: values[numbers[name]] if name in numbers else str(value) for name, value in wanted.items()}


def _set_key_policies(resources: list[Any], *, endpoint_url: str, region: str) -> None:
    """Set each key's policy: moto keeps it as an object, as in the template, and then DescribeKey fails."""
    kms = boto3.client(
        "kms",
        endpoint_url=endpoint_url,
        region_name=region,
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    for resource in resources:
        if resource["ResourceType"] == "AWS::KMS::Key":
            policy = json.dumps({"Version": "2012-10-17", "Statement": []})
            kms.put_key_policy(KeyId=resource["PhysicalResourceId"], PolicyName="default", Policy=policy)


def _is_created(document: Document, resource: Document, parameters: Mapping[str, str]) -> bool:
    """Whether a resource's condition holds. Only one that compares a parameter can."""
    match document["Conditions"].get(resource.get("Condition", "")):
        case None:
            return True
        case {"Fn::Equals": [{"Ref": name}, value]}:
            return bool(parameters.get(name, document["Parameters"][name].get("Default")) == value)
    return False


def _polling(document: Document, queue: str) -> str:
    """The logical id of the function that is called with a queue's messages."""
    mappings = [mapping["Properties"] for mapping in _of_type(document, "AWS::Lambda::EventSourceMapping").values()]
    (found,) = [mapping for mapping in mappings if mapping["EventSourceArn"] == {"Fn::GetAtt": [queue, "Arn"]}]
    return _function_of(found["FunctionName"])


def _function_of(alias: Document) -> str:
    """The logical id of the function behind a reference to its alias. Raises ValueError for any other reference."""
    name = str(alias["Ref"])
    if not name.endswith(ALIAS):
        raise ValueError(f"{name} is not a function's alias")
    return name.removesuffix(ALIAS)


def _of_type(document: Document, kind: str) -> Document:
    return {name: resource for name, resource in document["Resources"].items() if resource["Type"] == kind}


def _only(document: Document, kind: str) -> Document:
    """The properties of the one resource of that type."""
    (resource,) = _of_type(document, kind).values()
    properties: Document = resource["Properties"]
    return properties

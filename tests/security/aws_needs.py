"""Actions that AWS services need in the template's roles. Functions call all other granted actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Need:
    """Actions that a service needs on a resource, and why."""

    service: str
    actions: tuple[str, ...]
    resource: str
    why: str


def log_of(group: str) -> Need:
    return Need("Lambda", ("logs:CreateLogStream", "logs:PutLogEvents"), group, "writes the function's log")


TRACING: Final = Need(
    "Lambda", ("xray:PutTelemetryRecords", "xray:PutTraceSegments"), "*", "active tracing; X-Ray knows no resources"
)


def polling(queue: str) -> Need:
    return Need(
        "Lambda's event source mapping",
        ("sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"),
        queue,
        "polls with the role of the function that it calls",
    )


SECRET_KEYS: Final = Need(
    "Secrets Manager",
    ("kms:Decrypt",),
    "SecretKeyArns",
    "opens a secret that is under a key of its own with the reader's rights (by parameter)",
)
INTERFACES: Final = Need(
    "Lambda",
    (
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
    ),
    "*",
    "makes a function's interfaces in a VPC (by parameter); denied to the function's own code",
)
SCHEDULE: Final = Need(
    "EventBridge Scheduler", ("lambda:InvokeFunction",), "SweepDueFunction:live", "calls the sweep each minute"
)
API_LOGS: Final = Need(
    "API Gateway",
    (
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:DescribeLogStreams",
        "logs:FilterLogEvents",
        "logs:GetLogEvents",
        "logs:PutLogEvents",
    ),
    "logs:*",
    "writes the access logs of the region's APIs; refuses a role with less (by parameter)",
)
API_LOG_GROUPS: Final = Need(
    "API Gateway",
    ("logs:DescribeLogGroups",),
    "*",
    "the same; CloudWatch Logs knows no resources for it (by parameter)",
)
ALARMS: Final = Need(
    "CodeDeploy",
    ("cloudwatch:DescribeAlarms",),
    "cloudwatch:alarm:*",
    "stops a gradual deployment; CloudWatch knows no narrower resource (by parameter)",
)
FUNCTIONS: Final = (
    "GetTokenFunction",
    "ManageConnectionsFunction",
    "SweepDueFunction",
    "RenewTokenFunction",
    "SecretChangedFunction",
    "ObtainConsentFunction",
    "ExchangeCodeFunction",
)
SHIFTS: Final = tuple(
    need
    for function in FUNCTIONS
    for need in (
        Need("CodeDeploy", ("lambda:GetAlias", "lambda:UpdateAlias"), function, "moves the alias (by parameter)"),
        Need(
            "CodeDeploy",
            ("lambda:GetProvisionedConcurrencyConfig",),
            f"{function}:*",
            "asks for each version; a function alone is no resource of this action (by parameter)",
        ),
    )
)
NEEDS: Final[Mapping[str, Sequence[Need]]] = {
    "GetTokenRole": (log_of("AuditLogGroup"), TRACING, SECRET_KEYS, INTERFACES),
    "ObtainConsentRole": (log_of("AuditLogGroup"), TRACING, SECRET_KEYS, INTERFACES),
    "ExchangeCodeRole": (log_of("AuditLogGroup"), TRACING, polling("ConsentQueue"), SECRET_KEYS, INTERFACES),
    "ReceiveCodeRole": (log_of("AuditLogGroup"), TRACING),
    "ManageConnectionsRole": (log_of("AuditLogGroup"), TRACING),
    "SweepDueRole": (log_of("SweepDueLogGroup"), TRACING),
    "RenewTokenRole": (log_of("RenewTokenLogGroup"), TRACING, polling("RenewalQueue"), SECRET_KEYS, INTERFACES),
    "SecretChangedRole": (log_of("SecretChangedLogGroup"), TRACING),
    "SweepScheduleRole": (SCHEDULE,),
    "ApiGatewayLogRole": (API_LOGS, API_LOG_GROUPS),
    "DeploymentRole": (ALARMS, *SHIFTS),
}

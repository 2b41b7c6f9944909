"""All that the rehearsal changes because the emulator (MiniStack 1.5.33) is not AWS, each with its reason.

"Laxer": AWS checks more than is checked here. "Stricter": AWS would allow what the emulator does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Template = dict[str, Any]
Parameters = Mapping[str, str]

EVENT_SOURCE: Final = "rehearsal.secretsmanager"


@dataclass(frozen=True)
class Adaptation:
    """A change of the template before sam deploys it; or, without `apply`, one of the surroundings."""

    what: str
    why: str
    apply: Callable[[Template, Parameters], None] | None = None


def set_defaults(template: Template, parameters: Parameters) -> None:
    for name, value in parameters.items():
        template["Parameters"][name]["Default"] = value


def remove_metric_math_alarms(template: Template, _: Parameters) -> None:
    resources = template["Resources"]
    for name, resource in list(resources.items()):
        if resource["Type"] == "AWS::CloudWatch::Alarm" and "Metrics" in resource["Properties"]:
            del resources[name]
    template["Globals"]["Function"]["DeploymentPreference"].pop("Alarms")


def use_a_number(template: Template, parameters: Parameters) -> None:
    declared = template["Parameters"]["RenewalConcurrency"]["Default"]
    event = template["Resources"]["RenewTokenFunction"]["Properties"]["Events"]["DueToken"]["Properties"]
    event["ScalingConfig"]["MaximumConcurrency"] = int(parameters.get("RenewalConcurrency", declared))


def allow_batches(template: Template, _: Parameters) -> None:
    for statement in _statements(template):
        actions = [statement["Action"]] if isinstance(statement["Action"], str) else list(statement["Action"])
        if "sqs:SendMessage" in actions:
            statement["Action"] = [*actions, "sqs:SendMessageBatch"]


def remove_conditions(template: Template, _: Parameters) -> None:
    for statement in _statements(template):
        conditions = statement.get("Condition", {})
        for operator, keys in list(conditions.items()):
            for key in list(keys):
                if key == "secretsmanager:VersionStage" or key.startswith("kms:EncryptionContext:"):
                    del keys[key]
            if not keys:
                del conditions[operator]
        if not conditions:
            statement.pop("Condition", None)


def take_our_events(template: Template, _: Parameters) -> None:
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Events::Rule":
            resource["Properties"]["EventPattern"]["source"].append(EVENT_SOURCE)


ADAPTATIONS: Final = (
    Adaptation(
        "each parameter's value is also its default",
        "SAM's transform gets no values from the emulator. Each deployment would publish the same version.",
        set_defaults,
    ),
    Adaptation(
        "alarms on sums and queries are left out",
        "the emulator's CloudFormation refuses alarms with Metrics.",
        remove_metric_math_alarms,
    ),
    Adaptation(
        "MaximumConcurrency of the queue's event source is a literal number",
        "a Number parameter arrives as text, and the emulator's poller stops.",
        use_a_number,
    ),
    Adaptation(
        "sqs:SendMessageBatch is allowed wherever sqs:SendMessage is",
        "stricter: AWS checks a batch as sqs:SendMessage, the emulator as an action of its own.",
        allow_batches,
    ),
    Adaptation(
        "conditions on secretsmanager:VersionStage and kms:EncryptionContext are removed",
        "stricter: the emulator does not know these keys, so nothing would match. The rehearsal cannot show that a "
        "role reads only these stages, or that a key opens a token only in its own place.",
        remove_conditions,
    ),
    Adaptation(
        f"rules of events also take the source {EVENT_SOURCE}",
        "the emulator has no trail, and like AWS it lets no caller send an event of aws.secretsmanager.",
        take_our_events,
    ),
)
# The functions get these from the emulator's own environment.
VARIABLES: Final = {"TOKEN_BROKER_LOCAL": "1"}
SURROUNDINGS: Final = (
    Adaptation("TOKEN_BROKER_LOCAL=1 in every function", "the simulated providers speak http on loopback."),
    Adaptation("the API's URL is the emulator's, with the API's id in the path", "the name in ApiUrl leads to AWS."),
    Adaptation(
        "API Gateway, the schedule and the event source call functions with the emulator's own rights",
        "laxer: their roles and permissions are looked at by tests/template, not here.",
    ),
    Adaptation(
        "API Gateway's own errors have the emulator's bodies",
        "it does not apply GatewayResponses. tests/openapi compares them with the template.",
    ),
)


def adapt(template: Template, parameters: Parameters) -> None:
    """Changes the template in place."""
    for adaptation in ADAPTATIONS:
        if adaptation.apply:
            adaptation.apply(template, parameters)


def _statements(node: Any) -> Iterator[dict[str, Any]]:
    """Every policy statement, wherever it is in the template."""
    if isinstance(node, dict):
        if "Effect" in node and "Action" in node:
            yield node
        for item in node.values():
            yield from _statements(item)
    elif isinstance(node, list):
        for item in node:
            yield from _statements(item)

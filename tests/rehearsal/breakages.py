"""Faults that `make rehearse ARGS=--full` puts into the template, to show that the rehearsal notices them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tests.rehearsal.adaptations import Template

Breakage = Callable[[Template], None]
FIRST_DIGEST: Final = "0" * 64


def take_the_secret_away(template: Template) -> None:
    """get_token may not read secrets any more."""
    (policy,) = template["Resources"]["GetTokenRole"]["Properties"]["Policies"]
    document = policy["PolicyDocument"]
    document["Statement"] = [
        statement for statement in document["Statement"] if statement["Action"] != "secretsmanager:GetSecretValue"
    ]


def keep_the_alias(template: Template) -> None:
    """A function's version does not depend on CodeDigest, so the alias stays where it is."""
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["AutoPublishCodeSha256"] = FIRST_DIGEST


def lose_the_schedule(template: Template) -> None:
    """Nothing calls sweep_due."""
    del template["Resources"]["SweepSchedule"]


def fail_late(template: Template) -> None:
    """A resource that cannot be created comes after all functions have changed."""
    functions = [name for name, found in template["Resources"].items() if found["Type"] == "AWS::Serverless::Function"]
    # The emulator refuses an alarm with Metrics.
    template["Resources"]["ImpossibleAlarm"] = {
        "Type": "AWS::CloudWatch::Alarm",
        "DependsOn": functions,
        "Properties": {"Metrics": [{"Id": "total", "Expression": "1"}]},
    }


BREAKAGES: Final[Mapping[str, Breakage]] = {
    function.__name__: function for function in (take_the_secret_away, keep_the_alias, lose_the_schedule, fail_late)
}

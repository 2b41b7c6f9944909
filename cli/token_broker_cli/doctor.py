"""`doctor`: looks at all that the broker stands on, and says in words what is wrong and what to do."""

import argparse
from collections.abc import Callable, Iterable, Sequence

from botocore.exceptions import BotoCoreError, ClientError

from token_broker_cli import screen
from token_broker_cli.findings import Finding, fault, note
from token_broker_cli.looking_at_aws import keys, queues, schedule, tables, trail
from token_broker_cli.looking_at_connections import clients, secrets, states
from token_broker_cli.problems import Exit, Problem, problem_of
from token_broker_cli.target import Target
from token_broker_client.errors import TokenBrokerError

Look = Callable[[Target], Iterable[Finding]]


def api(target: Target) -> Iterable[Finding]:
    """Whether the API answers, and both tables behind it."""
    health = target.api.health()
    failing = [name for name, found in health["checks"].items() if found != "ok"]
    if failing:
        todo = "Look at DynamoDB, the keys below, and the log of manage_connections."
        yield fault("api", f"The broker does not reach its table of {' and of '.join(failing)}.", todo)
    else:
        yield Finding("api", "ok", f"It answers; version {health['version']}.")


LOOKS: Sequence[tuple[str, Look]] = (
    ("api", api),
    ("tables", tables),
    ("keys", keys),
    ("queue", queues),
    ("schedule", schedule),
    ("trail", trail),
    ("secrets", secrets),
    ("connections", states),
    ("clients", clients),
)


def doctor(target: Target, _options: argparse.Namespace) -> Exit:
    """Every look, whatever the others found; exit code 4 where one is a fault."""
    findings: list[Finding] = []
    for area, look in LOOKS:
        with target.screen.working(f"Looking at {area}"):
            findings += _look(target, area, look)
    rows = [
        (found.area, screen.level(found.level), " ".join(filter(None, (found.text, found.todo)))) for found in findings
    ]
    faults = sum(found.level == "fault" for found in findings)
    warnings = sum(found.level == "warning" for found in findings)
    end = "All is well." if not faults + warnings else f"{faults} faults, {warnings} warnings."
    shown = {"faults": faults, "warnings": warnings, "findings": [found.as_json() for found in findings]}
    target.screen.show(shown, screen.table(("area", "", "what was found"), rows), f"\n{end}")
    return Exit.NO if faults else Exit.DONE


def _look(target: Target, area: str, look: Look) -> list[Finding]:
    """The findings of one look. What cannot be looked at is a fault of the API, and of the rest a note: the broker may
    well have rights that whoever asks has not."""
    try:
        return list(look(target))
    except (Problem, TokenBrokerError, ClientError, BotoCoreError) as error:
        problem = problem_of(error, is_local=target.is_local)
        if isinstance(error, ClientError) and "AccessDenied" in error.response["Error"]["Code"]:
            return [note(area, f"Not looked at: {problem.what}")]
        return [fault(area, problem.what, problem.todo)]

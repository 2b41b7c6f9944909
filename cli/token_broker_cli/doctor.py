"""`doctor`: checks everything that the broker needs, and says what is wrong and what to do."""

import argparse
from collections.abc import Callable, Iterable, Sequence

from botocore.exceptions import BotoCoreError, ClientError

from token_broker_cli import screen
from token_broker_cli.aws_checks import keys, queues, schedule, tables, trail
from token_broker_cli.connection_checks import clients, secrets, states
from token_broker_cli.findings import Finding, fault, note, ok
from token_broker_cli.problems import Exit, Problem, problem_of
from token_broker_cli.target import Target
from token_broker_client.errors import TokenBrokerError

Check = Callable[[Target], Iterable[Finding]]


def api(target: Target) -> Iterable[Finding]:
    """The API responds, and both tables behind it. Provider files of the layer have no faults."""
    health = target.api.health()
    failing = [name for name, result in health["checks"].items() if result != "ok"]
    if failing:
        todo = "Look at DynamoDB, the keys below, and the log of manage_connections."
        yield fault("api", f"The broker cannot reach its table of {' and of '.join(failing)}.", todo)
    else:
        yield ok("api", f"It responds, version {health['version']}.")
    for file in health.get("faulty_provider_files", []):
        faults = "; ".join(f"{found['field']}: {found['reason']}" for found in file["errors"])
        todo = "Run `token-broker providers check` on the layer's directory, and deploy the layer anew."
        yield fault("api", f"The provider file {file['file']} of the layer is not used: {faults}.", todo)


CHECKS: Sequence[tuple[str, Check]] = (
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
    """Runs every check, whatever the others found. Exit code 4 if there is a fault."""
    findings: list[Finding] = []
    for area, check in CHECKS:
        with target.screen.progress(f"Checking {area}"):
            findings += _run(target, area, check)
    rows = [
        (found.area, screen.level(found.level), " ".join(filter(None, (found.text, found.todo)))) for found in findings
    ]
    faults = sum(found.level == "fault" for found in findings)
    warnings = sum(found.level == "warning" for found in findings)
    summary = f"{faults} faults, {warnings} warnings." if faults or warnings else "Nothing is wrong."
    shown = {"faults": faults, "warnings": warnings, "findings": [found.as_json() for found in findings]}
    target.screen.show(shown, screen.table(("area", "", "what was found"), rows), f"\n{summary}")
    return Exit.NO if faults else Exit.DONE


def _run(target: Target, area: str, check: Check) -> list[Finding]:
    """The findings of one check. A check that AWS does not permit is a note: the broker may have that permission.

    Any other error is a fault.
    """
    try:
        return list(check(target))
    except (Problem, TokenBrokerError, ClientError, BotoCoreError) as error:
        problem = problem_of(error, is_local=target.is_local)
        if isinstance(error, ClientError) and "AccessDenied" in error.response["Error"]["Code"]:
            return [note(area, f"Not checked: {problem.what}")]
        return [fault(area, problem.what, problem.todo)]

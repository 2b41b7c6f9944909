"""Deploys with `.ci/deploy`, the script of `make deploy`. Its sam is `adapted_sam`, which adapts the template first."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from local.process import ROOT
from tests.rehearsal.breakages import Breakage
from tests.rehearsal.emulator import Emulator

SAM_VARIABLE: Final = "REHEARSAL_SAM"
BREAKAGES_VARIABLE: Final = "REHEARSAL_BREAKAGES"
REAL_SAM: Final = ROOT / ".venv" / "sam" / "bin" / "sam"


class DeploymentFailed(Exception):
    """sam ended with an error. The message is the end of what it printed."""


@dataclass(frozen=True)
class Stack:
    """A stack of the emulator, deployed or not."""

    emulator: Emulator
    name: str

    def deploy(self, *arguments: str, tree: Path = ROOT, breakages: Sequence[Breakage] = ()) -> str:
        """Runs `.ci/deploy dev` of a built tree with NAME=VALUE parameters. Returns what was printed.

        `breakages` are put into the template. Raises DeploymentFailed.
        """
        command = [sys.executable, str(tree / ".ci" / "deploy"), "dev", *arguments, "--stack-name", self.name]
        return run(command, self.emulator, {BREAKAGES_VARIABLE: ",".join(breakage.__name__ for breakage in breakages)})

    @property
    def description(self) -> dict[str, Any]:
        found: dict[str, Any] = self.emulator.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"][0]
        return found

    @property
    def outputs(self) -> dict[str, str]:
        return {output["OutputKey"]: output["OutputValue"] for output in self.description["Outputs"]}

    @property
    def resources(self) -> dict[str, str]:
        """Physical ids by logical id."""
        pages = self.emulator.client("cloudformation").get_paginator("list_stack_resources")
        return {
            resource["LogicalResourceId"]: resource["PhysicalResourceId"]
            for page in pages.paginate(StackName=self.name)
            for resource in page["StackResourceSummaries"]
        }

    @property
    def api_url(self) -> str:
        """The output ApiUrl, at the emulator's address."""
        host, _, stage = self.outputs["ApiUrl"].removeprefix("https://").partition("/")
        return f"{self.emulator.endpoint_url}/_aws/execute-api/{host.partition('.')[0]}/{stage}"


def deploy_consumer(emulator: Emulator, directory: Path, name: str, parameters: dict[str, str]) -> None:
    """Deploys the SAM template of a function that calls the broker. Raises DeploymentFailed."""
    overrides = [f"{key}={value}" for key, value in parameters.items()]
    command = [str(REAL_SAM), "deploy", "--stack-name", name, "--template-file", str(directory / "template.yaml")]
    command += ["--resolve-s3", "--s3-prefix", name, "--capabilities", "CAPABILITY_IAM", "--parameter-overrides"]
    run([*command, *overrides], emulator, {})


def run(command: list[str], emulator: Emulator, variables: dict[str, str]) -> str:
    """Runs a command that takes the emulator for AWS. Returns what it printed. Raises DeploymentFailed."""
    sam = emulator.log.parent / "sam"
    sam.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tests.rehearsal.adapted_sam "$@"\n', encoding="utf-8")
    sam.chmod(0o755)
    environment = {
        **emulator.environment,
        "PYTHONPATH": str(ROOT),
        "SAM": str(sam),
        SAM_VARIABLE: os.environ.get("SAM", str(REAL_SAM)),
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_POLL_DELAY": "1",
        **variables,
    }
    done = subprocess.run(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    with (emulator.log.parent / "deployments.log").open("a", encoding="utf-8") as log:
        log.write(done.stdout)
    if done.returncode:
        raise DeploymentFailed(done.stdout[-2000:])
    return done.stdout

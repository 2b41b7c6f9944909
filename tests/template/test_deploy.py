"""`make deploy`: sam gets the environment's parameters and a digest of everything that a version freezes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from local.process import ROOT
from local.resources import Document

from .intrinsics import Resolver

# Replaces sam. Prints one argument per line.
SAM = '#!/bin/sh\nprintf "%s\\n" "$@"\n'
ENVIRONMENTS = ["dev", "prod"]


@dataclass(frozen=True)
class Deployed:
    """The script's exit status, sam's arguments, and the printed text."""

    code: int
    arguments: list[str]
    told: str

    @property
    def digest(self) -> str:
        (found,) = (argument for argument in self.arguments if argument.startswith("CodeDigest="))
        return found.partition("=")[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A built copy of the files that the script reads."""
    (tmp_path / ".ci").mkdir()
    for script in ("deploy", "digest"):
        shutil.copy(ROOT / ".ci" / script, tmp_path / ".ci" / script)
    shutil.copy(ROOT / "samconfig.toml", tmp_path)
    build = tmp_path / ".aws-sam" / "build"
    for part in ("GetTokenFunction", "BrokerLayer"):
        (build / part).mkdir(parents=True)
        (build / part / "app.py").write_text("answer = 42")
    (build / "template.yaml").write_text("Resources: {}")
    (tmp_path / "sam").write_text(SAM)
    (tmp_path / "sam").chmod(0o755)
    return tmp_path


@pytest.fixture
def deploy(project: Path) -> Callable[..., Deployed]:
    def run(*arguments: str) -> Deployed:
        command = [sys.executable, str(project / ".ci" / "deploy"), *arguments]
        environment = {"SAM": str(project / "sam"), "PATH": os.environ["PATH"]}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd="/")
        return Deployed(done.returncode, done.stdout.splitlines(), done.stderr)

    return run


def overrides(environment: str) -> list[str]:
    config = tomllib.loads((ROOT / "samconfig.toml").read_text(encoding="utf-8"))
    found: list[str] = config[environment]["deploy"]["parameters"]["parameter_overrides"]
    return found


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_sam_gets_the_environments_parameters_and_the_digest(deploy: Callable[..., Deployed], environment: str) -> None:
    done = deploy(environment, "--no-execute-changeset")
    assert done.code == 0
    assert done.arguments[:3] == ["deploy", "--config-env", environment]
    given = done.arguments[done.arguments.index("--parameter-overrides") + 1 :]
    assert given == [*sorted(overrides(environment)), f"CodeDigest={done.digest}", "--no-execute-changeset"]


def test_a_given_parameter_replaces_the_environments_and_changes_the_digest(deploy: Callable[..., Deployed]) -> None:
    done = deploy("dev", "LogLevel=INFO", "MemorySize=512", "--stack-name", "beside")
    given = done.arguments[done.arguments.index("--parameter-overrides") + 1 :]
    kept = [override for override in overrides("dev") if not override.startswith("LogLevel=")]
    parameters = sorted([*kept, "LogLevel=INFO", "MemorySize=512"])
    assert given == [*parameters, f"CodeDigest={done.digest}", "--stack-name", "beside"]
    assert done.digest != deploy("dev").digest


def test_the_same_build_has_the_same_digest(deploy: Callable[..., Deployed]) -> None:
    assert deploy("dev").digest == deploy("dev").digest


@pytest.mark.parametrize("changed", ["function", "layer", "template", "parameters"])
def test_everything_that_a_version_freezes_changes_the_digest(
    project: Path, deploy: Callable[..., Deployed], changed: str
) -> None:
    before = deploy("dev").digest
    path, old, new = {
        "function": (project / ".aws-sam/build/GetTokenFunction/app.py", "42", "43"),
        "layer": (project / ".aws-sam/build/BrokerLayer/app.py", "42", "43"),
        "template": (project / ".aws-sam/build/template.yaml", "{}", "{ Table: {} }"),
        "parameters": (project / "samconfig.toml", "LogLevel=DEBUG", "LogLevel=INFO"),
    }[changed]
    path.write_text(path.read_text().replace(old, new))
    assert deploy("dev").digest != before


@pytest.mark.parametrize("arguments", [(), ("staging",), ("default",)])
def test_an_unknown_environment_gets_a_list_of_the_known_ones(
    deploy: Callable[..., Deployed], arguments: tuple[str, ...]
) -> None:
    done = deploy(*arguments)
    assert (done.code, done.arguments) == (2, [])
    assert "dev|prod" in done.told


def test_nothing_is_deployed_without_a_build(project: Path, deploy: Callable[..., Deployed]) -> None:
    (project / ".aws-sam/build/template.yaml").unlink()
    done = deploy("dev")
    assert (done.code, done.arguments) == (1, [])
    assert "make build" in done.told


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_environment_s_parameters_are_valid_for_the_template(
    translated: Document, deploy: Callable[..., Deployed], environment: str
) -> None:
    given = dict(override.split("=", 1) for override in overrides(environment))
    given["CodeDigest"] = deploy(environment).digest
    resolver = Resolver(translated, given)
    for name, value in given.items():
        allowed = translated["Parameters"][name].get("AllowedValues")
        assert allowed is None or value in map(str, allowed), f"{name}={value}"
    for rule in translated["Rules"].values():
        if resolver(rule.get("RuleCondition", True)):
            assert all(resolver(assertion["Assert"]) for assertion in rule["Assertions"])

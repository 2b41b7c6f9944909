"""The files for containers and systemd start the agent with options that exist, and in the place that they share."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.process import ROOT
from token_broker_cli import __version__
from token_broker_cli.problems import Exit
from token_broker_cli.usage import parse

FILES = ROOT / "cli" / "agent"
DOCKERFILE = (FILES / "Dockerfile").read_text(encoding="utf-8")
PROGRAM = ["python", "-m", "token_broker_cli", "agent"]
VERIFY = shutil.which("systemd-analyze")


def instruction(name: str) -> list[str]:
    """The JSON list of an instruction of the Dockerfile."""
    found = re.search(rf"^{name}[^\[\n]*(\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert found is not None
    words: list[str] = json.loads(found[1])
    return words


ENTRYPOINT = instruction("ENTRYPOINT")
HEALTHCHECK = instruction("HEALTHCHECK")


def parsed(command: list[str]) -> Any:
    assert command[:4] == PROGRAM
    return parse(command[3:])


def test_the_image_starts_the_agent_and_checks_the_same_socket() -> None:
    serve, check = parsed([*ENTRYPOINT, "--allow", "unidy/eu-main"]), parsed(HEALTHCHECK)
    assert (serve.socket, serve.allow, serve.check) == (check.socket, ["unidy/eu-main"], False)
    assert check.check
    assert f"VOLUME {serve.socket.parent}\n" in DOCKERFILE
    assert "USER 65532:65532\n" in DOCKERFILE


def test_the_image_has_only_pinned_wheels_and_this_repositorys_packages(tmp_path: Path) -> None:
    assert "--require-hashes --only-binary=:all:" in DOCKERFILE
    pins = (FILES / "requirements.txt").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "cli" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    client = tomllib.loads((ROOT / "layers" / "client" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in (*project["dependencies"], *client["dependencies"]):
        name = re.split("[=<>]", requirement)[0]
        assert name == client["name"] or f"\n{name}==" in pins
    for copied in re.findall(r"^COPY (\S+) /app/\S+$", DOCKERFILE, re.MULTILINE):
        shutil.copytree(ROOT / copied, tmp_path / Path(copied).name)
    done = subprocess.run(
        [sys.executable, *ENTRYPOINT[1:], "--check"],
        env={"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == Exit.UNREACHABLE, done.stderr
    assert "No agent responds" in done.stderr


def test_the_pod_runs_it_beside_a_service_of_the_same_user() -> None:
    account, deployment = yaml.safe_load_all((FILES / "kubernetes.yaml").read_text(encoding="utf-8"))
    pod = deployment["spec"]["template"]["spec"]
    (agent,), (service,) = pod["initContainers"], pod["containers"]
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert agent["securityContext"]["readOnlyRootFilesystem"]
    assert agent["image"].endswith(f":{__version__}")
    assert parsed([*ENTRYPOINT, *agent["args"]]).allow == ["unidy/eu-main"]
    assert agent["livenessProbe"]["exec"]["command"] == HEALTHCHECK
    check_socket(service["env"][0], [mount["mountPath"] for mount in service["volumeMounts"]])
    assert agent["volumeMounts"] == service["volumeMounts"]


def test_the_task_runs_it_beside_a_service_of_the_same_user() -> None:
    agent, service = json.loads((FILES / "ecs-task.json").read_text(encoding="utf-8"))["containerDefinitions"]
    assert parsed([*ENTRYPOINT, *agent["command"]]).allow == ["unidy/eu-main"]
    assert agent["image"].endswith(f":{__version__}")
    assert agent["readonlyRootFilesystem"]
    assert agent["user"] == service["user"] == "65532:65532"
    assert agent["healthCheck"]["command"] == ["CMD", *HEALTHCHECK]
    check_socket(service["environment"][0], [mount["containerPath"] for mount in service["mountPoints"]])
    assert agent["mountPoints"] == service["mountPoints"]


def check_socket(variable: dict[str, str], mounted: list[str]) -> None:
    """The variable of call-api.sh names the image's socket, in a mounted directory."""
    assert variable == {"name": "TOKEN_BROKER_SOCKET", "value": ENTRYPOINT[-1]}
    assert mounted == [str(Path(ENTRYPOINT[-1]).parent)]


def test_the_systemd_unit_starts_it() -> None:
    unit = (FILES / "token-broker-agent.service").read_text(encoding="utf-8")
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    program, *arguments = shlex.split(line)
    options = parse(arguments)
    directory = re.findall(r"^RuntimeDirectory=(.*)$", unit, re.MULTILINE)
    assert Path(program).name == "token-broker"
    assert [str(options.socket.parent)] == [f"%t/{name}" for name in directory]
    assert "Type=notify\n" in unit


@pytest.mark.skipif(VERIFY is None, reason="needs systemd-analyze")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = (FILES / "token-broker-agent.service").read_text(encoding="utf-8")
    copy = tmp_path / "token-broker-agent.service"
    # The program has to exist.
    copy.write_text(unit.replace("/opt/token-broker/bin/token-broker", "/bin/true"), encoding="utf-8")
    done = subprocess.run([str(VERIFY), "verify", str(copy)], capture_output=True, text=True, check=False)
    assert "token-broker-agent" not in done.stderr, done.stderr


def test_the_version_is_the_packages() -> None:
    project = tomllib.loads((ROOT / "cli" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == __version__

"""Which broker a command is for: options, variables, and the file of targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from token_broker_cli.problems import Problem
from token_broker_cli.screen import Screen
from token_broker_cli.target import Target
from token_broker_cli.target_file import with_target
from token_broker_cli.usage import parse

FILE = """
default = "dev"
[dev]
local = true
[prod]
stack = "broker-prod"
region = "eu-central-1"
[odd]
colour = "red"
"""


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of targets, and no variables that name a broker."""
    for name in ("TOKEN_BROKER_URL", "TOKEN_BROKER_STACK", "TOKEN_BROKER_TARGET", "TOKEN_BROKER_CONFIG", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "token-broker.toml"
    file.write_text(FILE, encoding="utf-8")
    return file


def target(*typed: str) -> Target:
    options = parse(["connections", *typed])
    return Target(with_target(options), Screen(as_json=True), given=options)


@pytest.mark.parametrize(
    ("typed", "variables", "stack", "region"),
    [
        ([], {}, "local", None),
        (["--target", "prod"], {}, "broker-prod", "eu-central-1"),
        (["--target", "prod", "--region", "us-east-1"], {}, "broker-prod", "us-east-1"),
        ([], {"TOKEN_BROKER_TARGET": "prod"}, "broker-prod", "eu-central-1"),
        (["--stack", "mine"], {}, "mine", None),
        ([], {"TOKEN_BROKER_STACK": "theirs"}, "theirs", None),
    ],
)
def test_what_counts(
    monkeypatch: pytest.MonkeyPatch, typed: list[str], variables: dict[str, str], stack: str, region: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = target(*typed)
    assert ("local" if found.is_local else found.stack) == stack
    assert found.options.region == region


def test_a_command_line_is_repeated_as_it_was_typed() -> None:
    assert target().command("doctor") == "token-broker doctor"
    assert target("--target", "prod").command("doctor") == "token-broker doctor --target prod"
    assert target("--local").command("doctor") == "token-broker doctor --local"


@pytest.mark.parametrize(
    ("typed", "what"),
    [("none", "has no target none"), ("default", "has no target"), ("odd", "odd has no option colour")],
)
def test_a_target_that_cannot_be(typed: str, what: str) -> None:
    with pytest.raises(Problem, match=what):
        target("--target", typed)


def test_a_file_that_is_no_toml(config: Path) -> None:
    config.write_text("[", encoding="utf-8")
    with pytest.raises(Problem, match="is not TOML"):
        target()


def test_without_a_file_the_default_stack_counts(config: Path) -> None:
    config.unlink()
    assert target().stack == "token-broker"


def test_the_variable_aws_region_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """boto3 reads AWS_DEFAULT_REGION and the profile's region only."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    assert target("--stack", "x").session.region_name == "ap-south-1"
    assert target("--stack", "x", "--region", "us-east-2").session.region_name == "us-east-2"

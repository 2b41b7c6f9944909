"""Help texts, and what is printed after a typing error."""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.process import ROOT
from token_broker_cli.app import main
from token_broker_cli.problems import ADVICE, Exit
from token_broker_cli.usage import OVERVIEW, PROG, Parser, parse, parser

# A command line up to a quote, a pipe, a redirection or a closing parenthesis.
TYPED = re.compile(r"token-broker [^\n`|<>)\"#;]*")


def leaves(of: Parser | None = None) -> Iterator[Parser]:
    """Every command."""
    for action in (of or parser())._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield child
                yield from leaves(child)


LEAVES = {leaf.prog: leaf for leaf in leaves()}


def words(text: str) -> list[str]:
    """The arguments of a command line, with a value for a placeholder."""
    return [re.sub(r"^SHELL$", "bash", word) for word in text.split()[1:]]


@pytest.mark.parametrize("prog", LEAVES)
def test_each_commands_help_shows_a_valid_example(prog: str) -> None:
    leaf = LEAVES[prog]
    text = leaf.format_help()
    assert text.startswith(f"usage: {prog}")
    assert leaf.example
    assert leaf.example in text
    typed = TYPED.search(leaf.example)
    assert typed is not None
    assert parse(words(typed[0])).leaf.prog == prog
    for action in leaf._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), f"{prog}: {action.dest} has no help"


def test_the_overview_names_every_command_and_every_exit_code() -> None:
    text = parser().format_help()
    for prog in LEAVES:
        name, *action = prog.removeprefix(f"{PROG} ").split()
        lines = [line.split() for line in OVERVIEW.splitlines() if line.split()[:1] == [name]]
        assert any(not action or action[0] in line for line in lines), prog
    for code in Exit:
        assert re.search(rf"^  {code.value} +\w", text, re.MULTILINE), code


@pytest.mark.parametrize("prog", ["token-broker", *LEAVES])
def test_help_exits_with_0(prog: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*prog.split()[1:], "--help"])
    assert ended.value.code == 0
    assert max(len(line) for line in capsys.readouterr().out.splitlines()) <= 120


@pytest.mark.parametrize(
    ("typed", "what", "todo"),
    [
        ("connection", "token-broker has no connection.", "Did you mean: token-broker connections"),
        ("frobnicate", "token-broker has no frobnicate.", "Choose one of: token, "),
        ("connections ad unidy x", "token-broker connections has no ad.", "Did you mean: token-broker connections add"),
        ("connections add unidy", "NAME is missing.", "Type: token-broker connections add unidy eu-main"),
        ("connections add", "PROVIDER is missing.", "Type: token-broker connections add unidy eu-main"),
        ("connections set unidy/eu", "SETTING=VALUE is missing.", "Type: token-broker connections set unidy/eu-main"),
        ("token unidy eu --heder", "token-broker token has no option --heder.", "Did you mean --header?"),
        ("doctor --locl", "token-broker doctor has no option --locl.", "Did you mean --local?"),
        ("token unidy eu --header --export", "Argument --export: not allowed with argument --header.", "Type: "),
        ("token unidy eu --min-ttl soon", "Argument --min-ttl: invalid int value: 'soon'.", "Type: "),
        ("completion tcsh", "token-broker completion has no tcsh.", "Choose one of: bash, zsh, fish."),
        ("providers show", "NAME is missing.", "Type: token-broker providers show unidy"),
        ("providers check", "FILE is missing.", "Type: token-broker providers check acme.toml --try"),
    ],
)
def test_after_a_typing_error_it_says_what_to_type(
    typed: str, what: str, todo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(typed.split()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"error: {what}\n{todo}"), said.err


def test_unexpected_arguments_are_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["connections", "add", "unidy", "eu", "hush-hush"]) == 2
    assert main(["connections", "rotate", "unidy", "eu", "--client-secret=hush-hush"]) == 2
    said = capsys.readouterr()
    assert "hush-hush" not in said.out + said.err
    assert "has no option --client-secret" in said.err


def test_errors_are_json_with_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["connection", "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "usage"


def test_options_may_stand_before_or_after_the_command() -> None:
    for line in (["--local", "--json", "connections"], ["connections", "--local", "--json"]):
        options = parse(line)
        assert (options.local, options.json) == (True, True)
    assert parse(["connections"]).local is False
    assert parse(["--local", "token", "--json", "find"]).leaf.prog == "token-broker token find"


@pytest.mark.parametrize(
    ("typed", "name", "assignments"),
    [
        ("connections show unidy/eu", "eu", None),
        ("connections set unidy/eu a=1 b=2", "eu", ["a=1", "b=2"]),
        ("connections set unidy eu a=1", "eu", ["a=1"]),
    ],
)
def test_a_connection_may_be_typed_as_one_word(typed: str, name: str, assignments: list[str] | None) -> None:
    options = parse(typed.split())
    assert (options.provider, options.name) == ("unidy", name)
    assert getattr(options, "assignments", None) == assignments


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    project = tomllib.loads((ROOT / "cli" / "pyproject.toml").read_text(encoding="utf-8"))
    assert capsys.readouterr().out == f"token-broker {project['project']['version']}\n"


def test_without_arguments_it_prints_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert OVERVIEW in capsys.readouterr().out


@pytest.mark.parametrize("code", ADVICE)
def test_each_command_in_the_advice_exists(code: str) -> None:
    for typed in TYPED.findall(ADVICE[code]):
        assert parse(words(typed)).command


def test_without_a_broker_and_credentials_it_says_which_options_to_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for where in ([], ["--url", "https://broker.example"], ["--profile", "nobodys"]):
        assert main(["connections", *where]) == 3
        said = capsys.readouterr().err
        assert "--profile" in said, said
        assert "--local" in said, said

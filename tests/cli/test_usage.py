"""What is said to somebody who reads the help, or who typed something else."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.process import ROOT
from token_broker_cli.app import main
from token_broker_cli.problems import ADVICE, Exit
from token_broker_cli.usage import OVERVIEW, PROG, Parser, completion, parse, parser

WRITTEN = [ROOT / "docs" / "platform-engineers.md"]
# From the program's name to where the shell goes on: a quote, a pipe, a redirection, a closing parenthesis.
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
    """What was typed, with something in the place of what stands for something."""
    return [re.sub(r"^SHELL$", "bash", word) for word in text.split()[1:]]


@pytest.mark.parametrize("prog", LEAVES)
def test_each_commands_help_says_what_it_does_and_shows_a_line_that_works(prog: str) -> None:
    leaf = LEAVES[prog]
    text = leaf.format_help()
    assert text.startswith(f"usage: {prog}")
    assert leaf.example
    assert leaf.example in text
    typed = TYPED.search(leaf.example)
    assert typed is not None
    assert parse(words(typed[0])).leaf.prog == prog
    for action in leaf._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), f"{prog}: {action.dest} says nothing"


def test_the_overview_names_every_command_and_every_exit_code() -> None:
    text = parser().format_help()
    for prog in LEAVES:
        name, *action = prog.removeprefix(f"{PROG} ").split()
        lines = [line.split() for line in OVERVIEW.splitlines() if line.split()[:1] == [name]]
        assert any(not action or action[0] in line for line in lines), prog
    for code in Exit:
        assert re.search(rf"^  {code.value} +\w", text, re.MULTILINE), code


@pytest.mark.parametrize("prog", ["token-broker", *LEAVES])
def test_help_ends_well(prog: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*prog.split()[1:], "--help"])
    assert ended.value.code == 0
    assert max(len(line) for line in capsys.readouterr().out.splitlines()) <= 120


@pytest.mark.parametrize(
    ("typed", "what", "todo"),
    [
        ("connection", "token-broker has no connection.", "Did you mean: token-broker connections"),
        ("frobnicate", "token-broker has no frobnicate.", "There are: token, "),
        ("connections ad unidy x", "token-broker connections has no ad.", "Did you mean: token-broker connections add"),
        ("connections add unidy", "NAME is missing.", "Type: token-broker connections add unidy eu-main"),
        ("connections add", "PROVIDER and NAME are missing.", "Type: token-broker connections add unidy eu-main"),
        ("token unidy eu --heder", "token-broker token has no option --heder.", "Did you mean --header?"),
        ("doctor --locl", "token-broker doctor has no option --locl.", "Did you mean --local?"),
        ("token unidy eu --header --export", "Argument --export: not allowed with argument --header.", "Type: "),
        ("token unidy eu --min-ttl soon", "Argument --min-ttl: invalid int value: 'soon'.", "Type: "),
        ("completion fish", "token-broker completion has no fish.", "There are: bash, zsh, tcsh."),
        ("providers show", "NAME is missing.", "Type: token-broker providers show unidy"),
    ],
)
def test_bad_usage_says_what_to_type_instead(
    typed: str, what: str, todo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(typed.split()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"error: {what}\n{todo}"), said.err


def test_what_was_given_too_much_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["connections", "add", "unidy", "eu", "hush-hush"]) == 2
    assert main(["connections", "rotate", "unidy", "eu", "--client-secret=hush-hush"]) == 2
    said = capsys.readouterr()
    assert "hush-hush" not in said.out + said.err
    assert "has no option --client-secret" in said.err


def test_errors_are_json_where_that_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["connection", "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "usage"


def test_options_stand_before_or_behind_the_command() -> None:
    before, behind = parse(["--local", "--json", "connections"]), parse(["connections", "--local", "--json"])
    assert (before.local, before.json) == (behind.local, behind.json) == (True, True)
    assert parse(["connections"]).local is False
    assert parse(["--local", "token", "--json", "find"]).leaf.prog == "token-broker token find"


def test_nothing_typed_is_shown_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert OVERVIEW in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_is_a_script_that_knows_the_commands(shell: str) -> None:
    script = completion(shell)
    for name in ("doctor", "rotate", "from-file"):
        assert name in script


def test_bash_takes_the_completion() -> None:
    checked = subprocess.run(["/bin/bash", "-n"], input=completion("bash"), text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("file", WRITTEN, ids=lambda file: file.name)
def test_each_command_that_the_documents_show_is_one(file: Path) -> None:
    shown = [found for found in TYPED.findall(file.read_text()) if "--help" not in found]
    assert len(shown) > 10
    for typed in shown:
        assert parse(words(typed)).command, typed


@pytest.mark.parametrize("code", ADVICE)
def test_advice_names_commands_that_there_are(code: str) -> None:
    for typed in TYPED.findall(ADVICE[code]):
        assert parse(words(typed)).command


def test_without_a_broker_and_credentials_it_says_what_is_missing(
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


def test_without_the_extra_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['rich'] = None; from token_broker_cli.__main__ import main; sys.exit(main())"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "layers" / "client")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 3
    assert "pip install 'token-broker-client[cli]'" in ended.stderr

"""Completion of commands, options and names in bash, zsh and fish."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from token_broker_cli.completion import SCRIPTS, SHELLS, Names, candidates
from token_broker_cli.usage import parser

from .conftest import Cli

KNOWN = {"connections": ["unidy/eu", "unidy/us", "oauth2/eu"], "providers": ["oauth2", "unidy"]}


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("doct", ["doctor"]),
        ("connections su", ["suspend"]),
        ("connections --wat", ["--watch"]),
        ("connections --state fail", ["failing"]),
        ("connections --provider u", ["unidy"]),
        ("connections show u", ["unidy"]),
        ("connections show unidy/", ["unidy/eu", "unidy/us"]),
        ("connections show unidy ", ["eu", "us"]),
        ("--stack x connections show unidy u", ["us"]),
        ("token oauth2 ", ["eu"]),
        ("audit --connection unidy/u", ["unidy/us"]),
        ("providers show o", ["oauth2"]),
        ("completion ", ["bash", "zsh", "fish"]),
        ("connections apply ", []),
        ("connections add --from-file ", []),
    ],
)
def test_what_the_last_word_can_become(tmp_path: Path, typed: str, found: list[str]) -> None:
    names = Names(lambda: KNOWN, tmp_path / "names.json")
    assert candidates(parser(), typed.split(" "), lambda: names) == found


def test_names_are_remembered_for_a_minute(tmp_path: Path) -> None:
    file, asked = tmp_path / "cache" / "names.json", []

    def read() -> dict[str, list[str]]:
        asked.append(1)
        return KNOWN

    assert Names(read, file).get() == Names(read, file).get() == KNOWN
    assert len(asked) == 1
    os.utime(file, (0, 0))
    Names(read, file).get()
    assert len(asked) == 2


def test_the_command_names_the_connections_of_its_broker(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    name = cli.connect()
    found = cli.plain("complete", "--", *cli.options, "connections", "show", "unidy", "test-")
    assert (found.code, found.out) == (0, f"{name}\n")
    silent = cli.plain("complete", "--", "--url", "http://127.0.0.1:9", "connections", "show", "unidy", "")
    assert (silent.out, silent.err) == ("", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_accepts_its_script(cli: Cli, shell: str) -> None:
    script = cli.plain("completion", shell).out
    assert "token-broker complete --" in script
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} on this machine")
    checked = subprocess.run([shell, "-n"], input=script, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_bash_completes_what_is_typed(tmp_path: Path) -> None:
    command = tmp_path / "token-broker"
    command.write_text('#!/bin/sh\necho "asked: $*"\n', encoding="utf-8")
    command.chmod(0o755)
    (tmp_path / "script").write_text(SCRIPTS["bash"], encoding="utf-8")
    script = SCRIPT.format(folder=tmp_path)
    done = subprocess.run(["/bin/bash", "-c", script], text=True, capture_output=True, check=True)
    assert done.stdout == "asked: complete -- connections show uni\n"


SCRIPT = """
export PATH={folder}:$PATH
eval "$(cat {folder}/script)"
COMP_WORDS=(token-broker connections show uni) COMP_CWORD=3
_token_broker
echo "${{COMPREPLY[0]}}"
"""

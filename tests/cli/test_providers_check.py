"""`providers check`: the faults of a catalogue file, and a token from a simulated provider."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local.process import ROOT
from local.providers import DEFAULT_ACCOUNTS, ProvidersServer, default_settings, start_providers
from token_broker import catalogue
from token_broker.oauth.grants import GRANTS
from token_broker.service.context import TimeLimits
from token_broker_cli.app import main

from .terminal import Terminal

SHIPPED = {file.stem: file for file in sorted(Path(catalogue.__file__).parent.glob("*.toml"))}
FAULTY = """
title = "Acme"
documentation = "https://acme.example/docs"
grant = "client_credential"
credentials = ["client_id"]

[request]
url = "{host}/token"
"""


@pytest.fixture(scope="module")
def providers() -> Iterator[ProvidersServer]:
    with start_providers() as providers:
        yield providers


def test_a_file_without_examples_is_only_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = shutil.copy(SHIPPED["unidy"], tmp_path)
    assert main(["providers", "check", str(file)]) == 0
    assert "It has no examples" in capsys.readouterr().out
    assert main(["providers", "check", str(file), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["proof"], shown["examples"]) == ("none", 0)


def test_a_file_that_makes_another_request_than_its_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "unidy.toml"
    file.write_text(SHIPPED["unidy"].read_text().replace("/oauth/token", "/oauth/tokens"))
    shutil.copytree(SHIPPED["unidy"].parent / "examples", tmp_path / "examples")
    assert main(["providers", "check", str(file)]) == 1
    difference = 'must be "https://id.example.com/oauth/token", and is "https://id.example.com/oauth/tokens"'
    assert f"  A token for two scopes: request.url: {difference}" in capsys.readouterr().err


class TestADirectory:
    """A platform team's layer has its own files and their examples in one directory."""

    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        (tmp_path / "examples").mkdir()
        for name in ("acme", "other"):
            shutil.copy(SHIPPED["unidy"], tmp_path / f"{name}.toml")
            shutil.copy(SHIPPED["unidy"].parent / "examples" / "unidy.toml", tmp_path / "examples" / f"{name}.toml")
        return tmp_path

    def test_each_file_is_checked_with_its_examples(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["providers", "check", str(directory)]) == 0
        assert capsys.readouterr().out.count("It passes its ") == 2
        assert main(["providers", "check", str(directory), "--json"]) == 0
        assert {found["provider"] for found in json.loads(capsys.readouterr().out)["files"]} == {"acme", "other"}

    def test_all_problems_are_named_at_once(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (directory / "acme.toml").write_text(FAULTY)
        (directory / "other.toml").rename(directory / "unidy.toml")
        assert main(["providers", "check", str(directory)]) == 1
        printed = capsys.readouterr().err
        assert f"{directory}/unidy.toml has the name of one of the broker's providers" in printed
        assert f"{directory}/examples/other.toml has no provider file" in printed
        assert "  request.url: uses {host}" in printed

    @pytest.mark.parametrize("options", [["--try"], []])
    def test_a_command_that_cannot_be_run(
        self, options: list[str], directory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        if not options:
            directory = directory / "empty"
            directory.mkdir()
        assert main(["providers", "check", str(directory), *options]) == 2
        assert ("--try needs one file" if options else "has no provider file") in capsys.readouterr().err

    def test_the_catalogue_is_such_a_directory(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["providers", "check", str(SHIPPED["unidy"].parent)]) == 0
        assert capsys.readouterr().out.count("It passes its ") == len(SHIPPED)


def test_faults_of_the_examples_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = shutil.copy(SHIPPED["unidy"], tmp_path)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "unidy.toml").write_text('proof = "certain"')
    assert main(["providers", "check", str(file)]) == 1
    assert "  proof: must be one of documented, reported" in capsys.readouterr().err.splitlines()


def test_every_fault_is_named_with_its_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "acme.toml"
    file.write_text(FAULTY)
    assert main(["providers", "check", str(file)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"error: {file} is not valid:",
        f"  grant: must be one of {', '.join(GRANTS)}",
        "  request.url: uses {host}, which is not one of the settings",
    ]


def test_a_file_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["providers", "check", str(tmp_path / "acme.toml")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_without_the_brokers_code_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['token_broker'] = None; from token_broker_cli.app import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "providers", "check", "acme.toml"],
        env={"PYTHONPATH": f"{ROOT / 'cli'}:{ROOT / 'layers' / 'client'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install ./layers/broker" in done.stderr


@dataclass(frozen=True)
class Try:
    """`providers check --try` against the simulated providers."""

    providers: ProvidersServer
    directory: Path
    patch: pytest.MonkeyPatch

    def __call__(self, slug: str, *options: str, **credentials: str) -> int:
        """Settings from a file, credentials from a pipe. Returns the exit code."""
        self.patch.setattr(sys, "stdin", io.StringIO(json.dumps({**DEFAULT_ACCOUNTS[slug]["secret"], **credentials})))
        settings = self.settings_file(default_settings(slug, self.providers.url))
        return main([*self.command(slug), "--settings", str(settings), *options])

    def command(self, slug: str) -> list[str]:
        return ["providers", "check", str(SHIPPED[slug]), "--try", "--local"]

    def settings_file(self, settings: dict[str, Any]) -> Path:
        file = self.directory / "settings.json"
        file.write_text(json.dumps(settings))
        return file


@pytest.fixture
def try_provider(providers: ProvidersServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Try:
    return Try(providers, tmp_path, monkeypatch)


class TestTry:
    @pytest.mark.parametrize("slug", DEFAULT_ACCOUNTS)
    def test_a_token_is_described_and_not_kept(
        self, try_provider: Try, capsys: pytest.CaptureFixture[str], slug: str
    ) -> None:
        simulator = try_provider.providers.simulator(slug)
        simulator.reset()
        assert try_provider(slug) == 0
        out = capsys.readouterr().out
        assert "Got a token:" in out
        assert "Nothing was stored." in out
        report = simulator.report()
        assert report["issued"] == 1
        was_revoked = "It was revoked." in out
        assert len(report["live_tokens"]) == (0 if was_revoked else 1)

    def test_json_has_the_token_id_and_not_the_token(
        self, try_provider: Try, capsys: pytest.CaptureFixture[str]
    ) -> None:
        simulator = try_provider.providers.simulator("unified-services")
        simulator.reset()
        assert try_provider("unified-services", "--json") == 0
        token = json.loads(capsys.readouterr().out)["token"]
        assert [live["token_id"] for live in simulator.report()["live_tokens"]] in ([token["token_id"]], [])
        assert set(token) == {
            "token_id",
            "characters",
            "expires_in",
            "expires_assumed",
            "scope",
            "has_refresh_token",
            "revocation",
        }

    def test_refused_credentials_are_explained_and_not_repeated(
        self, try_provider: Try, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert try_provider("unidy", client_secret="hush-hush") == 1
        printed = capsys.readouterr()
        assert "The provider refused the credentials. The provider's error code: invalid_client." in printed.err
        assert "hush-hush" not in printed.out + printed.err

    def test_a_failure_names_its_rule(self, try_provider: Try, capsys: pytest.CaptureFixture[str]) -> None:
        try_provider("unidy", client_secret="wrong")
        assert "failure rule client_refused (provider_refused)" in capsys.readouterr().err

    def test_a_refresh_token_of_a_persons_consent_is_not_used_up(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["providers", "check", str(SHIPPED["xero-app"]), "--try"]) == 1
        assert "Xero app (a user's consent) cannot be tried" in capsys.readouterr().err

    def test_credentials_that_are_missing_are_named(
        self, try_provider: Try, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert try_provider("unidy", client_secret="") == 1
        assert "lacks client_secret" in capsys.readouterr().err

    def test_settings_that_are_not_valid_are_named(self, try_provider: Try, capsys: pytest.CaptureFixture[str]) -> None:
        try_provider.patch.setattr(sys, "stdin", io.StringIO("{}"))
        settings = try_provider.settings_file({"base_url": "no url", "scop": "users:read"})
        assert main([*try_provider.command("unidy"), "--settings", str(settings)]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert [line.partition(":")[0] for line in lines[1:]] == ["  base_url", "  scope", "  scop"]

    def test_at_a_terminal_it_asks_for_settings_and_credentials(self, try_provider: Try) -> None:
        settings = default_settings("unidy", try_provider.providers.url)
        secret = DEFAULT_ACCOUNTS["unidy"]["secret"]
        try_provider.providers.simulator("unidy").reset()
        with Terminal(try_provider.command("unidy"), {"PATH": "/usr/bin:/bin"}) as terminal:
            answers = {"base_url": settings["base_url"], "scope": settings["scope"], **secret}
            assert terminal.answer(answers) == 0, terminal.output
        assert "Got a token:" in terminal.output
        assert secret["client_secret"] not in terminal.output

    def test_a_provider_that_does_not_respond_is_given_up(
        self, try_provider: Try, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The exchange has the broker's own time limit."""
        simulator = try_provider.providers.simulator("unidy")
        simulator.reset()
        simulator.fail("hang", seconds=30)
        try_provider.patch.setattr("token_broker_cli.provider_check.LIMITS", TimeLimits().scaled(0.05))
        try:
            assert try_provider("unidy") == 1
        finally:
            simulator.waits.release()
        assert "failure rule no_complete_response (provider_unavailable)" in capsys.readouterr().err

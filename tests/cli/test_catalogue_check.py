"""`python -m token_broker.catalogue check`: what whoever adds a provider, and their CI, is told."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from token_broker.catalogue.__main__ import main

from local.providers import DEFAULT_ACCOUNTS, ProvidersServer, default_settings, start_providers
from token_broker import catalogue

SHIPPED = sorted(Path(catalogue.__file__).parent.glob("*.toml"))
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


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_each_file_of_the_catalogue_holds_together(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(file)]) == 0
    assert "holds together" in capsys.readouterr().out


def test_every_fault_is_named_with_its_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "acme.toml"
    file.write_text(FAULTY)
    assert main(["check", str(file)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"{file}: grant: must be one of client_credentials, authorization_code, login",
        f"{file}: request.url: uses {{host}}, which is not among the settings",
    ]


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "acme.toml")]) == 2
    assert "No such file" in capsys.readouterr().err


class TestTry:
    def attempt(
        self, providers: ProvidersServer, tmp_path: Path, patch: pytest.MonkeyPatch, slug: str, **changes: str
    ) -> int:
        settings = tmp_path / "settings.json"
        settings.write_text(json.dumps(default_settings(slug, providers.url)))
        credentials = json.dumps({**DEFAULT_ACCOUNTS[slug]["secret"], **changes})
        patch.setattr(sys, "stdin", io.StringIO(credentials))
        file = next(file for file in SHIPPED if file.stem == slug)
        return main(["check", str(file), "--try", "--settings", str(settings), "--local"])

    @pytest.mark.parametrize("slug", DEFAULT_ACCOUNTS)
    def test_a_token_is_described_and_forgotten(
        self,
        providers: ProvidersServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        slug: str,
    ) -> None:
        simulator = providers.simulator(slug)
        simulator.reset()
        assert self.attempt(providers, tmp_path, monkeypatch, slug) == 0
        said = capsys.readouterr().out
        assert "A token came:" in said
        assert "nothing was stored" in said
        report = simulator.report()
        assert report["issued"] == 1
        was_revoked = "It was revoked" in said
        assert len(report["live_tokens"]) == (0 if was_revoked else 1)

    def test_wrong_credentials_are_told_in_words_and_not_repeated(
        self,
        providers: ProvidersServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert self.attempt(providers, tmp_path, monkeypatch, "unidy", client_secret="hush-hush") == 1
        said = capsys.readouterr()
        assert "The provider refused the credentials. Its own word for it: invalid_client." in said.err
        assert "hush-hush" not in said.out + said.err

    def test_credentials_that_are_missing_are_named(
        self,
        providers: ProvidersServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert self.attempt(providers, tmp_path, monkeypatch, "unidy", client_secret="") == 1
        assert "lacks client_secret" in capsys.readouterr().err

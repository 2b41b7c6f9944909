"""`providers new`: a vendor's sample request and response become a provider's file that passes its example."""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from local.providers import DEFAULT_ACCOUNTS, start_providers
from token_broker_cli.app import main
from token_broker_cli.problems import Problem
from token_broker_cli.provider_check import check_file
from token_broker_cli.provider_new import new
from token_broker_cli.sample_requests import read_sample
from token_broker_cli.screen import Screen
from token_broker_cli.target import Target

from .terminal import Terminal

PAGE = "https://docs.acme.example/auth"
TOKEN = json.dumps(
    {"access_token": "hush-token", "token_type": "bearer", "expires_in": 3600, "refresh_token": "hush-r"}
)


@dataclass(frozen=True)
class Sample:
    """A vendor's sample, the answers that are not Enter, and what of the file is compared."""

    name: str
    request: str
    file: Mapping[str, Any]
    response: str = TOKEN
    answers: Mapping[str, list[str]] = field(default_factory=dict)


SAMPLES = [
    Sample(
        "basic and a form, with a placeholder in the host",
        """curl -sX POST 'https://<shop>.acme.example/oauth/token?version=3' \\
             -H 'Accept: application/json' -u real:hush-secret \\
             -d grant_type=client_credentials -d 'scope=orders:read' -d audience=eu""",
        {
            "grant": "client_credentials",
            "credentials": ["client_id", "client_secret"],
            "request": {
                "url": "https://{shop}.acme.example/oauth/token",
                "fields": {"audience": "{audience}"},
                "query": {"version": "3"},
            },
        },
        answers={"shop": ["my-shop"], "meaning": ["setting", "fixed"]},
    ),
    Sample(
        "credentials in a JSON body",
        'POST /token HTTP/1.1\nHost: acme.example\nContent-Type: application/json\n\n{"client_id": "real", '
        '"client_secret": "hush-secret", "grant_type": "client_credentials", "tenants": [1, {"a": true}]}',
        {
            "request": {
                "url": "https://acme.example/token",
                "fields_in": "json",
                "client_auth": "json",
                "fields": {"tenants": [1, {"a": True}]},
            }
        },
    ),
    Sample(
        "credentials in a form over several lines, and a type of token of its own",
        "POST https://acme.example/token\nContent-Type: application/x-www-form-urlencoded\n\n"
        "client_id=real&\nclient_secret=hush-secret&grant_type=client_credentials",
        {
            "request": {"url": "https://acme.example/token", "client_auth": "form"},
            "response": {"token_types": ["Acme"]},
        },
        response=json.dumps({"access_token": "hush-token", "token_type": "Acme", "expires": "1200"}),
    ),
    Sample(
        "a password, and a client in the header",
        "POST https://acme.example/token\nAuthorization: Basic <base64>\nX-Key: hush-key\n\n"
        "grant_type=password&username=real&password=hush-password",
        {
            "grant": "password",
            "credentials": ["client_id", "client_secret", "username", "password", "X_Key"],
            "request": {"url": "https://acme.example/token", "headers": {"X-Key": "{secret:X_Key}"}},
        },
    ),
    Sample(
        "a login whose response is nested, with minutes and a header of its own",
        """curl --json '{"Company": "DB", "username": "real", "password": "hush-password"}' <base_url>/Login""",
        {
            "grant": "login",
            "credentials": ["username", "password"],
            "request": {
                "url": "{base_url}/Login",
                "fields": {
                    "Company": "{Company}",
                    "username": "{secret:username}",
                    "password": "{secret:password}",
                },
            },
            "response": {"token": "data.SessionId", "expiry": {"field": "data.SessionTimeout", "as": "minutes"}},
            "send": {"token_type": "N_A", "headers": {"Cookie": "SESSION={token}"}},
        },
        response='HTTP/1.1 200 OK\n\n{"data": {"SessionId": "hush-token", "SessionTimeout": 30}, "x": "hush-x"}',
        answers={
            "meaning": ["setting"],
            "base_url": ["https://acme.example/v1"],
            "unit": ["minutes"],
            "header": ["Cookie: SESSION={token}"],
        },
    ),
    Sample(
        "a query, a grant_type of the vendor, and a token that is the whole body",
        "curl -G https://acme.example/token -d grant_type=partner -d client_id=real -d client_secret=hush-secret "
        "-d a={b}",
        {
            "grant": "client_credentials",
            "request": {
                "url": "https://acme.example/token",
                "method": "GET",
                "fields_in": "query",
                "client_auth": "none",
                "grant_type": "partner",
                "fields": {"client_secret": "{secret:client_secret}", "a": "{{b}}"},
            },
            "response": {"token": ""},
        },
        response="hush-token",
    ),
]


def answering(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers the prompts: the sample's own answers in their order, else Enter."""
    answers = {
        "title": ["Acme"],
        "documentation": [PAGE],
        "request": [sample.request],
        "response": [sample.response],
        **{name: list(given) for name, given in sample.answers.items()},
    }

    def answer(prompt: str = "") -> str:
        name = prompt.partition(" ")[0].rstrip(":")
        if not name:
            return "."
        return answers[name].pop(0) if answers.get(name) else ""

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr(Screen, "interactive", True)


def write(directory: Path, name: str = "acme") -> None:
    options = argparse.Namespace(name=name, directory=directory)
    new(cast("Target", argparse.Namespace(screen=Screen(as_json=False), is_local=False)), options)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_the_files_pass_the_check_and_hold_no_credential_of_the_sample(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(sample, monkeypatch)
    write(tmp_path)
    checked = check_file(tmp_path / "acme.toml")
    assert checked.examples is not None
    (example,) = checked.examples.examples
    assert example.has_request
    texts = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.toml")]
    assert len(texts) == 2
    assert not any("hush-" in text or '"real"' in text for text in texts)
    written = tomllib.loads((tmp_path / "acme.toml").read_text(encoding="utf-8"))
    assert {name: written.get(name) for name in sample.file} == sample.file


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(SAMPLES[0], monkeypatch)
    (tmp_path / "acme.toml").touch()
    with pytest.raises(Problem, match="exists"):
        write(tmp_path)
    for name in ("Acme", "unidy"):
        with pytest.raises(Problem):
            write(tmp_path, name)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must begin with curl"),
        ("curl -d hush=1", "no URL"),
        ("curl --cacert hush https://acme.example", "option --cacert of curl is not known"),
        ("curl -X", "not a curl command"),
        ("curl 'https://acme.example", "No closing quotation"),
        ("POST https://acme.example\nhush", "a header has no colon"),
        ("POST https://acme.example\n\n{hush", "is not JSON"),
        ("POST https://acme.example\n\nhush", "neither a form nor JSON"),
    ],
)
def test_a_sample_that_cannot_be_read_says_why_and_shows_no_value(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as raised:
        read_sample(text)
    assert "hush" not in str(raised.value)


def test_without_a_terminal_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["providers", "new", "acme", "--directory", str(tmp_path)]) == 2
    assert "There is no terminal" in capsys.readouterr().err


def test_at_a_terminal_from_the_sample_to_a_token(tmp_path: Path) -> None:
    """The endpoint that is tried is the simulated OAuth server's."""
    secret = DEFAULT_ACCOUNTS["oauth2"]["secret"]
    with start_providers() as providers:
        url = f"{providers.url}/oauth2/token"
        request = f"curl -u id:hush-secret -d grant_type=client_credentials -d scope=api.read {url}\n."
        answers = {
            "title": "Acme",
            "documentation": PAGE,
            "request": request,
            "response": TOKEN + "\n.",
            "url": "{base_url}/token",
            "base_url": ["https://acme.example", f"{providers.url}/oauth2"],
            "try the endpoint": "yes",
            "scope": "api.read",
            **secret,
        }
        command = ["providers", "new", "acme", "--directory", str(tmp_path), "--local"]
        with Terminal(command, {"PATH": "/usr/bin:/bin"}) as terminal:
            assert terminal.answer(answers) == 0, terminal.output
    assert "It passes its example (reported" in terminal.output
    assert "Got a token:" in terminal.output
    assert secret["client_secret"] not in terminal.output

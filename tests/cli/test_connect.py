"""`connections connect` and `disconnect`, with vendors whose people decide as a test says."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from local.providers.consent_vendor import ConsentVendor
from local.sigv4 import LOCAL
from local.stack import Options, Stack
from token_broker_cli.admin_api import AdminApi
from token_broker_client.errors import BrokerUnreachable

from .conftest import Cli, new_name
from .terminal import Terminal

GOOGLE, ALLEGRO, HUBSPOT = "google-user", "allegro-seller", "hubspot-app"
SECRET = {"client_id": "invented-id", "client_secret": "invented-secret"}
SETTINGS = {
    GOOGLE: {"scope": "https://www.googleapis.com/auth/adwords openid"},
    ALLEGRO: {"redirect_uri": "https://shop.example.com/consent"},
    HUBSPOT: {
        "redirect_uri": "https://shop.example.com/consent",
        "scope": "crm.objects.contacts.read",
        "optional_scope": "tickets",
    },
}
ACCOUNTS = {GOOGLE: "110000000000000000001", ALLEGRO: "12345678"}
URL = re.compile(r"^https://\S+$", re.MULTILINE)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With queues, and the vendors behind their own addresses."""
    logs = tmp_path_factory.mktemp("logs")
    options = Options(api_environments=1, worker_environments=1, simulate_vendors=True, log_dir=logs)
    with Stack(options) as stack:
        yield stack


@pytest.fixture
def cli(stack: Stack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    for name in ("TOKEN_BROKER_URL", "AWS_PROFILE", "AWS_ENDPOINT_URL", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    yield Cli(stack, capsys, monkeypatch)
    for slug in SETTINGS:
        vendor(stack, slug).reset()


def vendor(stack: Stack, slug: str) -> ConsentVendor:
    found = stack.providers.simulator(f"vendors/{slug}")
    assert isinstance(found, ConsentVendor)
    return found


def added(cli: Cli, provider: str, tmp_path: Path) -> str:
    """A connection that has no consent yet."""
    name = new_name()
    file = tmp_path / f"{name}.json"
    file.write_text(json.dumps({"allowed_callers": [LOCAL.arn], **SETTINGS[provider]}))
    result = cli("connections", "add", provider, name, "--from-file", str(file), stdin=json.dumps(SECRET))
    assert result.code == 0, result.err
    assert f"token-broker connections connect {provider} {name}" in result.out
    return name


def shown(cli: Cli, provider: str, name: str) -> dict[str, Any]:
    """The connection as the broker stores it. A caller's token can be a copy in memory."""
    return dict(cli.request("GET", f"/v1/connections/{provider}/{name}").body)


def printed_url(terminal: Terminal) -> str:
    terminal.until("Open this as the account's owner:")
    terminal.until("&state=")
    terminal.until("Waiting for the approval" if "127.0.0.1" in terminal.output else "After the approval")
    (url,) = URL.findall(terminal.output)
    return str(url)


def browse(cli: Cli, provider: str, url: str) -> str:
    """Where the person's browser is sent."""
    return vendor(cli.running, provider).open_in_browser(url)


def get(url: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, timeout=10)


def pasted(
    cli: Cli, name: str, *options: str, answers: dict[str, str] | None = None, provider: str = ALLEGRO
) -> tuple[int, str]:
    """Connects: the redirect is pasted, and the questions are answered. Returns exit code and output."""
    with cli.terminal("connections", "connect", provider, name, "--no-browser", *options) as terminal:
        redirect_url = browse(cli, provider, printed_url(terminal))
        return terminal.answer({"redirect URL": redirect_url, **(answers or {})}), terminal.output


def test_the_redirect_is_caught_on_this_machine(cli: Cli, tmp_path: Path) -> None:
    name = added(cli, GOOGLE, tmp_path)
    assert cli.token(GOOGLE, name).body["code"] == "consent_required"
    with cli.terminal("connections", "connect", GOOGLE, name, "--no-browser") as terminal:
        redirect_url = browse(cli, GOOGLE, printed_url(terminal))
        planted = get(re.sub(r"state=[^&]*", f"state={'x' * 43}", redirect_url))
        terminal.until("A redirect was not taken")
        page = get(redirect_url)
        terminal.until("confirm (yes or no): ")
        assert f"Account: {ACCOUNTS[GOOGLE]}" in terminal.output
        assert "Granted scope: https://www.googleapis.com/auth/adwords openid" in terminal.output
        assert cli.token(GOOGLE, name).status == 409, "not before it is confirmed"
        terminal.type("yes")
        assert terminal.end() == 0, terminal.output
    assert page.text == planted.text, "the page says nothing of what came"
    assert (page.headers["Cache-Control"], page.headers["Referrer-Policy"]) == ("no-store", "no-referrer")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert cli.token(GOOGLE, name).status == 200
    code = re.search(r"code=([^&]+)", redirect_url)
    assert code is not None
    assert code[1] not in terminal.output


def test_the_redirect_is_pasted_where_the_vendor_knows_its_own_address_only(cli: Cli, tmp_path: Path) -> None:
    name = added(cli, ALLEGRO, tmp_path)
    with cli.terminal("connections", "connect", ALLEGRO, name, "--no-browser", "--yes", "--json") as terminal:
        redirect_url = browse(cli, ALLEGRO, printed_url(terminal))
        terminal.type(redirect_url)
        assert terminal.end() == 0, terminal.output
    result = json.loads(terminal.output[terminal.output.index("\n{") :])
    assert (result["state"], result["account"]) == ("confirmed", ACCOUNTS[ALLEGRO])
    assert cli.token(ALLEGRO, name).status == 200


def test_lost_answers_do_not_lose_the_consent(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers to `finish` and `confirm` are lost once. The broker has done both, the exchange included."""
    name = added(cli, ALLEGRO, tmp_path)
    start, show = AdminApi.start_consent, AdminApi.show_consent
    lost = []

    def started(api: AdminApi, *names: str, **more: Any) -> Any:
        found = start(api, *names, **more)
        monkeypatch.setattr(sys, "stdin", io.StringIO(browse(cli, ALLEGRO, found["authorize_url"])))
        return found

    def losing(method: str, state: str) -> None:
        request = getattr(AdminApi, method)

        def requested(api: AdminApi, provider: str, name: str, consent_id: str, *more: str) -> Any:
            answer = request(api, provider, name, consent_id, *more)
            if method in lost:
                return answer
            while show(api, provider, name, consent_id)["state"] != state:
                pass
            lost.append(method)
            raise BrokerUnreachable("the answer was lost")

        monkeypatch.setattr(AdminApi, method, requested)

    monkeypatch.setattr(AdminApi, "start_consent", started)
    monkeypatch.setattr("token_broker_cli.connect.pause", lambda _seconds: None)
    losing("finish_consent", "quarantined")
    losing("confirm_consent", "confirmed")
    result = cli("connections", "connect", ALLEGRO, name, "--no-browser", "--yes", "--json")
    assert result.code == 0, result.err
    assert lost == ["finish_consent", "confirm_consent"]
    assert cli.token(ALLEGRO, name).status == 200


def test_what_is_not_confirmed_is_not_used(cli: Cli, tmp_path: Path) -> None:
    name = added(cli, ALLEGRO, tmp_path)
    with cli.terminal("connections", "connect", ALLEGRO, name, "--no-browser") as terminal:
        redirect_url = browse(cli, ALLEGRO, printed_url(terminal))
        answers = {"redirect URL": ["https://other.example/?code=1", redirect_url], "confirm": ""}
        assert terminal.answer(answers) == 1, terminal.output
    assert "does not go to the redirect_uri of this consent" in terminal.output
    assert "The consent was not confirmed." in terminal.output
    assert cli.token(ALLEGRO, name).body["code"] == "consent_required"


def test_another_account_is_a_second_question(cli: Cli, tmp_path: Path) -> None:
    name = added(cli, ALLEGRO, tmp_path)
    assert pasted(cli, name, "--yes")[0] == 0
    assert cli.token(ALLEGRO, name).status == 200
    simulator = vendor(cli.running, ALLEGRO)
    simulator.options = replace(simulator.options, account="999")

    code, output = pasted(cli, name, "--yes")
    assert code == 1
    assert "--new-account" in output
    code, output = pasted(cli, name, answers={"confirm": "yes", "Type the account to confirm": "12345678"})
    assert code == 1, output
    assert f"{ALLEGRO}/{name} is of account 12345678, and this consent is of 999." in output
    assert shown(cli, ALLEGRO, name)["consent"]["account"] == ACCOUNTS[ALLEGRO]

    code, output = pasted(cli, name, answers={"confirm": "yes", "Type the account to confirm": "999"})
    assert code == 0, output
    assert "Tokens of the account before that callers no longer get: 1." in output
    assert shown(cli, ALLEGRO, name)["consent"]["account"] == "999"
    simulator.options = replace(simulator.options, account="1000")
    assert pasted(cli, name, "--yes", "--new-account")[0] == 0


def test_a_device_is_approved_in_a_browser_that_learns_the_address_from_a_file(cli: Cli, tmp_path: Path) -> None:
    name = added(cli, ALLEGRO, tmp_path)
    simulator = vendor(cli.running, ALLEGRO)
    simulator.options = replace(simulator.options, device_interval_s=1)
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\ncat "${{1#file://}}" >> {opened}\n')
    browser.chmod(0o700)
    environment = {"PATH": os.environ["PATH"], "BROWSER": f"{browser} %s"}
    with cli.terminal("connections", "connect", ALLEGRO, name, "--device", environment=environment) as terminal:
        terminal.until("Waiting for the approval")
        shown = re.search(r"Code: (\S+)\nEnter it at https://allegro.pl/skojarz-aplikacje\n", terminal.output)
        assert shown is not None, terminal.output
        argument, _, page = opened.read_text().partition("\n")
        assert shown[1] not in argument
        assert f"https://allegro.pl/skojarz-aplikacje?code={shown[1]}" in page
        simulator.enter(shown[1])
        assert terminal.answer({"confirm": "y"}) == 0, terminal.output
    assert cli.token(ALLEGRO, name).status == 200


def test_a_person_who_denies_is_told_so(cli: Cli, tmp_path: Path) -> None:
    name = added(cli, ALLEGRO, tmp_path)
    simulator = vendor(cli.running, ALLEGRO)
    simulator.options = replace(simulator.options, denies=True)
    code, output = pasted(cli, name)
    assert code == 1
    assert "The person did not consent." in output


def test_disconnect_ends_the_consent_once(cli: Cli, tmp_path: Path) -> None:
    name = added(cli, GOOGLE, tmp_path)
    with cli.terminal("connections", "connect", GOOGLE, name, "--no-browser", "--yes") as terminal:
        get(browse(cli, GOOGLE, printed_url(terminal)))
        assert terminal.end() == 0, terminal.output
    assert cli.token(GOOGLE, name).status == 200
    with cli.terminal("connections", "disconnect", GOOGLE, name) as terminal:
        assert terminal.answer({"end the consent": "no"}) == 1
    assert ACCOUNTS[GOOGLE] in terminal.output
    assert cli.token(GOOGLE, name).status == 200
    ended = cli("connections", "disconnect", GOOGLE, name, "--yes")
    assert ended.code == 0, ended.err
    assert cli.token(GOOGLE, name).body["code"] == "consent_required"
    again = cli("connections", "disconnect", GOOGLE, name, "--yes", "--json")
    assert (again.code, again.json["refresh_id"]) == (0, None)


def test_a_refresh_token_in_the_secret_is_tried_and_kept_if_it_works(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"allowed_callers": [LOCAL.arn], **SETTINGS[HUBSPOT]}))
    name = new_name()
    command = ("connections", "add", HUBSPOT, name, "--from-file", str(file))
    refused = cli(*command, stdin=json.dumps({**SECRET, "refresh_token": "invented-unknown"}))
    assert refused.code == 1, refused.out
    assert "Nothing was kept." in refused.err
    assert (cli.settings(HUBSPOT, name), cli.stages(HUBSPOT, name)) == (None, None)
    seed = vendor(cli.running, HUBSPOT).give_consent()
    accepted = cli(*command, stdin=json.dumps({**SECRET, "refresh_token": seed}))
    assert accepted.code == 0, accepted.err
    assert f"{HUBSPOT}/{name} is ready." in accepted.out
    assert cli.token(HUBSPOT, name).status == 200


def test_new_credentials_are_tried_with_the_consent_and_put_back_if_they_do_not_work(cli: Cli, tmp_path: Path) -> None:
    name = added(cli, HUBSPOT, tmp_path)
    wrong = json.dumps({**SECRET, "client_secret": "invented-other"})
    untried = cli("connections", "rotate", HUBSPOT, name, "--json", stdin=wrong)
    assert (untried.code, untried.json["stage"]) == (0, "AWSCURRENT"), untried.err
    assert cli("connections", "rotate", HUBSPOT, name, stdin=json.dumps(SECRET)).code == 0
    assert pasted(cli, name, "--yes", provider=HUBSPOT)[0] == 0
    assert cli.token(HUBSPOT, name).status == 200
    refused = cli("connections", "rotate", HUBSPOT, name, stdin=wrong)
    assert refused.code == 1, refused.out
    assert cli.value(HUBSPOT, name) == SECRET
    vendor(cli.running, HUBSPOT).rotate_secret({"client_secret": "invented-other"})
    rotated = cli("connections", "rotate", HUBSPOT, name, "--json", stdin=wrong)
    assert rotated.code == 0, rotated.err
    assert rotated.json["token_id"] == shown(cli, HUBSPOT, name)["tokens"][0]["token_id"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["connect", ALLEGRO, "demo"], "--yes confirms"),
        (["connect", "unidy", "demo", "--yes"], "needs no person's consent"),
        (["connect", "rithum", "demo", "--yes"], "does not say how a person consents"),
        (["connect", HUBSPOT, "demo", "--device", "--yes"], "has no device flow"),
        (["disconnect", ALLEGRO, "demo"], "--yes ends the consent"),
    ],
)
def test_what_cannot_be_begun_is_a_typing_error(cli: Cli, arguments: list[str], words: str) -> None:
    provider, name = arguments[1:3]
    cli.request("PUT", f"/v1/connections/{provider}/{name}", {"allowed_callers": ["*"], **SETTINGS.get(provider, {})})
    result = cli("connections", *arguments)
    assert result.code == 2, result.err
    assert words in result.err

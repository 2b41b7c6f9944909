"""`connections add` at a terminal and from a pipe, with each simulated provider."""

import json
from pathlib import Path

import pytest

from local.providers import DEFAULT_ACCOUNTS
from local.sigv4 import LOCAL
from tests.signing_keys import private_key

from .conftest import Cli, new_name

PROVIDERS = tuple(DEFAULT_ACCOUNTS)
HIDDEN = ("client_secret", "password")
WRONG = "not-the-secret-of-anybody"


def typed(cli: Cli, provider: str, **credentials: str) -> dict[str, str]:
    """The answers of a person: the provider's own settings and scope, and the credentials."""
    settings = cli.plain_settings(provider)
    named = {
        name: " ".join(value) if isinstance(value, list) else value
        for name, value in settings.items()
        if name not in ("api_base_url", "client_auth", "allowed_callers")
    }
    return {**named, **DEFAULT_ACCOUNTS[provider]["secret"], **credentials}


def key_file(folder: Path, pem: str) -> dict[str, str]:
    """A private key is not typed. Its prompt takes the path of a file."""
    path = folder / "key.pem"
    path.write_text(pem, encoding="utf-8")
    return {"private_key": str(path)}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_new_connection_is_tried_and_works(cli: Cli, tmp_path: Path, provider: str) -> None:
    name, secret = new_name(), DEFAULT_ACCOUNTS[provider]["secret"]
    from_file = key_file(tmp_path, secret["private_key"]) if "private_key" in secret else {}
    with cli.terminal("connections", "add", provider, name) as terminal:
        assert terminal.answer(typed(cli, provider, **from_file)) == 0, terminal.output
    assert f"{provider}/{name} is ready. A token is valid for" in terminal.output
    assert cli.settings(provider, name)["allowed_callers"] == [LOCAL.arn], "Enter stands for the caller's own role"
    assert cli.value(provider, name) == DEFAULT_ACCOUNTS[provider]["secret"]
    assert set(cli.stages(provider, name) or ()) == {"AWSCURRENT", "AWSPREVIOUS"}
    assert cli.token(provider, name).status == 200
    for field in HIDDEN:
        assert DEFAULT_ACCOUNTS[provider]["secret"].get(field, "-no secret-") not in terminal.output


@pytest.mark.parametrize("provider", PROVIDERS)
def test_after_a_refused_secret_nothing_remains(cli: Cli, tmp_path: Path, provider: str) -> None:
    name, secret = new_name(), DEFAULT_ACCOUNTS[provider]["secret"]
    wrong = {field: WRONG for field in HIDDEN if field in secret}
    if "private_key" in secret:
        wrong = key_file(tmp_path, private_key("P-256"))
    with cli.terminal("connections", "add", provider, name) as terminal:
        assert terminal.answer(typed(cli, provider, **wrong)) == 1, terminal.output
    assert "gave no token: The provider " in terminal.output
    assert "Nothing was kept." in terminal.output
    assert WRONG not in terminal.output
    assert cli.settings(provider, name) is None
    assert cli.stages(provider, name) is None
    refused = cli.running.providers.simulator(provider).report()["refused"]
    assert refused == 1, "the provider got one request"


def test_settings_that_the_broker_finds_faults_in_are_asked_for_again(cli: Cli) -> None:
    name = new_name()
    right = typed(cli, "unidy")
    with cli.terminal("connections", "add", "unidy", name) as terminal:
        answers = {**right, "base_url": ["no url", right["base_url"]], "setting": ["keep_warm=ever", "keep_warm=never"]}
        assert terminal.answer(answers) == 0, terminal.output
    assert terminal.asked[:2] == ["base_url", "base_url"], "each field is checked when it is typed"
    assert "base_url has a character that does not belong into a URL" in terminal.output
    assert "keep_warm must be one of used, always, never" in terminal.output
    assert cli.settings("unidy", name)["keep_warm"] == "never"


def test_after_a_typo_in_the_credentials_only_that_is_typed_again(cli: Cli) -> None:
    name, right = new_name(), typed(cli, "unidy")
    answers = {**right, "client_secret": [WRONG, right["client_secret"]], "Try others": "credentials"}
    with cli.terminal("connections", "add", "unidy", name) as terminal:
        assert terminal.answer(answers) == 0, terminal.output
    assert terminal.asked.count("base_url") == 1
    assert "client_id (Enter: as before)" in terminal.output
    assert not {WRONG, right["client_secret"]} & set(terminal.output.split())
    assert cli.value("unidy", name) == DEFAULT_ACCOUNTS["unidy"]["secret"]
    assert cli.token("unidy", name).status == 200


def test_after_a_typo_in_the_settings_nothing_else_is_typed_again(cli: Cli) -> None:
    name, right = new_name(), typed(cli, "unidy")
    wrong_url = right["base_url"].replace("/unidy", "/nobody")
    answers = {**right, "base_url": [wrong_url, right["base_url"]], "Try others": "settings"}
    with cli.terminal("connections", "add", "unidy", name) as terminal:
        assert terminal.answer(answers) == 0, terminal.output
    assert f"base_url [{wrong_url}]" in terminal.output, "Enter keeps each answer"
    assert cli.settings("unidy", name)["base_url"] == right["base_url"]
    assert cli.settings("unidy", name)["scope"] == right["scope"]
    assert cli.token("unidy", name).status == 200


def test_a_connection_that_was_not_kept_can_be_added_at_once(cli: Cli) -> None:
    name, right = new_name(), typed(cli, "unidy")
    with cli.terminal("connections", "add", "unidy", name) as terminal:
        assert terminal.answer({**right, "client_secret": WRONG}) == 1, terminal.output
    with cli.terminal("connections", "add", "unidy", name) as terminal:
        assert terminal.answer(right) == 0, terminal.output


def test_ctrl_c_undoes_everything(cli: Cli) -> None:
    name = new_name()
    simulator = cli.running.providers.simulator("unidy")
    simulator.fail("hang", seconds=30)
    answers = typed(cli, "unidy")
    with cli.terminal("connections", "add", "unidy", name) as terminal:
        for prompt in (
            "base_url",
            "allowed_callers",
            "scope",
            "allowed_scopes",
            "setting",
            "client_id",
            "client_secret",
        ):
            terminal.until(f"\n{prompt}")
            terminal.type(answers.get(prompt, ""))
        assert simulator.waits.until_held(1, 60), terminal.output
        assert cli.settings("unidy", name) is not None
        terminal.press(b"\x03")
        simulator.waits.release()
        assert terminal.end() == 130, terminal.output
    assert cli.settings("unidy", name) is None
    assert cli.stages("unidy", name) is None


def test_from_a_file_and_a_pipe(cli: Cli, tmp_path: Path) -> None:
    name = new_name()
    file = tmp_path / "settings.toml"
    settings = cli.plain_settings("unidy") | {"keep_warm": "never"}
    file.write_text("\n".join(f"{field} = {json.dumps(value)}" for field, value in settings.items()))
    secret = json.dumps(DEFAULT_ACCOUNTS["unidy"]["secret"])
    added = cli("connections", "add", "unidy", name, "--from-file", str(file), "--json", stdin=secret)
    assert (added.code, added.err) == (0, "")
    assert added.json["stage"] == "AWSCURRENT"
    assert cli.settings("unidy", name) == settings


def test_a_space_at_the_end_of_a_credential_is_kept_and_told(cli: Cli, tmp_path: Path) -> None:
    name = new_name()
    secret = {"client_id": f"fake-{name}", "client_secret": "fake-copied "}
    cli.running.providers.simulator("unidy").add_account({"name": name, "secret": secret})
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(cli.plain_settings("unidy")))
    result = cli("connections", "add", "unidy", name, "--from-file", str(file), stdin=json.dumps(secret))
    assert result.code == 0, result.err
    assert "client_secret begins or ends with a space." in result.out
    assert cli.value("unidy", name) == secret


def test_an_older_secret_stays_when_the_new_one_is_refused(cli: Cli, tmp_path: Path) -> None:
    name = new_name()
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(cli.plain_settings("unidy")))
    kept = {"client_id": "of-before", "client_secret": "of-before-too", "note": "of another program"}
    cli.secrets.create_secret(Name=cli.secret_id("unidy", name), SecretString=json.dumps(kept))
    before = cli.stages("unidy", name)
    wrong = json.dumps({"client_id": "nobody", "client_secret": WRONG})
    added = cli("connections", "add", "unidy", name, "--from-file", str(file), stdin=wrong)
    assert added.code == 1
    assert cli.settings("unidy", name) is None
    assert cli.value("unidy", name) == kept
    assert cli.stages("unidy", name) == before


def test_credentials_in_a_file_are_an_error(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('base_url = "https://id.example.com"\nclient_secret = "in-a-file"\n')
    added = cli("connections", "add", "unidy", new_name(), "--from-file", str(file), stdin="{}")
    assert added.code == 2
    assert "client_secret is a credential" in added.err
    assert "in-a-file" not in added.err


@pytest.mark.parametrize(
    ("stdin", "words"),
    [
        ("", "has no JSON object of credentials"),
        ('{"client_id": "x"}', "client_secret is missing"),
        ('{"client_id": "x", "client_secret": "hush-hush", "other": "y"}', "unidy has no credential other"),
    ],
)
def test_other_input_from_a_pipe_is_an_error_with_an_example(cli: Cli, tmp_path: Path, stdin: str, words: str) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(cli.plain_settings("unidy")))
    name = new_name()
    added = cli("connections", "add", "unidy", name, "--from-file", str(file), stdin=stdin)
    assert added.code == 2
    assert words in added.err
    assert '{"client_id": "…", "client_secret": "…"}' in added.err
    assert "hush-hush" not in added.err
    assert cli.settings("unidy", name) is None


def test_a_connection_that_exists_is_not_changed(cli: Cli) -> None:
    before = cli.settings("unidy", "demo")
    added = cli("connections", "add", "unidy", "demo", stdin="{}")
    assert added.code == 1
    assert "unidy/demo exists already." in added.err
    assert "token-broker connections rotate unidy demo" in added.err
    assert cli.settings("unidy", "demo") == before

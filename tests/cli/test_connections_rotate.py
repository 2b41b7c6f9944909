"""`connections rotate` and `connections check`: new credentials become current only if they work."""

import json
import re

import pytest

from local.providers import DEFAULT_ACCOUNTS
from token_broker_cli.connection_secret import ConnectionSecret
from token_broker_cli.problems import Problem

from .conftest import Cli

WRONG = "not-the-secret-of-anybody"
NEW = "the-new-secret-that-works"


def test_a_wrong_secret_changes_neither_the_current_one_nor_its_token(cli: Cli) -> None:
    name = cli.connect()
    before = cli.stages("unidy", name)
    token = cli.token("unidy", name).body
    rotated = cli("connections", "rotate", "unidy", name, stdin=json.dumps({"client_secret": WRONG}))
    assert rotated.code == 1
    refusal = "Unidy gave no token: The provider refused the credentials. The provider's error code: invalid_client."
    assert refusal in rotated.err
    assert "Nothing was changed: the old credentials stay current." in rotated.err
    assert WRONG not in rotated.out + rotated.err
    assert cli.stages("unidy", name) == before
    assert cli.value("unidy", name) == DEFAULT_ACCOUNTS["unidy"]["secret"]
    again = cli.token("unidy", name)
    assert (again.status, again.body["access_token"]) == (200, token["access_token"])
    live = cli.running.providers.simulator("unidy").report()["live_tokens"]
    assert [item["token_id"] for item in live] == [token["token_id"]]
    assert cli.request("GET", f"/v1/connections/unidy/{name}").body["state"] == "ok"


def test_a_working_secret_becomes_current(cli: Cli) -> None:
    name = cli.connect(credentials={**DEFAULT_ACCOUNTS["unidy"]["secret"], "note": "of another program"})
    before = cli.stages("unidy", name) or {}
    cli.running.providers.simulator("unidy").rotate_secret({"client_secret": NEW})
    with cli.terminal("connections", "rotate", "unidy", name) as terminal:
        assert terminal.answer({"client_secret": NEW}) == 0, terminal.output
    assert "client_id (Enter: unchanged)" in terminal.output
    assert "uses the new credentials" in terminal.output
    assert NEW not in terminal.output
    expected = {**DEFAULT_ACCOUNTS["unidy"]["secret"], "client_secret": NEW, "note": "of another program"}
    assert cli.value("unidy", name) == expected
    after = cli.stages("unidy", name) or {}
    assert after["AWSPREVIOUS"] == before["AWSCURRENT"]
    assert "AWSPENDING" not in after
    assert cli.token("unidy", name).status == 200


def test_a_connection_without_a_secret_gets_a_new_one(cli: Cli) -> None:
    name = cli.connect()
    cli.secrets.delete_secret(SecretId=cli.secret_id("unidy", name), ForceDeleteWithoutRecovery=True)
    secret = json.dumps(DEFAULT_ACCOUNTS["unidy"]["secret"])
    assert cli("connections", "rotate", "unidy", name, stdin=secret).code == 0
    assert cli.token("unidy", name).status == 200


def test_another_running_rotation_is_not_disturbed(cli: Cli) -> None:
    name = cli.connect()
    theirs = {"client_id": "theirs", "client_secret": "theirs-too"}
    cli.secrets.put_secret_value(
        SecretId=cli.secret_id("unidy", name), SecretString=json.dumps(theirs), VersionStages=["AWSPENDING"]
    )
    before = cli.stages("unidy", name)
    rotated = cli("connections", "rotate", "unidy", name, stdin=json.dumps({"client_secret": NEW}))
    assert rotated.code == 1
    assert "is pending. Is another rotation running?" in rotated.err
    assert "--replace-pending" in rotated.err
    assert cli.stages("unidy", name) == before


def test_a_version_that_somebody_else_made_current_stays(cli: Cli) -> None:
    name = cli.connect()
    secret = ConnectionSecret(cli.secrets, cli.secret_id("unidy", name))
    read = secret.current()
    assert read is not None
    pending = "11111111-2222-3333-4444-555555555555"
    secret.stage({"client_secret": NEW}, pending)
    cli.secrets.put_secret_value(SecretId=secret.name, SecretString='{"client_secret": "theirs"}')
    with pytest.raises(Problem, match="Somebody else has changed the secret"):
        secret.promote(pending, instead_of=read.version_id)
    assert cli.value("unidy", name) == {"client_secret": "theirs"}


def test_the_current_credentials_are_not_accepted_as_new_ones(cli: Cli) -> None:
    name = cli.connect()
    before = cli.stages("unidy", name)
    rotated = cli("connections", "rotate", "unidy", name, stdin=json.dumps(DEFAULT_ACCOUNTS["unidy"]["secret"]))
    assert rotated.code == 1
    assert "These are the current credentials." in rotated.err
    assert cli.stages("unidy", name) == before


def test_a_second_trial_within_five_minutes_says_when_to_try_again(cli: Cli) -> None:
    name = cli.connect()
    first = cli("connections", "check", "unidy", name)
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith("The current credentials work. A token is valid for 1 h 59 min, scope users:read.")
    second = cli("connections", "check", "unidy", name)
    assert second.code == 1
    assert re.search(r"Try again in [45] min", second.err)
    assert "--wait" in second.err


def test_a_check_of_wrong_credentials_fails(cli: Cli) -> None:
    name = cli.connect(credentials={"client_id": "nobody", "client_secret": WRONG})
    checked = cli("connections", "check", "unidy", name, "--json")
    assert checked.code == 1
    assert json.loads(checked.err)["error"]["code"] == "provider_refused"


def test_a_trial_that_would_revoke_the_live_token_needs_force(cli: Cli) -> None:
    name = cli.connect(issue_revokes_previous=True)
    assert cli.token("unidy", name).status == 200
    checked = cli("connections", "check", "unidy", name)
    assert checked.code == 1
    assert "--force" in checked.err
    assert cli("connections", "check", "unidy", name, "--force").code == 0

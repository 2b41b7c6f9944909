"""`connections rotate` and `check`: what works takes over, what does not leaves all as it was."""

import json
import re

import pytest

from local.providers import DEFAULT_ACCOUNTS
from token_broker_cli.problems import Problem
from token_broker_cli.vault import ConnectionSecret

from .conftest import Cli

WRONG = "not-the-secret-of-anybody"
NEW = "the-new-secret-that-works"


def test_a_wrong_secret_leaves_the_live_one_and_its_token_untouched(cli: Cli) -> None:
    name = cli.connect()
    before, token = cli.stages("unidy", name), cli.token("unidy", name).body
    rotated = cli("connections", "rotate", "unidy", name, stdin=json.dumps({"client_secret": WRONG}))
    assert rotated.code == 1
    assert "Unidy refused: The provider refused the credentials. Its own word for it: invalid_client." in rotated.err
    assert "Nothing was changed: what was in use is in use." in rotated.err
    assert WRONG not in rotated.out + rotated.err
    assert cli.stages("unidy", name) == before
    assert cli.value("unidy", name) == DEFAULT_ACCOUNTS["unidy"]["secret"]
    again = cli.token("unidy", name)
    assert (again.status, again.body["access_token"]) == (200, token["access_token"])
    live = cli.running.providers.simulator("unidy").report()["live_tokens"]
    assert [item["token_id"] for item in live] == [token["token_id"]]
    assert cli.ask("GET", f"/v1/connections/unidy/{name}").body["state"] == "ok"


def test_a_right_one_takes_over(cli: Cli) -> None:
    name = cli.connect(credentials={**DEFAULT_ACCOUNTS["unidy"]["secret"], "note": "of another program"})
    before = cli.stages("unidy", name) or {}
    cli.running.providers.simulator("unidy").rotate_secret({"client_secret": NEW})
    with cli.terminal("connections", "rotate", "unidy", name) as terminal:
        assert terminal.answer({"client_secret": NEW}) == 0, terminal.seen
    assert "client_id (Enter: unchanged)" in terminal.seen
    assert "uses the new credentials" in terminal.seen
    assert NEW not in terminal.seen
    expected = {**DEFAULT_ACCOUNTS["unidy"]["secret"], "client_secret": NEW, "note": "of another program"}
    assert cli.value("unidy", name) == expected
    after = cli.stages("unidy", name) or {}
    assert after["AWSPREVIOUS"] == before["AWSCURRENT"]
    assert "AWSPENDING" not in after
    assert cli.token("unidy", name).status == 200


def test_a_connection_whose_secret_is_gone_gets_a_new_one(cli: Cli) -> None:
    name = cli.connect()
    cli.secrets.delete_secret(SecretId=cli.secret_id("unidy", name), ForceDeleteWithoutRecovery=True)
    secret = json.dumps(DEFAULT_ACCOUNTS["unidy"]["secret"])
    assert cli("connections", "rotate", "unidy", name, stdin=secret).code == 0
    assert cli.token("unidy", name).status == 200


def test_another_rotation_under_way_is_left_alone(cli: Cli) -> None:
    name = cli.connect()
    theirs = {"client_id": "theirs", "client_secret": "theirs-too"}
    cli.secrets.put_secret_value(
        SecretId=cli.secret_id("unidy", name), SecretString=json.dumps(theirs), VersionStages=["AWSPENDING"]
    )
    before = cli.stages("unidy", name)
    rotated = cli("connections", "rotate", "unidy", name, stdin=json.dumps({"client_secret": NEW}))
    assert rotated.code == 1
    assert "is pending: is another rotation under way?" in rotated.err
    assert "--replace-pending" in rotated.err
    assert cli.stages("unidy", name) == before


def test_what_somebody_else_made_current_meanwhile_stays(cli: Cli) -> None:
    name = cli.connect()
    secret = ConnectionSecret(cli.secrets, cli.secret_id("unidy", name))
    read = secret.current()
    assert read is not None
    pending = "11111111-2222-3333-4444-555555555555"
    secret.stage({"client_secret": NEW}, pending)
    cli.secrets.put_secret_value(SecretId=secret.name, SecretString='{"client_secret": "theirs"}')
    with pytest.raises(Problem, match="Somebody else changed the secret"):
        secret.promote(pending, instead_of=read.version_id)
    assert cli.value("unidy", name) == {"client_secret": "theirs"}


def test_the_credentials_in_use_are_no_new_ones(cli: Cli) -> None:
    name = cli.connect()
    before = cli.stages("unidy", name)
    rotated = cli("connections", "rotate", "unidy", name, stdin=json.dumps(DEFAULT_ACCOUNTS["unidy"]["secret"]))
    assert rotated.code == 1
    assert "These are the credentials that are in use." in rotated.err
    assert cli.stages("unidy", name) == before


def test_a_second_trial_within_five_minutes_says_when(cli: Cli) -> None:
    name = cli.connect()
    first = cli("connections", "check", "unidy", name)
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith("The current credentials work: a token lives 1 h 59 min, scope users:read.")
    second = cli("connections", "check", "unidy", name)
    assert second.code == 1
    assert re.search(r"was tried less than five minutes ago. It can be asked again in [45] min", second.err)
    assert "--wait" in second.err


def test_a_check_of_wrong_credentials_says_so(cli: Cli) -> None:
    name = cli.connect(credentials={"client_id": "nobody", "client_secret": WRONG})
    checked = cli("connections", "check", "unidy", name, "--json")
    assert checked.code == 1
    assert json.loads(checked.err)["error"]["code"] == "provider_refused"


def test_a_trial_that_would_end_the_live_token_needs_force(cli: Cli) -> None:
    name = cli.connect(issue_revokes_previous=True)
    assert cli.token("unidy", name).status == 200
    checked = cli("connections", "check", "unidy", name)
    assert checked.code == 1
    assert "--force" in checked.err
    assert cli("connections", "check", "unidy", name, "--force").code == 0

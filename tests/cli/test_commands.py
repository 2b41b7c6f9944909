"""The commands providers, connections, apply, token, token find and revoke."""

import json
import os
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from local.connections import aws_client
from local.providers import DEFAULT_ACCOUNTS
from local.sigv4 import LOCAL
from token_broker_cli.admin_api import AdminApi
from token_broker_client.errors import BrokerRefused

from .conftest import Cli, new_name, physical


def write(file: Path, connections: dict[tuple[str, str], dict[str, Any]]) -> Path:
    """Writes a file for `connections apply`."""
    lines = []
    for (provider, name), settings in connections.items():
        lines += [f"[{provider}.{name}]", *(f"{field} = {json.dumps(value)}" for field, value in settings.items())]
    file.write_text("\n".join(lines))
    return file


def test_providers_lists_the_catalogue(cli: Cli) -> None:
    listed = cli("providers")
    assert listed.code == 0
    assert "Ucommerce Headless" in listed.out
    shown = cli("providers", "show", "ucommerce")
    assert "redirect_uri" in shown.out
    assert "Credentials: client_id, client_secret" in shown.out
    assert {item["slug"] for item in cli("providers", "--json").json} >= {"unidy", "oauth2"}


def test_for_an_unknown_provider_the_known_ones_are_named(cli: Cli) -> None:
    shown = cli("providers", "show", "unid")
    assert shown.code == 1
    assert "There is no provider unid." in shown.err
    assert "unidy" in shown.err


def test_connections_lists_the_state_of_each(cli: Cli) -> None:
    working = cli.connect()
    failing = cli.connect(credentials={"client_id": "x", "client_secret": "y"})
    suspended = cli.connect()
    assert cli.token("unidy", working).status == 200
    assert cli.token("unidy", failing).status == 502
    assert cli("connections", "suspend", "unidy", suspended).code == 0
    lines = {line.split()[0]: line for line in cli("connections").out.splitlines()}
    assert re.match(r"\S+ +ok +1 +in (1 h 59 min|2 h) ", lines[f"unidy/{working}"])
    assert "failing" in lines[f"unidy/{failing}"]
    # The one more try after the first refusal.
    failure = r"refused the credentials \(invalid_client\); cooldown ends in (1 min|[0-9]+ s)"
    assert re.search(failure, lines[f"unidy/{failing}"])
    assert lines[f"unidy/{suspended}"].split()[1] == "suspended"
    assert "\x1b" not in "".join(lines), "no colours without a terminal"


def test_connections_are_listed_worst_first_by_state_and_provider(cli: Cli) -> None:
    failing = cli.connect(credentials={"client_id": "x", "client_secret": "y"})
    assert cli.token("unidy", failing).status == 502
    suspended = cli.connect("oauth2", suspended=True)
    listed = [line.split()[0] for line in cli("connections", "ls").out.splitlines()[1:]]
    assert listed[:2] == [f"unidy/{failing}", f"oauth2/{suspended}"]
    assert [item["connection"] for item in cli("connections", "--state", "failing", "--json").json] == [failing]
    assert {item["provider"] for item in cli("connections", "list", "--provider", "oauth2", "--json").json} == {
        "oauth2"
    }
    assert "has no broken" in cli("connections", "--state", "broken").err


def test_a_throttled_request_is_sent_again_after_a_pause() -> None:
    pauses: list[float] = []

    class Throttled(AdminApi):
        def send(self, *_arguments: Any, **_more: Any) -> dict[str, Any]:
            if len(pauses) < 3:
                raise BrokerRefused(429, {"code": "throttled"}, 7.0 if not pauses else None)
            return {"connections": [], "cursor": None}

    assert list(Throttled("https://broker.example", sleep=pauses.append).connections()) == []
    assert pauses[0] == 7.0
    assert all(0.5 <= pause <= 4.0 for pause in pauses[1:])


def test_hostile_settings_are_shown_as_text(cli: Cli) -> None:
    hostile = "\u202e" + "x" * 1_500
    name = cli.connect("oauth2", params={"audience": hostile})
    for command in (("show", "oauth2", name), ("show", "oauth2", name, "--json"), ("export",)):
        shown = cli("connections", *command)
        assert shown.code == 0, shown.err
        assert "\u202e" not in shown.out
    assert tomllib.loads(cli("connections", "export").out)["oauth2"][name]["params"]["audience"] == hostile


def test_watch_refreshes_the_table_until_ctrl_c(cli: Cli) -> None:
    with cli.terminal("connections", "--watch") as terminal:
        terminal.until("unidy/demo")
        name = cli.connect()
        terminal.until(name)
        terminal.press(b"\x03")
        assert terminal.end() == 130


def test_suspend_and_resume(cli: Cli) -> None:
    name = cli.connect(keep_warm="never")
    before = cli.settings("unidy", name)
    assert "is suspended" in cli("connections", "suspend", "unidy", name).out
    assert cli.settings("unidy", name) == {**before, "suspended": True}
    assert cli.token("unidy", name).body["code"] == "connection_suspended"
    assert "already" in cli("connections", "suspend", "unidy", name).out
    assert cli("connections", "resume", "unidy", name, "--json").json["changed"] is True
    assert cli.settings("unidy", name) == before


def test_remove_asks_first_and_keeps_the_secret_without_its_option(cli: Cli) -> None:
    kept = cli.connect()
    gone = cli.connect()
    asked = cli("connections", "remove", "unidy", kept)
    assert asked.code == 2
    assert "--yes does it without a question." in asked.err
    with cli.terminal("connections", "remove", f"unidy/{kept}") as terminal:
        assert terminal.answer({"Type yes to do it": "no"}) == 4, terminal.output
    assert cli.settings("unidy", kept) is not None
    assert "was kept" in cli("connections", "remove", "unidy", kept, "--yes").out
    assert "is deleted in 30 days" in cli("connections", "remove", "unidy", gone, "--secret", "--yes").out
    assert [cli.settings("unidy", name) for name in (kept, gone)] == [None, None]
    assert cli.stages("unidy", kept) is not None
    cli.secrets.restore_secret(SecretId=cli.secret_id("unidy", gone))
    assert cli.value("unidy", gone)


class TestSettings:
    """`set`, `edit` and `history`."""

    def test_set_changes_single_settings(self, cli: Cli) -> None:
        name = cli.connect(keep_warm="never", scope="users:read")
        changed = cli(
            "connections", "set", f"unidy/{name}", "lifetime_s=60", "keep_warm=", "allowed_scopes=a users:read"
        )
        assert changed.code == 0, changed.err
        assert "    + lifetime_s = 60\n" in changed.out
        settings = cli.settings("unidy", name)
        assert (settings["lifetime_s"], settings["allowed_scopes"]) == (60, ["a", "users:read"])
        assert "keep_warm" not in settings
        assert "Nothing differs." in cli("connections", "set", "unidy", name, "lifetime_s=60").out

    @pytest.mark.parametrize(
        ("assignment", "words"),
        [
            ("lifetime=60", "has no setting lifetime"),
            ("lifetime_s", "has no setting lifetime_s"),
            ("lifetime_s=soon", "lifetime_s must be a whole number"),
            ("lifetime_s=0", "lifetime_s must be from 1"),
            ("suspended=yes", "suspended must be true or false"),
        ],
    )
    def test_set_names_what_is_wrong_and_changes_nothing(self, cli: Cli, assignment: str, words: str) -> None:
        name = cli.connect()
        before = cli.settings("unidy", name)
        changed = cli("connections", "set", "unidy", name, assignment)
        assert changed.code in (1, 2)
        assert words in changed.err
        assert cli.settings("unidy", name) == before

    def test_edit_is_repeated_until_there_is_no_fault(self, cli: Cli, tmp_path: Path) -> None:
        name = cli.connect()
        editor = tmp_path / "editor"
        # The first edit is no TOML, the second not valid, the third right.
        script = (
            "case $(grep -c lifetime_s $1) in 0) echo lifetime_s >> $1;; *) grep -q '= 0' $1 && "
            "sed -i 's/lifetime_s.*/lifetime_s = 60/' $1 || sed -i 's/^lifetime_s$/lifetime_s = 0/' $1;; esac"
        )
        editor.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        editor.chmod(0o755)
        environment = {"PATH": os.environ["PATH"], "EDITOR": str(editor)}
        with cli.terminal("connections", "edit", "unidy", name, environment=environment) as terminal:
            assert terminal.answer({"Edit again": ["", ""]}) == 0, terminal.output
        assert "is not TOML" in terminal.output
        assert "lifetime_s must be from 1" in terminal.output
        assert cli.settings("unidy", name)["lifetime_s"] == 60

    def test_history_shows_and_restores_earlier_versions(self, cli: Cli) -> None:
        name = cli.connect()
        before = cli.settings("unidy", name)
        cli("connections", "set", "unidy", name, "lifetime_s=60")
        listed = cli("connections", "history", "unidy", name)
        assert LOCAL.user_arn in listed.out
        assert listed.out.splitlines()[1].rstrip().endswith("lifetime_s")
        assert "    + lifetime_s = 60" in cli("connections", "history", "unidy", name, "--diff").out
        (_, first) = cli("connections", "history", "unidy", name, "--json").json
        restored = cli("connections", "history", "unidy", name, "--restore", first["version"][:8], "--yes")
        assert restored.code == 0, restored.err
        assert cli.settings("unidy", name) == before
        assert cli("connections", "history", "unidy", name, "--restore", "none").code == 1
        assert (
            cli("connections", "history", "unidy", name, "--restore", first["version"]).out.strip()
            == "Nothing differs."
        )


class TestApply:
    def test_check_shows_the_difference_and_changes_nothing(self, cli: Cli, tmp_path: Path) -> None:
        name = cli.connect()
        same = cli.connect()
        settings = cli.settings("unidy", name)
        file = write(
            tmp_path / "c.toml",
            {
                ("unidy", same): cli.settings("unidy", same),
                ("unidy", name): settings | {"keep_warm": "never"},
                ("unidy", "new-one"): settings,
            },
        )
        checked = cli("connections", "apply", str(file), "--check")
        assert checked.code == 4
        assert f"changed  unidy/{name}\n    + keep_warm = 'never'\n" in checked.out
        assert "new      unidy/new-one" in checked.out
        assert "2 of 3 would be stored." in checked.out
        assert f"unidy/{same}" not in checked.out, "unchanged ones are counted"
        assert cli.settings("unidy", name) == settings
        assert cli.settings("unidy", "new-one") is None

    def test_only_what_differs_is_stored(self, cli: Cli, tmp_path: Path) -> None:
        same = cli.connect()
        other = cli.connect()
        settings = cli.settings("unidy", same)
        version = cli.request("GET", f"/v1/connections/unidy/{same}").body["version"]
        file = write(
            tmp_path / "c.toml",
            {("unidy", same): settings, ("unidy", other): settings | {"scope": "users:write"}},
        )
        applied = cli("connections", "apply", str(file), "--json")
        assert applied.code == 0
        assert [item["change"] for item in applied.json["connections"]].count("same") == 1
        assert "unidy/demo" in applied.json["not_in_file"]
        assert cli.settings("unidy", other)["scope"] == "users:write"
        assert cli.request("GET", f"/v1/connections/unidy/{same}").body["version"] == version
        assert cli("connections", "apply", str(file), "--check").code == 0

    def test_prune_removes_what_the_file_does_not_name(self, cli: Cli, tmp_path: Path) -> None:
        kept, gone = cli.connect(), cli.connect()
        rest = tomllib.loads(cli("connections", "export").out)
        del rest["unidy"][gone]
        names = {(slug, name): settings for slug, found in rest.items() for name, settings in found.items()}
        file = str(write(tmp_path / "c.toml", names))
        checked = cli("connections", "apply", file, "--prune", "--check")
        assert (checked.code, f"would be removed unidy/{gone}" in checked.out) == (4, True)
        assert cli("connections", "apply", file, "--prune").code == 2, "nobody can be asked"
        assert cli.settings("unidy", gone) is not None
        assert f"removed unidy/{gone}" in cli("connections", "apply", file, "--prune", "--yes").out
        assert [cli.settings("unidy", name) is None for name in (kept, gone)] == [False, True]
        assert cli.stages("unidy", gone) is not None
        (tmp_path / "empty.toml").write_text("")
        assert cli("connections", "apply", str(tmp_path / "empty.toml"), "--prune", "--yes").code == 2

    @pytest.mark.parametrize("kind", ["json", "toml", "secret"])
    def test_credentials_of_many_come_from_a_file_or_a_secret(self, cli: Cli, tmp_path: Path, kind: str) -> None:
        right, wrong = new_name(), new_name()
        settings = cli.plain_settings("unidy")
        file = str(write(tmp_path / "c.toml", {("unidy", name): settings for name in (right, wrong)}))
        good = DEFAULT_ACCOUNTS["unidy"]["secret"]
        given = {"unidy": {right: good, wrong: {**good, "client_secret": "hush-hush"}}}
        source = str(tmp_path / f"credentials.{kind}")
        if kind == "secret":
            source = f"secret:{right}-credentials"
            cli.secrets.create_secret(Name=f"{right}-credentials", SecretString=json.dumps(given))
        elif kind == "toml":
            write(Path(source), {("unidy", name): values for name, values in given["unidy"].items()})
        else:
            Path(source).write_text(json.dumps(given))
        applied = cli("connections", "apply", file, "--credentials", source)
        assert applied.code == 1
        assert f"unidy/{right}: uses the given credentials." in applied.out
        assert f"unidy/{wrong}: Unidy gave no token" in applied.out
        assert "hush-hush" not in applied.out + applied.err
        assert cli.value("unidy", right) == good
        assert cli.token("unidy", right).status == 200
        assert cli.value("unidy", wrong) == {} if cli.stages("unidy", wrong) else True

    def test_it_does_not_end_a_suspension_that_the_file_does_not_mention(self, cli: Cli, tmp_path: Path) -> None:
        name = cli.connect()
        file = write(tmp_path / "c.toml", {("unidy", name): cli.settings("unidy", name)})
        cli("connections", "suspend", "unidy", name)
        assert cli("connections", "apply", str(file)).code == 0
        assert cli.settings("unidy", name)["suspended"] is True
        written = {**cli.settings("unidy", name), "suspended": False}
        assert cli("connections", "apply", str(write(file, {("unidy", name): written}))).code == 0
        assert cli.settings("unidy", name)["suspended"] is False

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("[unidy", "is not TOML"),
            ("unidy = 1", "unidy is not a table"),
            ("[unid.eu]", "unid.eu: there is no provider unid"),
            ('[unidy.eu]\nscop = "x"', "unidy.eu: there is no setting scop; unidy.eu: allowed_callers is missing"),
            ('[unidy.eu]\nclient_secret = "hush-hush"', "unidy.eu.client_secret is a credential"),
        ],
    )
    def test_a_file_that_is_not_valid(self, cli: Cli, tmp_path: Path, text: str, words: str) -> None:
        file = tmp_path / "c.toml"
        file.write_text(text)
        applied = cli("connections", "apply", str(file), "--check")
        assert applied.code in (1, 2)
        assert words in applied.err
        assert "hush-hush" not in applied.err


class TestExport:
    def test_apply_puts_back_what_export_printed(self, cli: Cli) -> None:
        changed = cli.connect(scope="users:read", allowed_callers=[LOCAL.arn, "arn:aws:iam::123456789012:role/*"])
        suspended = cli.connect(suspended=True)
        deleted = cli.connect("oauth2", keep_warm="never")
        before = {name: cli.settings("unidy", name) for name in (changed, suspended)}
        lost = cli.settings("oauth2", deleted)
        exported = cli("connections", "export").out
        assert cli("connections", "apply", "-", "--check", stdin=exported).code == 0

        cli.request("PUT", f"/v1/connections/unidy/{changed}", {**before[changed], "scope": "users:write"})
        cli("connections", "resume", "unidy", suspended)
        cli.request("DELETE", f"/v1/connections/oauth2/{deleted}")
        assert cli("connections", "apply", "-", stdin=exported).code == 0
        assert {name: cli.settings("unidy", name) for name in (changed, suspended)} == before
        assert cli.settings("oauth2", deleted) == lost
        assert cli("connections", "export").out == exported

    def test_a_copy_of_the_table_gives_the_same(self, cli: Cli) -> None:
        cli.connect()
        table = physical(cli.running, "ConnectionTable")
        assert cli("connections", "export", "--table", table).out == cli("connections", "export").out
        assert (
            cli("connections", "export", "--table", table, "--json").json == cli("connections", "export", "--json").json
        )

    def test_a_table_of_something_else_is_an_error_that_shows_no_item(self, cli: Cli) -> None:
        token = cli.token("unidy", "demo").body
        exported = cli("connections", "export", "--table", physical(cli.running, "TokenTable"))
        assert (exported.code, exported.out) == (1, "")
        assert "is no connection" in exported.err
        assert token["token_id"] not in exported.err


class TestToken:
    def test_it_prints_only_the_token(self, cli: Cli) -> None:
        given = cli("token", "unidy", "demo")
        assert (given.code, given.err) == (0, "")
        assert given.out == cli.token("unidy", "demo").body["access_token"] + "\n"

    def test_it_prints_the_providers_header(self, cli: Cli) -> None:
        token = cli.token("unicommerce", "demo").body
        assert cli("token", "unicommerce", "demo", "--header").out == f"apiKey: {token['access_token']}\n"

    def test_it_prints_shell_variables(self, cli: Cli) -> None:
        token = cli.token("unidy", "demo").body
        lines = cli("token", "unidy", "demo", "--export").out.splitlines()
        assert lines[0] == f"export ACCESS_TOKEN={token['access_token']}"
        assert lines[1] == f"export TOKEN_HEADER='Authorization: Bearer {token['access_token']}'"

    def test_an_error_says_what_to_do(self, cli: Cli) -> None:
        asked = cli("token", "unidy", "nobodys", "--json")
        assert asked.code == 1
        assert json.loads(asked.err)["error"]["code"] == "unknown_connection"
        assert "token-broker connections" in json.loads(asked.err)["error"]["todo"]


class TestFind:
    def log(self, cli: Cli) -> str:
        return str(cli.running.options.log_dir / "GetTokenFunction.log")

    def test_a_leaked_token_and_the_caller_that_received_it_are_found(self, cli: Cli) -> None:
        name = cli.connect()
        token = cli.token("unidy", name).body
        cli.token("unidy", name)
        found = cli("token", "find", "--log", self.log(cli), "--json", stdin=token["access_token"] + "\n")
        assert found.code == 0
        assert found.json["token_id"] == token["token_id"]
        assert found.json["live"] == [{"provider": "unidy", "connection": name, "expires_at": token["expires_at"]}]
        (recipient,) = found.json["returned_to"]
        assert (recipient["provider"], recipient["connection"], recipient["times"]) == ("unidy", name, 2)
        assert recipient["caller"] == LOCAL.user_arn
        assert token["access_token"] not in found.out + found.err

    def test_a_purged_token_is_found_in_the_log(self, cli: Cli) -> None:
        name = cli.connect()
        token = cli.token("unidy", name).body
        revoked = cli("revoke", "unidy", name, "--suspend")
        assert "1 dropped, 1 revoked at the provider." in revoked.out
        assert cli.settings("unidy", name)["suspended"] is True
        found = cli("token", "find", "--log", self.log(cli), stdin=token["token_id"])
        assert found.code == 0
        assert f"{token['token_id']} is ours: unidy/{name}." in found.out
        assert LOCAL.user_arn in found.out

    def test_a_report_of_a_token_does_not_count_as_receiving_it(self, cli: Cli) -> None:
        name = cli.connect()
        token = cli.token("unidy", name).body
        successor = cli.request("GET", f"/v1/tokens/unidy/{name}?rejected={token['token_id']}").body
        assert successor["token_id"] != token["token_id"]
        found = cli("token", "find", "--log", self.log(cli), "--json", stdin=token["token_id"])
        assert [item["times"] for item in found.json["returned_to"]] == [1]
        assert found.json["live"] == []

    def test_at_a_terminal_the_token_is_not_shown(self, cli: Cli) -> None:
        token = cli.token("unidy", cli.connect()).body
        with cli.terminal("token", "find", "--log", self.log(cli)) as terminal:
            assert terminal.answer({"token": token["access_token"]}) == 0, terminal.output
        assert f"{token['token_id']} is ours" in terminal.output
        assert token["access_token"] not in terminal.output

    def test_another_token_is_not_ours(self, cli: Cli) -> None:
        found = cli("token", "find", "--log", self.log(cli), stdin="a-token-of-somebody-else")
        assert found.code == 4
        assert "names no caller that received it" in found.out
        assert "a-token-of-somebody-else" not in found.out

    def test_in_aws_it_reads_the_audit_log_group(self, cli: Cli, in_aws: list[str]) -> None:
        name = cli.connect()
        token = cli.token("unidy", name).body
        # Lambda would have written these lines.
        with Path(self.log(cli)).open(encoding="utf-8") as log:
            lines = [line for line in log if '"audit"' in line]
        logs = aws_client("logs", cli.running.endpoint_url)
        group = physical(cli.running, "AuditLogGroup")
        logs.create_log_stream(logGroupName=group, logStreamName=name)
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        events = [{"timestamp": now_ms, "message": line} for line in lines]
        logs.put_log_events(logGroupName=group, logStreamName=name, logEvents=events)
        found = cli.plain("token", "find", "--json", *in_aws, stdin=token["access_token"])
        assert found.code == 0, found.err
        (recipient,) = found.json["returned_to"]
        assert (recipient["connection"], recipient["caller"]) == (name, LOCAL.user_arn)


def test_a_token_as_an_argument_is_an_error_and_not_repeated(cli: Cli) -> None:
    found = cli("token", "find", "eyJ-a-leaked-token")
    assert found.code == 2
    assert "Do not pass the token as an argument" in found.err
    assert "eyJ-a-leaked-token" not in found.err


def test_without_a_token_on_standard_input_it_says_so(cli: Cli) -> None:
    found = cli("token", "find")
    assert found.code == 2
    assert "No token was given." in found.err

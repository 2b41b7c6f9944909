"""`audit`: who got which token, and who changed what; and what of it is shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local.connections import aws_client
from local.sigv4 import LOCAL
from token_broker_cli.audit import describe, describe_change
from token_broker_cli.audit_log import is_caller, parse_since
from token_broker_cli.problems import Problem

from .conftest import Cli, physical

NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
SESSION = "arn:aws:sts::123456789012:assumed-role/orders/i-0123"
USER = "arn:aws:iam::123456789012:user/team/jo"


def log(cli: Cli) -> list[str]:
    return ["--log", str(cli.running.options.log_dir)]


def test_what_a_role_got_today_and_who_changed_a_connection(cli: Cli) -> None:
    name = cli.connect()
    for _ in range(2):
        cli.token("unidy", name)
    got = cli("audit", "--caller", "local", "--connection", f"unidy/{name}", "--since", "today", *log(cli))
    assert got.code == 0, got.err
    (line,) = [line for line in got.out.splitlines() if "token_returned" in line]
    assert f"unidy/{name}" in line
    assert f"{LOCAL.user_arn}  2  " in line

    cli("connections", "suspend", "unidy", name)
    cli.request("PUT", f"/v1/connections/unidy/{name}", {**cli.settings("unidy", name), "lifetime_s": 60})
    changed = cli("audit", "--connection", f"unidy/{name}", *log(cli)).out
    assert "connection_suspended" in changed
    assert "replaced: lifetime_s absent → 60" in changed
    entries = cli("audit", "--connection", f"unidy/{name}", "--event", "settings_changed", "--json", *log(cli)).json
    assert [(entry["decision"], entry["caller"]) for entry in entries] == [
        ("created", LOCAL.user_arn),
        ("replaced", LOCAL.user_arn),
    ]


def test_a_token_is_read_from_standard_input_alone(cli: Cli) -> None:
    name = cli.connect()
    token = cli.token("unidy", name).body
    found = cli("audit", "--token-id", "-", *log(cli), stdin=token["access_token"])
    assert found.code == 0, found.err
    assert f"unidy/{name}" in found.out
    assert token["access_token"] not in found.out
    assert cli("audit", "--token-id", token["token_id"], *log(cli)).out == found.out
    refused = cli("audit", "--token-id", token["access_token"], *log(cli))
    assert refused.code == 2
    assert token["access_token"] not in refused.err


def test_in_aws_it_reads_the_audit_log_group(cli: Cli, in_aws: list[str]) -> None:
    logs, group = aws_client("logs", cli.running.endpoint_url), physical(cli.running, "AuditLogGroup")
    stream = cli.connect()
    at = datetime.now(UTC)
    entries = [
        {"service": "audit", "message": "trial", "decision": "done", "caller": SESSION, "provider": "unidy"},
        {"service": "token-broker", "message": "trial", "provider": "unidy"},
    ]
    lines = [json.dumps({**entry, "connection": stream, "timestamp": at.isoformat()}) for entry in entries]
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    events = [{"timestamp": int(at.timestamp() * 1000), "message": line} for line in lines]
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
    found = cli.plain("audit", "--connection", f"unidy/{stream}", "--json", *in_aws)
    assert found.code == 0, found.err
    assert [entry["caller"] for entry in found.json] == [SESSION]
    assert cli.plain("audit", "--connection", f"unidy/{stream}", "--caller", "nobody", *in_aws).code == 4


def test_hostile_entries_are_shown_as_text(cli: Cli, tmp_path: Path) -> None:
    hostile = "\x1b[2J\u202e\x9b\r\n" + "x" * 10_000
    entry = {"service": "audit", "message": "request_failed", "decision": "invalid_request", "detail": hostile}
    file = tmp_path / "audit.log"
    file.write_text(
        json.dumps({**entry, "caller": hostile, "timestamp": NOW.isoformat()}) + "\nno json\n[]\n", encoding="utf-8"
    )
    for option in ([], ["--json"]):
        shown = cli("audit", "--since", "2026-11-22", "--log", str(file), *option)
        assert shown.code == 0, shown.err
        assert not set(shown.out) & set("\x1b\u202e\x9b\r")
        assert "\\u202e" in shown.out
    table = cli("audit", "--since", "2026-11-22", "--log", str(file)).out
    assert len(table) < 5_000
    assert "(10,025 characters)" in table.replace("\n", "")


@pytest.mark.parametrize(
    ("arn", "wanted", "is_it"),
    [
        (SESSION, "orders", True),
        (SESSION, "ord*", True),
        (SESSION, "i-0123", False),
        (SESSION, SESSION, True),
        (SESSION, "arn:aws:iam::123456789012:role/orders", True),
        (SESSION, "arn:aws:iam::123456789012:role/team/orders", True),
        (SESSION, "arn:aws:iam::123456789012:role/*", True),
        (SESSION, "arn:aws:iam::999999999999:role/orders", False),
        (SESSION, "order", False),
        (USER, "jo", True),
        (USER, USER, True),
        (USER, "team", False),
    ],
)
def test_which_caller_is_meant(arn: str, wanted: str, *, is_it: bool) -> None:
    assert is_caller(arn, wanted) is is_it


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("30min", NOW - timedelta(minutes=30)),
        ("2h", NOW - timedelta(hours=2)),
        ("7d", NOW - timedelta(days=7)),
        ("today", NOW.replace(hour=0, minute=0)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T08:00+01:00", datetime(2026, 11, 20, 7, tzinfo=UTC)),
    ],
)
def test_since_when(text: str, since: datetime) -> None:
    assert parse_since(text, NOW) == since


@pytest.mark.parametrize("text", ["", "yesterday", "7", "1w", "-1h"])
def test_since_no_time(text: str) -> None:
    with pytest.raises(Problem):
        parse_since(text, NOW)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"message": "token_returned", "scope": ""}, "scope (none)"),
        ({"message": "tokens_purged", "dropped": 2, "revoked": ["a"]}, "2 dropped, 1 revoked, 0 not revoked"),
        ({"message": "request_failed", "decision": "throttled"}, "throttled:"),
        ({"message": "settings_changed", "decision": "replaced", "changes": []}, "replaced"),
        ({"message": "connection_suspended", "decision": "done"}, "done"),
    ],
)
def test_what_happened(entry: dict[str, Any], text: str) -> None:
    assert describe(entry) == text


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"old": ["a", "b"], "new": ["b", "c"]}, "x +c -a"),
        ({"old": ["a", "b"], "new": ["b", "a"]}, "x in another order"),
        ({"new": ["a"]}, "x absent → a"),
        ({"old": True, "new": False}, "x True → False"),
        ({"old_digest": "d1", "new_digest": "d2"}, "x (d1) → (d2)"),
        ({"old": "https://a", "old_digest": "d1"}, "x https://a (d1) → absent"),
    ],
)
def test_a_change_in_words(change: dict[str, Any], text: str) -> None:
    assert describe_change({"field": "x", **change}) == text

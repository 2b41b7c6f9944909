"""`audit`: who got which token, and who changed what."""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from token_broker_cli import screen
from token_broker_cli.audit_log import AuditQuery, Json, parse_since, read_entries
from token_broker_cli.problems import Exit, Problem
from token_broker_cli.target import Target
from token_broker_cli.token_find import is_token_id, read_token_id

COLUMNS: Final = ("last", "event", "connection", "caller", "times", "what")
FROM_INPUT: Final = "-"


@dataclass
class AuditRow:
    """Equal entries: how often, first and last. `token_ids`: those of the returned tokens."""

    event: str
    connection: str
    caller: str
    what: str
    first: str
    last: str = ""
    times: int = 0
    token_ids: set[str] = field(default_factory=set)


def audit(target: Target, options: argparse.Namespace) -> Exit:
    """`audit`: the entries, equal ones in one row. Exit code 4 if there are none."""
    query = AuditQuery(
        since=parse_since(options.since, datetime.now(UTC)),
        caller=options.caller,
        connection=options.connection,
        token_id=_token_id(target, options.token_id),
        event=options.event,
    )
    if query.connection and "/" not in query.connection:
        raise Problem("--connection is not PROVIDER/NAME.", "Type: --connection unidy/eu-main", exit_code=Exit.USAGE)
    with target.screen.progress("Searching the audit log"):
        entries = read_entries(target, query, options.log)
    rows = [
        (
            row.last,
            row.event,
            row.connection,
            row.caller,
            str(row.times),
            row.what + (f", {len(row.token_ids)} tokens" if len(row.token_ids) > 1 else ""),
        )
        for row in summarise(entries)
    ]
    if not rows:
        target.screen.show(entries, f"The audit log has no such entry since {query.since.isoformat()}.")
        return Exit.NO
    target.screen.show(entries, screen.table(COLUMNS, rows))
    return Exit.DONE


def _token_id(target: Target, given: str | None) -> str | None:
    if given is None or is_token_id(given):
        return given
    if given != FROM_INPUT:
        what = "--token-id is not 16 hex digits. Do not pass a token as an argument: others can read the command line."
        raise Problem(what, "Pipe the token in: token-broker audit --token-id - < leaked.txt", exit_code=Exit.USAGE)
    return read_token_id(target)


def summarise(entries: Iterable[Mapping[str, Any]]) -> list[AuditRow]:
    """Equal entries in one row each, the newest last."""
    rows: dict[tuple[str, ...], AuditRow] = {}
    for entry in entries:
        event = str(entry["message"])
        caller = str(entry.get("caller", "-"))
        what = describe(entry)
        provider = entry.get("provider")
        connection = f"{provider}/{entry.get('connection')}" if provider else "-"
        at = str(entry["timestamp"])
        row = rows.setdefault((event, connection, caller, what), AuditRow(event, connection, caller, what, first=at))
        row.times += 1
        row.last = at
        if "token_id" in entry:
            row.token_ids.add(str(entry["token_id"]))
    return sorted(rows.values(), key=lambda row: row.last)


def describe(entry: Mapping[str, Any]) -> str:
    """What happened, in words."""
    event = entry["message"]
    decision = str(entry.get("decision", ""))
    if event == "token_returned":
        return f"scope {entry.get('scope') or '(none)'}"
    if event == "request_failed":
        return " ".join(filter(None, (f"{decision}:", str(entry.get("detail", "")), entry.get("provider_error"))))
    if event == "tokens_purged":
        revoked = entry.get("revoked", ())
        left = entry.get("not_revoked", ())
        return f"{entry.get('dropped')} dropped, {len(revoked)} revoked, {len(left)} not revoked"
    changes = "; ".join(describe_change(change) for change in entry.get("changes", ()))
    return f"{decision}: {changes}" if changes else decision


def describe_change(change: Json) -> str:
    """One changed setting. A digest stands for a value that the audit does not hold."""
    name = change["field"]
    old = change.get("old")
    new = change.get("new")
    if isinstance(old, list) and isinstance(new, list):
        added = [f"+{item}" for item in new if item not in old]
        removed = [f"-{item}" for item in old if item not in new]
        return f"{name} {' '.join(added + removed) or 'in another order'}"
    sides = []
    for side, value in (("old", old), ("new", new)):
        digest = change.get(f"{side}_digest")
        words = [] if value is None else [", ".join(map(str, value)) if isinstance(value, list) else str(value)]
        sides.append(" ".join(words + ([f"({digest})"] if digest else [])) or "absent")
    return f"{name} {sides[0]} → {sides[1]}"

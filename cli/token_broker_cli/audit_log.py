"""The audit log of the broker: CloudWatch's, or the files of the local stack. One entry for each request."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from token_broker_cli.problems import Exit, Problem
from token_broker_cli.target import LOCAL_LOGS, Target

Json = dict[str, Any]
LOG_GROUP: Final = "AuditLogGroup"
SINCE: Final = re.compile(r"([0-9]{1,5})(min|h|d)")
UNITS: Final = {"min": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class AuditQuery:
    """Which entries are wanted: since when, and of which caller, connection (`provider/name`), token_id or event."""

    since: datetime
    caller: str | None = None
    connection: str | None = None
    token_id: str | None = None
    event: str | None = None

    @property
    def term(self) -> str:
        """What each wanted line contains. CloudWatch searches for it, `admits` decides."""
        name = self.connection.partition("/")[2] if self.connection else None
        caller = self.caller.rpartition("/")[2].partition("*")[0] if self.caller else None
        return self.token_id or name or caller or self.event or "audit"

    def admits(self, entry: Mapping[str, Any]) -> bool:
        """Whether it is a wanted entry of the audit."""
        wanted = {"service": "audit", "token_id": self.token_id, "message": self.event}
        if self.connection:
            wanted["provider"], _, wanted["connection"] = self.connection.partition("/")
        if any(value is not None and entry.get(name) != value for name, value in wanted.items()):
            return False
        if self.caller and not is_caller(str(entry.get("caller", "")), self.caller):
            return False
        at = moment_of(entry)
        return at is not None and at >= self.since


def is_caller(arn: str, wanted: str) -> bool:
    """Whether a caller is the wanted one: an ARN as the audit or allowed_callers has it, or a role's or user's name.

    `*` in the name is a wildcard.
    """
    head, _, path = arn.partition(":assumed-role/")
    role = path.partition("/")[0]
    known = [arn, f"{head.replace(':sts:', ':iam:')}:role/{role}", role] if role else [arn, arn.rpartition("/")[2]]
    patterns = [wanted]
    if wanted.startswith("arn:") and ":assumed-role/" not in wanted:
        # A role's ARN may have an IAM path, which the audit's ARNs have not.
        patterns.append(f"{wanted.partition('/')[0]}/{wanted.rpartition('/')[2]}")
    return any(fnmatchcase(one, pattern) for one in known for pattern in patterns)


def moment_of(entry: Mapping[str, Any]) -> datetime | None:
    """When an entry was written."""
    try:
        return datetime.fromisoformat(str(entry.get("timestamp")))
    except ValueError:
        return None


def parse_since(text: str, now: datetime) -> datetime:
    """`30min`, `2h`, `7d`, `today` (UTC), a date or a moment. Raises Problem."""
    if found := SINCE.fullmatch(text):
        return now - timedelta(**{UNITS[found[2]]: int(found[1])})
    if text == "today":
        return now.replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        todo = "Type for example 30min, 2h, 7d, today or 2026-11-22T08:00Z."
        raise Problem("--since is no time.", todo, exit_code=Exit.USAGE) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def read_entries(target: Target, query: AuditQuery, log: Path | None = None) -> list[Json]:
    """The wanted entries, the newest last. `log`: a file, or a directory of them, instead of CloudWatch."""
    if log or target.is_local:
        lines: Iterable[str] = _file_lines(log or LOCAL_LOGS)
    else:
        lines = _cloudwatch_lines(target, query)
    term = query.term
    found = [entry for line in lines if term in line and (entry := _entry(line)) and query.admits(entry)]
    return sorted(found, key=lambda entry: str(entry["timestamp"]))


def _entry(line: str) -> Json | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _file_lines(path: Path) -> Iterator[str]:
    try:
        for file in sorted(path.glob("*.log")) if path.is_dir() else [path]:
            with file.open(encoding="utf-8", errors="replace") as log:
                yield from log
    except OSError as error:
        todo = "Run this in the repository's root, or name the local stack's log directory with --log."
        raise Problem(f"The log {path} cannot be read: {error.strerror}.", todo) from None


def _cloudwatch_lines(target: Target, query: AuditQuery) -> Iterator[str]:
    group = target.resources.get(LOG_GROUP)
    if group is None:
        raise Problem(f"The stack {target.stack} has no {LOG_GROUP}.", "Name the broker's stack with --stack.")
    pages = (
        target.aws("logs")
        .get_paginator("filter_log_events")
        .paginate(logGroupName=group, filterPattern=f'"{query.term}"', startTime=int(query.since.timestamp() * 1000))
    )
    return (event["message"] for page in pages for event in page["events"])

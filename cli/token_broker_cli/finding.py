"""`token find`: is a leaked token one of ours, and who got it? By its fingerprint, from the audit."""

import argparse
import getpass
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from token_broker_cli import screen, words
from token_broker_cli.problems import Exit, Problem
from token_broker_cli.target import LOCAL_LOG, Target

LOG_GROUP: Final = "AuditLogGroup"
FINGERPRINT_DIGITS: Final = 16


@dataclass
class Trace:
    """Where a token was handed out: how often to whom, first and last; one per connection and caller."""

    times: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    first: dict[tuple[str, str, str], str] = field(default_factory=dict)
    last: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def add(self, line: Mapping[str, Any]) -> None:
        """One line of the audit."""
        who = str(line.get("provider")), str(line.get("connection")), str(line.get("caller"))
        when = str(line.get("timestamp", ""))
        self.times[who] += 1
        self.first[who] = min(self.first.get(who, when), when)
        self.last[who] = max(self.last.get(who, when), when)


def find(target: Target, options: argparse.Namespace) -> Exit:
    """`token find`: looks for the token's fingerprint among the live tokens and in the audit log."""
    token_id = _fingerprint(target)
    with target.screen.working("Looking among the live tokens"):
        alive = [
            {"provider": item["provider"], "connection": item["connection"], "expires_at": found["expires_at"]}
            for item in target.api.connections_in_full()
            for found in item["tokens"]
            if found["token_id"] == token_id
        ]
    trace = Trace()
    with target.screen.working(f"Reading {options.days} days of the audit log"):
        for line in _audit(target, options, token_id):
            trace.add(line)
    _tell(target, token_id, alive, trace)
    return Exit.DONE if alive or trace.times else Exit.NO


def _fingerprint(target: Target) -> str:
    if target.screen.interactive:
        text = getpass.getpass("token (or its token_id; not shown): ").strip()
    else:
        text = sys.stdin.read().strip()
    text = text.removeprefix("Bearer ").strip()
    if not text:
        raise Problem("No token was given.", "Paste it when asked, or pipe it in.", exit_code=Exit.USAGE)
    if len(text) == FINGERPRINT_DIGITS and set(text) <= set("0123456789abcdef"):
        return text
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_DIGITS]


def _audit(target: Target, options: argparse.Namespace, token_id: str) -> Iterator[Mapping[str, Any]]:
    """The audit's lines of one token that was handed out."""
    lines = (
        _local_lines(options.log or LOCAL_LOG) if options.log or target.is_local else _logged(target, options, token_id)
    )
    for line in lines:
        if token_id not in line:
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        wanted = {"service": "audit", "message": "handed_out", "token_id": token_id}
        if isinstance(entry, dict) and wanted.items() <= entry.items():
            yield entry


def _local_lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as log:
            yield from log
    except OSError as error:
        todo = "Run this in the repository's root, or name the log of get_token with --log FILE."
        raise Problem(f"The log {path} cannot be read: {error.strerror}.", todo) from None


def _logged(target: Target, options: argparse.Namespace, token_id: str) -> Iterable[str]:
    group = target.resources.get(LOG_GROUP)
    if group is None:
        raise Problem(f"The stack {target.stack} has no {LOG_GROUP}.", "Name the broker's stack with --stack.")
    since = datetime.now(UTC) - timedelta(days=options.days)
    pages = (
        target.aws("logs")
        .get_paginator("filter_log_events")
        .paginate(logGroupName=group, filterPattern=f'"{token_id}"', startTime=int(since.timestamp() * 1000))
    )
    return (event["message"] for page in pages for event in page["events"])


def _tell(target: Target, token_id: str, alive: list[dict[str, Any]], trace: Trace) -> None:
    handed: list[dict[str, Any]] = [
        {
            "provider": who[0],
            "connection": who[1],
            "caller": who[2],
            "times": times,
            "first": trace.first[who],
            "last": trace.last[who],
        }
        for who, times in trace.times.most_common()
    ]
    shown = {"token_id": token_id, "live": alive, "handed_out": handed}
    if not alive and not handed:
        target.screen.show(shown, f"{token_id} is not live here, and nobody was given it as far as the log goes.")
        return
    names = {f"{item['provider']}/{item['connection']}" for item in [*alive, *handed]}
    now = datetime.now(UTC)
    state = [f"It is live, and ends {words.until(item['expires_at'], now)}." for item in alive] or [
        "It is no current token any more; at the provider it may live to its end."
    ]
    rows = [(item["caller"], str(item["times"]), item["first"], item["last"]) for item in handed]
    target.screen.show(
        shown,
        f"{token_id} is ours: {', '.join(sorted(names))}.",
        *state,
        screen.table(("caller", "times", "first", "last"), rows) if rows else "The log does not say who got it.",
        *(f"End it: {target.line('revoke ' + name.replace('/', ' ') + ' --suspend')}" for name in sorted(names)),
    )

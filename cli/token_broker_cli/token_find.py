"""`token find`: is a leaked token one of ours, and who received it? Searches by the token's fingerprint."""

import argparse
import getpass
import hashlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from token_broker_cli import screen
from token_broker_cli.audit_log import AuditQuery, read_entries
from token_broker_cli.problems import Exit, Problem
from token_broker_cli.target import Target
from token_broker_cli.wording import relative

AUDIT_EVENT: Final = "token_returned"
FINGERPRINT_DIGITS: Final = 16


@dataclass
class Recipient:
    """A caller that received the token from a connection: how often, first and last."""

    provider: str
    connection: str
    caller: str
    first: str
    last: str
    times: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "connection": self.connection,
            "caller": self.caller,
            "times": self.times,
            "first": self.first,
            "last": self.last,
        }


@dataclass(frozen=True)
class Found:
    """Where a token is live (provider, connection, expires_at), and who received it."""

    live: list[dict[str, Any]]
    recipients: list[Recipient]

    @property
    def connections(self) -> list[tuple[str, str]]:
        """Provider and name of each connection whose token it is or was."""
        names = {(str(item["provider"]), str(item["connection"])) for item in self.live}
        return sorted(names | {(recipient.provider, recipient.connection) for recipient in self.recipients})


def find(target: Target, options: argparse.Namespace) -> Exit:
    """`token find`: looks for the token's fingerprint among the live tokens and in the audit log."""
    token_id = read_token_id(target)
    found = find_token(target, token_id, days=options.days, log=options.log)
    _show(target, token_id, found)
    return Exit.DONE if found.connections else Exit.NO


def find_token(target: Target, token_id: str, *, days: int, log: Path | None) -> Found:
    """Searches the live tokens, and `days` of the audit log. `log`: a file instead of CloudWatch."""
    with target.screen.progress("Searching the live tokens"):
        live = [
            {"provider": item["provider"], "connection": item["connection"], "expires_at": token["expires_at"]}
            for item in target.api.connections(details=True)
            for token in item["tokens"]
            if token["token_id"] == token_id
        ]
    query = AuditQuery(since=datetime.now(UTC) - timedelta(days=days), token_id=token_id, event=AUDIT_EVENT)
    with target.screen.progress(f"Searching {days} days of the audit log"):
        return Found(live, _recipients(read_entries(target, query, log)))


def read_token_id(target: Target) -> str:
    """The token_id of a token, or a token_id, from a hidden prompt or from standard input."""
    if target.screen.interactive:
        text = getpass.getpass("token (or its token_id; not shown): ").strip()
    else:
        text = sys.stdin.read().strip()
    text = text.removeprefix("Bearer ").strip()
    if not text:
        raise Problem("No token was given.", "Paste it at the prompt, or pipe it in.", exit_code=Exit.USAGE)
    if is_token_id(text):
        return text
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_DIGITS]


def is_token_id(text: str) -> bool:
    """Whether the text has the form of a token_id."""
    return len(text) == FINGERPRINT_DIGITS and set(text) <= set("0123456789abcdef")


def _recipients(entries: Iterable[Mapping[str, Any]]) -> list[Recipient]:
    """One per connection and caller, the most frequent first."""
    found: dict[tuple[str, str, str], Recipient] = {}
    for entry in entries:
        key = str(entry.get("provider")), str(entry.get("connection")), str(entry.get("caller"))
        at = str(entry.get("timestamp", ""))
        recipient = found.setdefault(key, Recipient(*key, first=at, last=at))
        recipient.times += 1
        recipient.first = min(recipient.first, at)
        recipient.last = max(recipient.last, at)
    return sorted(found.values(), key=lambda recipient: recipient.times, reverse=True)


def _show(target: Target, token_id: str, found: Found) -> None:
    live = found.live
    recipients = found.recipients
    names = found.connections
    shown = {"token_id": token_id, "live": live, "returned_to": [recipient.as_json() for recipient in recipients]}
    if not names:
        target.screen.show(shown, f"{token_id} is not live here, and the log names no caller that received it.")
        return
    now = datetime.now(UTC)
    lines = [f"{token_id} is ours: {', '.join(f'{provider}/{name}' for provider, name in names)}."]
    lines += [f"It is live and expires {relative(item['expires_at'], now)}." for item in live]
    if not live:
        lines.append("It is not a current token. At the provider it may still be valid until it expires.")
    rows = [(recipient.caller, str(recipient.times), recipient.first, recipient.last) for recipient in recipients]
    target.screen.show(
        shown,
        *lines,
        screen.table(("caller", "times", "first", "last"), rows) if rows else "The log does not say who received it.",
        *(f"Revoke it: {target.command(f'revoke {provider} {name} --suspend')}" for provider, name in names),
    )

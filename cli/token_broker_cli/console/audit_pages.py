"""The audit: who got which token, who changed what, and who has a leaked token."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from token_broker_cli.audit import AuditRow, summarise
from token_broker_cli.audit_log import AuditQuery, parse_since, read_entries
from token_broker_cli.console.context import View
from token_broker_cli.console.messages import Denied, Request, Response
from token_broker_cli.token_find import find_token, is_token_id

LEAK_DAYS: Final = 30
# How far back, as `token-broker audit --since` takes it, and in words.
SINCE: Final[Mapping[str, str]] = {"1h": "last hour", "24h": "last day", "7d": "last 7 days", "30d": "last 30 days"}
EVENTS: Final = (
    "token_returned",
    "request_failed",
    "settings_changed",
    "connection_suspended",
    "connection_resumed",
    "tokens_purged",
    "trial",
)
MAX_ROWS: Final = 500
RECENT: Final = timedelta(days=1)
RECENT_ROWS: Final = 12


def show(view: View, request: Request) -> Response:
    """`GET /audit`: the entries that are wanted. `GET /audit?leaked=`: who has a leaked token.

    `leaked` is a token_id. The browser computes it, so that no token comes here.
    """
    given = request.parameters
    leaked = given.get("leaked", "").strip()
    if leaked and not is_token_id(leaked):
        raise Denied(
            400, "A token_id has 16 hexadecimal digits.", "Paste the token itself into the field on this page."
        )
    found = find_token(view.context.target, leaked, days=LEAK_DAYS, log=view.context.log) if leaked else None
    rows = _rows(view, given) if "since" in given or "connection" in given else None
    return view.page(
        "audit.html",
        leaked=leaked,
        leak_days=LEAK_DAYS,
        found=found,
        rows=rows,
        max_rows=MAX_ROWS,
        given={name: given.get(name, "") for name in ("caller", "connection", "event", "since")},
        events=EVENTS,
        since=SINCE,
    )


def recent(view: View, _request: Request, provider: str, name: str) -> Response:
    """`GET /connections/{provider}/{name}/recent`: the last entries of a connection, as a part of its page."""
    query = AuditQuery(since=view.context.now() - RECENT, connection=f"{provider}/{name}")
    rows = summarise(read_entries(view.context.target, query, view.context.log))
    return view.page("recent.html", rows=rows[::-1][:RECENT_ROWS])


def _rows(view: View, given: Mapping[str, str]) -> list[AuditRow]:
    """Equal entries in one row, the newest first."""
    connection = given.get("connection", "").strip()
    if connection and "/" not in connection:
        raise Denied(400, "A connection is named provider/name.", "Such as unidy/eu-main.")
    since = given.get("since", "24h")
    if since not in SINCE:
        raise Denied(400, "There is no such period.")
    query = AuditQuery(
        since=parse_since(since, view.context.now()),
        caller=given.get("caller", "").strip() or None,
        connection=connection or None,
        event=given.get("event") or None,
    )
    return summarise(read_entries(view.context.target, query, view.context.log))[::-1]

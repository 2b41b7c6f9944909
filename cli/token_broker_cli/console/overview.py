"""The overview: states, what is wrong, what renews soon, and how the providers do."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from token_broker_cli.console.context import View
from token_broker_cli.console.messages import Request, Response
from token_broker_cli.console.renewal_chart import renewal_chart
from token_broker_cli.severity import DEADLINE_SOON, STATES, severity
from token_broker_cli.wording import is_past

Row = Mapping[str, Any]
PAGE_ROWS: Final = 100
MAX_TEXT: Final = 64


@dataclass(frozen=True)
class Filters:
    """What the overview shows. Empty: everything."""

    state: str = ""
    provider: str = ""
    text: str = ""

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> "Filters":
        text = parameters.get("text", "")[:MAX_TEXT].strip()
        return cls(parameters.get("state", ""), parameters.get("provider", ""), text)

    def admit(self, row: Row) -> bool:
        """Whether the row is shown. Text is looked for in the name and in the failure."""
        if self.state and row["state"] != self.state:
            return False
        if self.provider and row["provider"] != self.provider:
            return False
        failure = row["last_failure"] or {}
        searched = (
            f"{row['provider']}/{row['connection']} {failure.get('detail', '')} {failure.get('provider_error', '')}"
        )
        return self.text.lower() in searched.lower()

    def query(self, **changed: str) -> str:
        """The path of the overview with these filters, some of them changed."""
        values = {"state": self.state, "provider": self.provider, "text": self.text, **changed}
        query = urlencode({name: value for name, value in values.items() if value}, errors="replace")
        return f"/?{query}" if query else "/"


def show(view: View, request: Request) -> Response:
    """`GET /`: the connections, worst first."""
    filters = Filters.of(request.parameters)
    now = view.context.now()
    rows, as_of = view.context.connections.read()
    found = sorted((row for row in rows if filters.admit(row)), key=lambda row: severity(row, now))
    page = _page_number(request.parameters.get("page", "1"), len(found))
    return view.page(
        "overview.html",
        filters=filters,
        counts=_counts(rows),
        total=len(rows),
        found=len(found),
        rows=found[(page - 1) * PAGE_ROWS : page * PAGE_ROWS],
        page=page,
        pages=_pages(len(found)),
        health=provider_health(rows),
        provider_names=sorted({row["provider"] for row in rows}),
        chart=renewal_chart((row["next_renewal"] for row in found), now),
        next_expiry=_next_expiry(found, now),
        deadlines=_deadlines(found, now),
        as_of=as_of,
    )


def provider_health(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Each provider with its connections by state, the one with most failing first."""
    states: dict[str, Counter[str]] = defaultdict(Counter)
    codes: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        states[row["provider"]][row["state"]] += 1
        if row["last_failure"]:
            codes[row["provider"]][row["last_failure"]["code"]] += 1
    health = [
        {
            "slug": slug,
            "total": found.total(),
            "bad": found["failing"] + found["misconfigured"] + found["consent_required"] + found["reported"],
            "codes": [code for code, _ in codes[slug].most_common(2)],
        }
        for slug, found in states.items()
    ]
    return sorted(health, key=lambda item: (-item["bad"], item["slug"]))


def _counts(rows: Iterable[Row]) -> list[tuple[str, int]]:
    counted = Counter(row["state"] for row in rows)
    return [(state, counted[state]) for state in STATES]


def _next_expiry(rows: Sequence[Row], now: datetime) -> Row | None:
    """The connection whose token expires next."""
    live = [row for row in rows if row["next_expiry"] and not is_past(row["next_expiry"], now)]
    return min(live, key=lambda row: row["next_expiry"], default=None)


def _deadlines(rows: Iterable[Row], now: datetime) -> list[dict[str, Any]]:
    """Credentials and refresh tokens that expire within two weeks, the first ones first."""
    found = [
        {**deadline, "provider": row["provider"], "connection": row["connection"]}
        for row in rows
        for deadline in row["deadlines"]
        if is_past(deadline["at"], now + DEADLINE_SOON)
    ]
    return sorted(found, key=lambda item: item["at"])[:5]


def _pages(found: int) -> int:
    return max(-(-found // PAGE_ROWS), 1)


def _page_number(text: str, found: int) -> int:
    number = int(text) if text.isdecimal() and len(text) < 6 else 1
    return min(max(number, 1), _pages(found))

"""Writes docs/failures.md from the tables that the fault suite checks: python -m tests.integration.faults.document"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.integration.faults import connect_table, odd_table, table
from tests.integration.faults.outcomes import COLD, RENEWAL, STATUS, Case, Outcome, Row

DOCUMENT: Final = Path(__file__).parents[3] / "docs" / "failures.md"

HEAD: Final = """\
# What each failure means

Written from the tables of the fault suite by `.venv/bin/python -m tests.integration.faults.document`; do not edit.
`make test` plays every case at every provider over HTTP and checks three things: what the caller got, how many requests
the provider counted, and what `GET /v1/connections/{provider}/{connection}` says.

## How to read it

The first row that matches counts. Its number is the broker's own, and the tables keep that order.

- **transient** and **no usable answer**: rests 2 s, then 30 s, doubling to 5 min while it goes on, unless a row says
  otherwise. Callers and the sweep ask again after each rest.
- **the provider's limit**: rests as long as Retry-After says (seconds or a date), at most 1 h; without one that makes
  sense 60 s. Where the provider counts by address (Commerce Layer), every connection there rests.
- **refused**: rests 15 min, 1 h, 4 h, then every 24 h. Only a request of a caller is tried with then, the sweep leaves
  it alone. It ends at once with a new version of the secret, changed settings or a successful trial; at most three new
  versions are tried in an hour.

| code | status | what the caller gets where no valid token is left |
|---|---|---|
| `provider_unavailable` | 503 | the error, with Retry-After: the seconds until the rest ends |
| `provider_rate_limited` | 503 | the same |
| `provider_invalid_response` | 502 | the same |
| `provider_refused` | 502 | the error, without Retry-After: waiting does not help, somebody has to mend the cause |

While a valid token is there, callers get it, with 200 and the warning `renewal_failing`, whatever the row. While a
failure rests, the provider is not asked: not for a caller, not by the sweep, not by another instance. `provider_error`
is one of a fixed list of codes, else `unrecognised`; nothing else that a provider wrote comes out. The state of the
connection is `failing`, with code, time and `retry_at`. In the lists of cases, "first rest" is that of the first
failure in a row, and "requests" are those of one attempt to the token endpoint, for a cold key.
"""

LOCKS: Final = """
## Accounts that lock

A login (Unicommerce) is counted before it goes out. Two logins in a row whose outcome nobody knows (row 2) count as a
refusal: `provider_refused`, 15 min. A FAILED for credentials that worked before is doubted once, for 60 s, and believed
the second time.
"""

PLACES: Final = {
    "connection": "the connection",
    "scope": "the scope set",
    "limit": "the connection; Commerce Layer: the endpoint",
}


def render() -> str:
    """The whole document."""
    return "\n".join([HEAD, *_section("At the token endpoint", table.ROWS), *_connect(), LOCKS, *_odd()]) + "\n"


def _connect() -> Iterator[str]:
    yield from _section("At Ucommerce's connect", connect_table.ROWS)


def _section(title: str, rows: tuple[Row, ...]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| # | what was seen | class | code | rests where | what to do |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        codes = _distinct(f"`{outcome.code}`" for outcome in _outcomes(row))
        places = _distinct(PLACES[outcome.where] for outcome in _outcomes(row))
        yield f"| {row.number} | {row.seen} | {row.means} | {codes} | {places} | {row.todo} |"
    yield ""
    for row in rows:
        yield f"**{row.number}. {row.seen}**\n"
        yield "| the provider's answer | code | `provider_error` | first rest | requests |"
        yield "|---|---|---|---|---|"
        for case in row.cases:
            yield _case(case)
        yield ""


def _case(case: Case) -> str:
    first = f"| {case.text} | {_line(case.outcome)} |"
    others = [f"| … {_when(key)} | {_line(outcome)} |" for key, outcome in case.exceptions.items()]
    return "\n".join([first, *others])


def _line(outcome: Outcome | None) -> str:
    if outcome is None:
        return "a good token | | | 1"
    error = f"`{outcome.provider_error}`" if outcome.provider_error else ""
    return f"`{outcome.code}` {STATUS[outcome.code]} | {error} | {duration(outcome.rest_s)} | {_requests(outcome)}"


def _requests(outcome: Outcome) -> str:
    found = []
    if outcome.connect_requests:
        found.append(f"{outcome.connect_requests} connect")
    if outcome.token_requests or not found:
        found.append(str(outcome.token_requests) if not found else f"{outcome.token_requests} token")
    return " + ".join(found)


def _when(key: str) -> str:
    provider, _, phase = key.rpartition(" ") if key.endswith((COLD, RENEWAL)) else (key, "", "")
    words = {COLD: "for credentials that never worked", RENEWAL: "with a refresh token", "": ""}[phase]
    return " ".join(word for word in (f"at {provider}" if provider else "", words) if word)


def _odd() -> Iterator[str]:
    yield "## Odd answers that are accepted\n"
    yield "| the provider's answer | the token's life | warning |"
    yield "|---|---|---|"
    for odd in odd_table.ACCEPTED:
        warnings = ", ".join(f"`{warning}`" for warning in odd.warnings)
        yield f"| {odd.text} | {odd.life} | {warnings} |"


def _outcomes(row: Row) -> Iterator[Outcome]:
    for case in row.cases:
        yield case.outcome


def _distinct(words: Iterator[str]) -> str:
    return ", ".join(dict.fromkeys(words))


def duration(seconds: int) -> str:
    """As people say it: 15 min, 90 s."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


if __name__ == "__main__":
    DOCUMENT.write_text(render())

"""Writes docs/failures.md from the tables that the fault suite checks: python -m tests.integration.faults.document"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.integration.faults import connect_table, odd_table, table
from tests.integration.faults.outcomes import COLD, RENEWAL, STATUS, Case, Outcome, Section

DOCUMENT: Final = Path(__file__).parents[3] / "docs" / "failures.md"

HEAD: Final = """\
# What each failure means

Written from the tables of the fault suite by `.venv/bin/python -m tests.integration.faults.document`; do not edit.
`make test` tries every case at every provider over HTTP and checks three things: what the caller got, how many requests
the provider counted, and what `GET /v1/connections/{provider}/{connection}` shows.

## How to read it

Each failure has a rule. The rules are ordered, and the first that applies counts. The tables keep that order.

- **transient** and **no usable response**: a cooldown of 2 s, then 30 s, doubling to 5 min while it goes on, unless the
  table says otherwise. After each cooldown, callers and the sweep ask the provider again.
- **rate limit**: a cooldown as long as Retry-After says (seconds or a date), at most 1 h. Without a usable Retry-After
  60 s. If the provider counts by address (Commerce Layer), the cooldown applies to every connection there.
- **refused**: a cooldown of 15 min, 1 h, 4 h, then always 24 h. After it, only a caller's request asks the provider.
  The first refusal of a secret's version gets one more try after 60 s, by a caller or the sweep, once for the whole
  connection: some providers accept new credentials only after a minute. A refused scope and a login get none: a login's
  first cooldown is 15 min. The sweep looks at the key every 15 min and asks the provider only if settings or secret
  changed. A refusal ends at once with a new version of the secret, changed settings or a successful trial. At most
  three new versions are used in an hour.

| code | status | what the caller gets if no valid token is left |
|---|---|---|
| `provider_unavailable` | 503 | the error, with Retry-After: the seconds until the cooldown ends |
| `provider_rate_limited` | 503 | the same |
| `provider_invalid_response` | 502 | the same |
| `provider_refused` | 502 | the error, without Retry-After: waiting does not help, somebody must fix the cause |
| `consent_required` | 409 | the same: a person must consent |

As long as there is a valid token, callers get it, with 200 and the warning `renewal_failing`, whatever the rule. During
a cooldown nothing asks the provider: no caller's request, no sweep, no other instance. `provider_error` is one of a
fixed list of codes, else `unrecognised`. Nothing else that a provider wrote is shown. The connection's state is
`failing`, with code, time and `retry_at`. In the lists of cases, "cooldown" is the one after the first failure, and
"requests" counts the requests to the token endpoint of one acquisition without a stored token.
"""

LOCKS: Final = """
## Accounts that lock

A login (Unicommerce) is counted before it is sent. After two logins in a row with an unknown outcome
(`no_complete_response`), the failure is `too_many_unresolved_logins`: `provider_refused`, 15 min. After FAILED for
credentials that worked before, they get a second chance after 60 s. A second FAILED counts as a refusal.

A second `unknown_error` in a row with the same version of the secret, at least 60 s after the first, counts as a
refusal too: `provider_refused`, 15 min. It may mean wrong credentials in words of the vendor's own.
"""

CONSENTS: Final = """
## The refresh token of a person's consent

What a response means for the token request is the same as above, but for `invalid_grant`: rule `consent_refused`,
`consent_required`, for the connection. The provider is not asked again. After 15 min the next caller or the sweep looks
whether the secret has another refresh token. A new consent acts at once.

| the provider did | the refresh token |
|---|---|
| it got no byte | as before |
| a whole response with an error: 3xx, 4xx, or 2xx with an error code | as before |
| `invalid_grant` | dead: `consent_required` |
| a 2xx response with a refresh token, whatever else is in it | the new one is stored |
| a token without a refresh token | the old one stays |
| 5xx, no response, a cut one, or 2xx with neither error nor token | unknown |

One whose outcome is unknown is sent again if the provider's file says `after_lost_response = "resend"`, for
`resend_within_s` after it was first sent. Otherwise a person must consent: rule `consent_outcome_unknown`. The other
rules that ask nobody are `consent_never_given`, `consent_expired`, `consent_other_client` (the settings or the secret
name another token endpoint or client) and `consent_unreadable`.
"""

LEVELS: Final = {
    "connection": "the connection",
    "key": "the scope set",
    "rate_limit": "the connection; Commerce Layer: the endpoint",
}


def render() -> str:
    """The whole document."""
    return (
        "\n".join([HEAD, *_section("At the token endpoint", table.SECTIONS), *_connect(), LOCKS, CONSENTS, *_odd()])
        + "\n"
    )


def _connect() -> Iterator[str]:
    yield from _section("At Ucommerce's connect", connect_table.SECTIONS)


def _section(title: str, sections: tuple[Section, ...]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| rule | what the provider did | kind | code | cooldown of | what to do |"
    yield "|---|---|---|---|---|---|"
    for section in sections:
        codes = _distinct(f"`{case.outcome.code}`" for case in section.cases)
        levels = _distinct(LEVELS[case.outcome.level] for case in section.cases)
        cells = (_rules(section), section.observed, section.meaning, codes, levels, section.what_to_do)
        yield f"| {' | '.join(cells)} |"
    yield ""
    for section in sections:
        yield f"**{_rules(section)}: {section.observed}**\n"
        yield "| the provider's response | code | `provider_error` | cooldown | requests |"
        yield "|---|---|---|---|---|"
        for case in section.cases:
            yield _case(case)
        yield ""


def _rules(section: Section) -> str:
    return ", ".join(f"`{rule}`" for rule in section.rules)


def _case(case: Case) -> str:
    first = f"| {case.text} | {_line(case.outcome)} |"
    others = [f"| … {_when(key)} | {_line(outcome)} |" for key, outcome in case.exceptions.items()]
    return "\n".join([first, *others])


def _line(outcome: Outcome | None) -> str:
    if outcome is None:
        return "a good token | | | 1"
    error = f"`{outcome.provider_error}`" if outcome.provider_error else ""
    return f"`{outcome.code}` {STATUS[outcome.code]} | {error} | {duration(outcome.cooldown_s)} | {_requests(outcome)}"


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
    yield "## Unusual responses that are accepted\n"
    yield "| the provider's response | the token's lifetime | warning |"
    yield "|---|---|---|"
    for odd in odd_table.ACCEPTED:
        warnings = ", ".join(f"`{warning}`" for warning in odd.warnings)
        yield f"| {odd.text} | {odd.lifetime} | {warnings} |"


def _distinct(words: Iterator[str]) -> str:
    return ", ".join(dict.fromkeys(words))


def duration(seconds: int) -> str:
    """A duration in its largest whole unit: 15 min, 90 s."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


if __name__ == "__main__":
    DOCUMENT.write_text(render())

"""What a fault must lead to, as data. The fault suite checks it, and docs/failures.md is written from it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from tests.integration.faults.provider_faults import NotListening, ProviderFault

UNAVAILABLE: Final = "provider_unavailable"
INVALID: Final = "provider_invalid_response"
LIMITED: Final = "provider_rate_limited"
REFUSED: Final = "provider_refused"
STATUS: Final = {UNAVAILABLE: 503, LIMITED: 503, INVALID: 502, REFUSED: 502}

COLD, RENEWAL = "cold", "renewal"
# Providers whose rate limit is not the connection's own.
LIMIT_LEVEL: Final = {"commerce-layer": "endpoint"}
# Providers that lock an account by the count of failed logins.
LOGINS: Final = ("unicommerce",)

TRANSIENT_S: Final = 2
MINUTE_S: Final = 60
QUARTER_HOUR_S: Final = 900
HOUR_S: Final = 3600


def refused_for_s(level: str) -> int:
    """The first cooldown of a refusal: a refused scope stays wrong, credentials may be accepted late."""
    return MINUTE_S if level == "connection" else QUARTER_HOUR_S


class RequestCounts(NamedTuple):
    """Requests that the provider counted at its token endpoint and at connect, and requests that the broker sent."""

    token: int
    connect: int
    sent: int


@dataclass(frozen=True)
class Outcome:
    """What one fault leads to.

    `rule`: the failure rule that applies. `cooldown_s`: the first cooldown. `level`: what it applies to: `connection`,
    `key`, or `rate_limit` (whatever the provider counts its limit by). `token_requests` and `connect_requests`: what
    the provider counts during one acquisition.
    """

    rule: str
    code: str
    cooldown_s: int
    provider_error: str | None = None
    level: str = "connection"
    token_requests: int = 1
    connect_requests: int | None = None

    @property
    def for_good(self) -> bool:
        """Whether the sweep leaves the key alone until secret or settings change."""
        return self.code == REFUSED and not self.gets_one_more_try

    @property
    def gets_one_more_try(self) -> bool:
        """Whether the sweep asks once more, because a provider may accept new credentials late."""
        return self.code == REFUSED and self.cooldown_s == MINUTE_S

    @property
    def for_login(self) -> Outcome:
        """The same of a login, which gets no other try."""
        return replace(self, cooldown_s=QUARTER_HOUR_S) if self.gets_one_more_try else self

    def requests(self, slug: str, phase: str) -> RequestCounts:
        """The requests of one acquisition."""
        connect = self.connect_requests
        if connect is None:
            connect = 1 if slug == "ucommerce" and phase == COLD else 0
        return RequestCounts(self.token_requests, connect, sent=max(self.token_requests + connect, 1))

    def level_at(self, slug: str) -> str:
        """What the cooldown applies to at this provider."""
        return LIMIT_LEVEL.get(slug, "connection") if self.level == "rate_limit" else self.level


@dataclass(frozen=True)
class Case:
    """One fault. `text` says what the provider did. `exceptions`: by phase, provider, or both ("ucommerce renewal").

    An exception of None means that the response is a good token.
    """

    text: str
    fault: ProviderFault | NotListening
    outcome: Outcome
    exceptions: Mapping[str, Outcome | None] = field(default_factory=dict)

    def expected(self, slug: str, phase: str) -> Outcome | None:
        for key in (f"{slug} {phase}", slug, phase):
            if key in self.exceptions:
                outcome = self.exceptions[key]
                break
        else:
            outcome = self.outcome
        return outcome.for_login if outcome is not None and slug in LOGINS else outcome

    @property
    def outcomes(self) -> Iterator[Outcome]:
        """Every outcome that the case can have."""
        yield self.outcome
        yield from (outcome for outcome in self.exceptions.values() if outcome is not None)

    @property
    def id(self) -> str:
        return f"{self.outcome.rule}-" + re.sub(r"[^a-z0-9]+", "-", self.text.lower()).strip("-")


@dataclass(frozen=True)
class Section:
    """A section of docs/failures.md: failure rules that are explained together, and their cases.

    `observed`: what the provider did. `meaning`: the kind of failure. `what_to_do`: for the connection's owner.
    """

    rules: tuple[str, ...]
    observed: str
    meaning: str
    what_to_do: str
    cases: tuple[Case, ...]

"""What is expected of a fault, as data: the suite checks it, and docs/failures.md is written from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.integration.faults.playing import Gone, Play

UNAVAILABLE: Final = "provider_unavailable"
INVALID: Final = "provider_invalid_response"
LIMITED: Final = "provider_rate_limited"
REFUSED: Final = "provider_refused"
STATUS: Final = {UNAVAILABLE: 503, LIMITED: 503, INVALID: 502, REFUSED: 502}

COLD, RENEWAL = "cold", "renewal"
PHASES: Final = (COLD, RENEWAL)
# Where a limit is not the connection's own.
LIMIT_OF: Final = {"commerce-layer": "endpoint"}

SOON_S: Final = 2
MINUTE_S: Final = 60
QUARTER_S: Final = 900
HOUR_S: Final = 3600


@dataclass(frozen=True)
class Outcome:
    """What one fault leads to.

    `row`: of the broker's table. `rest_s`: the first rest. `where`: connection, scope, or limit (what the provider's
    limit is counted by). `token_requests` and `connect_requests`: what the provider counted of one attempt.
    """

    row: int
    code: str
    rest_s: int
    provider_error: str | None = None
    where: str = "connection"
    token_requests: int = 1
    connect_requests: int | None = None

    @property
    def for_good(self) -> bool:
        """Whether the sweep leaves it alone until secret or settings change."""
        return self.code == REFUSED

    def asked(self, slug: str, phase: str) -> tuple[int, int]:
        """Requests to the token endpoint and to connect."""
        usual = 1 if slug == "ucommerce" and phase == COLD else 0
        return self.token_requests, usual if self.connect_requests is None else self.connect_requests

    def attempts(self, slug: str, phase: str) -> int:
        """Requests that went out, or could not: the broker's own count."""
        return max(sum(self.asked(slug, phase)), 1)

    def place(self, slug: str) -> str:
        """Where it rests at this provider."""
        return LIMIT_OF.get(slug, "connection") if self.where == "limit" else self.where


@dataclass(frozen=True)
class Case:
    """One fault. `text` says what the provider did. `exceptions`: by phase, provider, or both ("ucommerce renewal");
    None there means that the answer is a good token."""

    text: str
    play: Play | Gone
    outcome: Outcome
    exceptions: Mapping[str, Outcome | None] = field(default_factory=dict)

    def expected(self, slug: str, phase: str) -> Outcome | None:
        for key in (f"{slug} {phase}", slug, phase):
            if key in self.exceptions:
                return self.exceptions[key]
        return self.outcome

    @property
    def id(self) -> str:
        return f"{self.outcome.row:02}-" + re.sub(r"[^a-z0-9]+", "-", self.text.lower()).strip("-")


@dataclass(frozen=True)
class Row:
    """A row of the broker's table, in words. `means`: the class. `todo`: what its owner does about it."""

    number: int
    seen: str
    means: str
    todo: str
    cases: tuple[Case, ...]

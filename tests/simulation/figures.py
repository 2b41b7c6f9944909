"""Figures of a simulated day: the least requests, the worst minute, what failed in an outage."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.simulation.day import MINUTE_S, Course, Outcome
from tests.simulation.population import PROVIDERS, window_s
from tests.simulation.vendors import Exchange, Trouble

# The jitter shortens a window by up to a fifth. So a renewal comes at most this part of the window early.
LATEST = 0.8
# Failures are counted until this long after an outage: three times the longest cooldown of an outage.
AFTERMATH_S = 900.0


def least_requests(course: Course, length_s: float) -> int:
    """The fewest token requests that keep the promises for this key.

    A key that is kept warm needs a first token, and a new one as late as the largest jitter allows. The broker needs
    more, because its jitter differs per key. A key that is not kept warm needs one for each caller who finds no token
    that lives long enough.
    """
    key = course.key
    if not course.is_warm:
        requests = 0
        expires_s = -math.inf
        for called_s in course.called_s:
            if expires_s - called_s < key.min_ttl_s:
                requests = requests + 1
                expires_s = called_s + key.lifetime_s
        return requests
    if not course.tokens:
        return 0
    longest_s = key.lifetime_s - LATEST * window_s(key.name.provider, key.lifetime_s)
    return 1 + int((length_s - course.tokens[0].issued_s) / longest_s)


def token_requests(outcome: Outcome, provider: str) -> int:
    return sum(exchange.operation == "token" for exchange in outcome.exchanges[provider])


def worst_minute(exchanges: Sequence[Exchange]) -> int:
    """The most requests within any 60 s."""
    moments = [exchange.at_s for exchange in exchanges]
    first = 0
    worst = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - MINUTE_S:
            first += 1
        worst = max(worst, last - first + 1)
    return worst


def expired_unrenewed(course: Course, length_s: float) -> list[float]:
    """When tokens of a key that is kept warm expired without a new one."""
    if not course.is_warm or not course.tokens:
        return []
    stored = [token.stored_s for token in course.tokens[1:]] + [length_s]
    return [token.expires_s for token, next_s in zip(course.tokens, stored, strict=True) if token.expires_s < next_s]


@dataclass(frozen=True)
class Outage:
    """The effects of an outage. `protected`: keys whose token was valid for longer than the outage lasted.

    `broken_promises`: failed calls on protected keys. Requests are per key and minute of the outage.
    `failed_elsewhere`: callers of other providers meanwhile.
    """

    trouble: Trouble
    protected: int
    broken_promises: int
    requests_per_key: float
    busiest_key: float
    failed_elsewhere: int


def outages(outcome: Outcome) -> Iterator[Outage]:
    """Each outage of a day, in turn."""
    for trouble in outcome.plan.troubles:
        if trouble.is_outage:
            yield _outage(outcome, trouble)


def _outage(outcome: Outcome, trouble: Trouble) -> Outage:
    start = trouble.start_s
    end = trouble.end_s
    provider = trouble.provider
    own = [course for course in outcome.courses if course.key.name.provider == provider and course.tokens]
    protected = [course for course in own if (course.expires_s(start) or 0) - start > trouble.length_s]
    broken = sum(start <= failed.at_s < end + AFTERMATH_S for course in protected for failed in course.failures)
    requests = Counter(exchange.connection for exchange in between(outcome.exchanges[provider], start, end))
    minutes = trouble.length_s / MINUTE_S
    others = [course for course in outcome.courses if course.key.name.provider != provider and course.is_warm]
    return Outage(
        trouble,
        protected=len(protected),
        broken_promises=broken,
        requests_per_key=requests.total() / minutes / max(len(own), 1),
        busiest_key=max(requests.values(), default=0) / minutes,
        failed_elsewhere=sum(start <= failed.at_s < end for course in others for failed in course.failures),
    )


def between(exchanges: Sequence[Exchange], start_s: float, end_s: float) -> Sequence[Exchange]:
    """The exchanges between two moments. `exchanges` are sorted by time."""
    return exchanges[bisect_left(exchanges, (start_s,)) : bisect_left(exchanges, (end_s,))]


@dataclass(frozen=True)
class Row:
    """One provider's day. `waited`: callers of keys that are kept warm, after each key's first caller."""

    provider: str
    calls: int
    waited: int
    failed: int
    requests: int
    least: int
    worst_minute: int
    limit: int | None
    expired_unrenewed: int


def rows(outcome: Outcome, limits: dict[str, int | None]) -> list[Row]:
    """A row for each provider that the day had."""
    present = {course.key.name.provider for course in outcome.courses}
    return [_row(outcome, provider, limits[provider]) for provider in PROVIDERS if provider in present]


def _row(outcome: Outcome, provider: str, limit: int | None) -> Row:
    length_s = outcome.plan.length_s
    own = [course for course in outcome.courses if course.key.name.provider == provider]
    warm = [course for course in own if course.is_warm]
    return Row(
        provider,
        calls=sum(course.calls for course in own),
        waited=sum(len(course.waits) for course in warm),
        failed=sum(len(course.failures) for course in own),
        requests=token_requests(outcome, provider),
        least=sum(least_requests(course, length_s) for course in own),
        worst_minute=worst_minute(outcome.exchanges[provider]),
        limit=limit,
        expired_unrenewed=sum(len(expired_unrenewed(course, length_s)) for course in own),
    )

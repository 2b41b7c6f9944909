"""What a day's course amounts to: the least requests, the worst minute, what failed in an outage."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.simulation.day import MINUTE_S, Course, Failed, Outcome
from tests.simulation.population import PROVIDERS, window_s
from tests.simulation.vendors import Exchange, Trouble

# The jitter may shorten a window by a fifth (design §5.6), so no renewal can be later than this part of it.
LATEST = 0.8
# After an outage its callers are looked at for so long: as long as the longest rest, three times.
AFTERMATH_S = 900.0


def least_requests(course: Course, length_s: float) -> int:
    """The fewest token requests with which the key could have been kept as promised.

    A key that is kept warm needs its first token, and a next one whenever the window of the last has all but closed:
    each as late as the greatest jitter would allow. This is less than the broker can reach, for its jitters are spread.
    A key that is not kept warm needs one for each caller who meets no token that lives long enough.
    """
    key = course.key
    if not course.is_warm:
        requests, ends_s = 0, -math.inf
        for asked_s in course.asked_s:
            if ends_s - asked_s < key.min_ttl_s:
                requests, ends_s = requests + 1, asked_s + key.life_s
        return requests
    if not course.tokens:
        return 0
    longest_s = key.life_s - LATEST * window_s(key.name.provider, key.life_s)
    return 1 + int((length_s - course.tokens[0].issued_s) / longest_s)


def token_requests(outcome: Outcome, provider: str) -> int:
    return sum(exchange.operation == "token" for exchange in outcome.exchanges[provider])


def worst_minute(exchanges: Sequence[Exchange]) -> int:
    """The most requests within any 60 s."""
    moments, first, worst = [exchange.at_s for exchange in exchanges], 0, 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - MINUTE_S:
            first += 1
        worst = max(worst, last - first + 1)
    return worst


def ended_unrenewed(course: Course, length_s: float) -> list[float]:
    """When tokens of a key that is kept warm ended without a successor."""
    if not course.is_warm or not course.tokens:
        return []
    stored = [token.stored_s for token in course.tokens[1:]] + [length_s]
    return [token.ends_s for token, next_s in zip(course.tokens, stored, strict=True) if token.ends_s < next_s]


@dataclass(frozen=True)
class Outage:
    """What an outage did. `protected`: keys whose token was valid at its start for longer than it lasted;
    `broken_promises`: calls on them that failed. Requests are per key and minute of the outage, but for
    `worst_minute_of_a_key`. `elsewhere`: callers of other providers that waited or failed meanwhile."""

    trouble: Trouble
    keys: int
    protected: int
    broken_promises: tuple[tuple[str, Failed], ...]
    failed: int
    requests_per_key: float
    busiest_key: float
    worst_minute_of_a_key: int
    waited_elsewhere: int
    failed_elsewhere: int


def outages(outcome: Outcome) -> Iterator[Outage]:
    """Each outage of a day, in turn."""
    for trouble in outcome.plan.troubles:
        if trouble.is_outage:
            yield _outage(outcome, trouble)


def _outage(outcome: Outcome, trouble: Trouble) -> Outage:
    start, end, provider = trouble.start_s, trouble.end_s, trouble.provider
    own = [course for course in outcome.courses if course.key.name.provider == provider and course.tokens]
    protected = [course for course in own if (course.ends_s(start) or 0) - start > trouble.length_s]
    broken = tuple(
        (str(course.key.name), failed)
        for course in protected
        for failed in course.failures
        if start <= failed.at_s < end + AFTERMATH_S
    )
    moments: defaultdict[str, list[float]] = defaultdict(list)
    for exchange in between(outcome.exchanges[provider], start, end):
        moments[exchange.connection].append(exchange.at_s)
    minutes, requests = trouble.length_s / MINUTE_S, sum(len(of_key) for of_key in moments.values())
    others = [course for course in outcome.courses if course.key.name.provider != provider and course.is_warm]
    return Outage(
        trouble,
        keys=len(own),
        protected=len(protected),
        broken_promises=broken,
        failed=sum(start <= failed.at_s < end for course in own for failed in course.failures),
        requests_per_key=requests / minutes / max(len(own), 1),
        busiest_key=max((len(of_key) for of_key in moments.values()), default=0) / minutes,
        worst_minute_of_a_key=max((_worst(of_key) for of_key in moments.values()), default=0),
        waited_elsewhere=sum(start <= wait.at_s < end for course in others for wait in course.waits),
        failed_elsewhere=sum(start <= failed.at_s < end for course in others for failed in course.failures),
    )


def between(exchanges: Sequence[Exchange], start_s: float, end_s: float) -> Sequence[Exchange]:
    """They are in the order of their times."""
    return exchanges[bisect_left(exchanges, (start_s,)) : bisect_left(exchanges, (end_s,))]


def per_minute(moments: Iterable[float], length_s: float) -> list[int]:
    """How many fell into each minute."""
    counts = Counter(int(moment // MINUTE_S) for moment in moments)
    return [counts[minute] for minute in range(math.ceil(length_s / MINUTE_S))]


def _worst(moments: Sequence[float]) -> int:
    return worst_minute([Exchange(moment, "", "") for moment in moments])


@dataclass(frozen=True)
class Row:
    """One provider's day. Callers who waited are those of keys that are kept warm, after each key's first."""

    provider: str
    keys: int
    calls: int
    waited: int
    failed: int
    requests: int
    least: int
    by_lifetimes: int
    worst_minute: int
    limit: int | None
    ended_unrenewed: int


def rows(outcome: Outcome, limits: dict[str, int | None]) -> list[Row]:
    """The providers that the day had, and all of them together."""
    found = [_row(outcome, provider, limits[provider]) for provider in PROVIDERS]
    return [row for row in found if row.keys]


def _row(outcome: Outcome, provider: str, limit: int | None) -> Row:
    length_s = outcome.plan.length_s
    own = [course for course in outcome.courses if course.key.name.provider == provider]
    warm = [course for course in own if course.is_warm]
    return Row(
        provider,
        keys=len(own),
        calls=sum(course.calls for course in own),
        waited=sum(len(course.waits) for course in warm),
        failed=sum(len(course.failures) for course in own),
        requests=token_requests(outcome, provider),
        least=sum(least_requests(course, length_s) for course in own),
        by_lifetimes=sum(
            1 + int((length_s - course.tokens[0].issued_s) / course.key.life_s) for course in own if course.tokens
        ),
        worst_minute=worst_minute(outcome.exchanges[provider]),
        limit=limit,
        ended_unrenewed=sum(len(ended_unrenewed(course, length_s)) for course in own),
    )

"""The days to simulate, and the limits that each must hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tests.simulation.day import DAY_S, Course, Outcome, Plan, Rotation, run
from tests.simulation.figures import Outage, Row, outages, rows
from tests.simulation.population import HOUR, PROVIDERS, crowd, population
from tests.simulation.vendors import Trouble
from token_broker.catalogue import load_catalogue

FULL_SIZE = 10_000
OUTAGE_S = 600.0
SLOW_SPELL_S = 1800.0
KINDS = ("503", "unreachable", "hang")
MAX_OVER_LEAST = 1.1
MAX_PER_KEY_AND_MINUTE = 2.0
# Commerce Layer's connections that share one address.
AT_ONE_ADDRESS = 200


@dataclass(frozen=True)
class Line:
    """One limit of a day: what was measured, in words, and whether it holds."""

    name: str
    measured: str
    holds: bool


@dataclass(frozen=True)
class Finding:
    """A simulated day with its figures and limits."""

    title: str
    outcome: Outcome
    rows: list[Row]
    outages: list[Outage]
    lines: list[Line]


@dataclass(frozen=True)
class Scenario:
    """A day to simulate. `judge` gives its limits, besides those of every day."""

    title: str
    plan: Plan
    judge: Callable[[Outcome, list[Row], list[Outage]], Iterator[Line]]

    def simulate(self) -> Finding:
        outcome = run(self.plan)
        limits = {slug: provider.requests_per_minute for slug, provider in load_catalogue().items()}
        found = rows(outcome, limits)
        troubles = list(outages(outcome))
        lines = [*_always(outcome, found), *self.judge(outcome, found, troubles)]
        return Finding(self.title, outcome, found, troubles, lines)


def scenarios(size: int) -> dict[str, Scenario]:
    """All days by name, the longest first. `size`: keys of the two large days. With fewer, some days are shorter."""
    shorter = 1 if size >= FULL_SIZE else 3
    return {
        "faults": Scenario(
            "A day with outages, slow spells and a mass rotation of secrets",
            Plan("faults", population(size), troubles=_troubles(), rotation=Rotation(21 * HOUR, 600)),
            _faults,
        ),
        "steady": Scenario("A steady day", Plan("steady", population(size), length_s=DAY_S / shorter), _steady),
        "no-sweeps": Scenario(
            "A day without sweeps, each key read at least every ten seconds",
            Plan(
                "no-sweeps",
                [
                    key
                    for provider in PROVIDERS
                    for key in crowd(provider, 1 + 2 * size // FULL_SIZE, within_s=60, every_s=10, steady=True)
                ],
                length_s=DAY_S / shorter,
                sweeps=False,
            ),
            _no_waits,
        ),
        "one-address": Scenario(
            "Commerce Layer: 200 connections at one address, in use from one minute to the next; all rotated at once",
            Plan(
                "one-address",
                crowd("commerce-layer", AT_ONE_ADDRESS, within_s=60, every_s=240),
                length_s=DAY_S / 3,
                rotation=Rotation(4.5 * HOUR, 60),
            ),
            _one_address,
        ),
    }


def simulate(name: str, size: int) -> Finding:
    """Simulates one day, in a process of its own."""
    return scenarios(size)[name].simulate()


def _troubles() -> tuple[Trouble, ...]:
    """An outage each hour, each provider in turn, each kind in turn; then slow spells."""
    turns = [(kind, provider) for kind in KINDS for provider in PROVIDERS]
    failing = [Trouble(provider, kind, (2 + turn) * HOUR, OUTAGE_S) for turn, (kind, provider) in enumerate(turns)]
    slow_from = (2 + len(turns)) * HOUR
    slow = [
        Trouble(provider, "slow", slow_from + turn * SLOW_SPELL_S, SLOW_SPELL_S)
        for turn, provider in enumerate(PROVIDERS)
    ]
    return (*failing, *slow)


def _always(outcome: Outcome, found: list[Row]) -> Iterator[Line]:
    yield Line(
        "every token returned was valid, and its vendor accepted it", f"{outcome.broken} not", outcome.broken == 0
    )
    for row in found:
        if row.limit is not None:
            measured = f"{row.worst_minute} of {row.limit}"
            yield Line(f"{row.provider}: requests in the worst minute", measured, row.worst_minute <= row.limit)
    yield Line("no vendor answered 429", f"{outcome.rate_limited} times", outcome.rate_limited == 0)
    yield Line("no message reached the dead-letter queue", f"{outcome.dead_letters}", outcome.dead_letters == 0)


def _steady(outcome: Outcome, found: list[Row], _: list[Outage]) -> Iterator[Line]:
    yield from _no_waits(outcome, found, _)
    waited = sum(
        course.first_wait_s > 0 or course.failed_before > 0
        for course in outcome.courses
        if course.key.keep_warm == "always" and course.first_s is not None
    )
    yield Line("keys kept always warm: first callers who waited", str(waited), waited == 0)
    for row in [*found, _total(found)]:
        ratio = row.requests / row.least
        measured = f"{row.requests:,} / {row.least:,} = {ratio:.3f}"
        yield Line(f"{row.provider}: token requests over the least", measured, ratio <= MAX_OVER_LEAST)


def _no_waits(outcome: Outcome, found: list[Row], _: list[Outage]) -> Iterator[Line]:
    """A token of an old secret is replaced before it is served, so after a rotation one caller of each key may wait."""
    after_rotation = [_waits_after_rotation(outcome, course) for course in outcome.courses if course.is_warm]
    waited = sum(row.waited for row in found) - sum(after_rotation)
    failed = sum(row.failed for row in found)
    calls = sum(row.calls for row in found)
    yield Line("callers who waited after each key's first", f"{waited} of {calls:,}", waited == 0)
    yield Line("callers who failed after each key's first", f"{failed} of {calls:,}", failed == 0)
    expired = sum(row.expired_unrenewed for row in found)
    yield Line("tokens that expired unrenewed", str(expired), expired == 0)
    yield Line("keys with callers and without a token", str(_unserved(outcome)), _unserved(outcome) == 0)
    if outcome.plan.rotation is not None:
        most = max(after_rotation)
        yield Line("callers of one key who waited after the rotation", f"{most} at most", most <= 1)


def _waits_after_rotation(outcome: Outcome, course: Course) -> int:
    rotation = outcome.plan.rotation
    if rotation is None:
        return 0
    first_event_s = rotation.start_s + rotation.event_after_s
    return sum(first_event_s <= wait.at_s < first_event_s + rotation.length_s + HOUR for wait in course.waits)


def _faults(outcome: Outcome, _: list[Row], found: list[Outage]) -> Iterator[Line]:
    for outage in found:
        name = f"{outage.trouble.provider} {outage.trouble.kind}"
        broken = outage.broken_promises
        measured = f"{broken} on {outage.protected:,} such keys"
        yield Line(f"{name}: failed calls on keys whose token was valid for longer", measured, broken == 0)
        measured = f"{outage.requests_per_key:.2f}, busiest key {outage.busiest_key:.2f}"
        holds = outage.busiest_key < MAX_PER_KEY_AND_MINUTE
        yield Line(f"{name}: requests per key and minute of the outage", measured, holds)
        failed = outage.failed_elsewhere
        yield Line(f"{name}: callers of the other providers who failed", str(failed), failed == 0)
    rotation = outcome.plan.rotation
    if rotation is not None:
        until_s = rotation.start_s + rotation.length_s + HOUR
        failed = sum(
            rotation.start_s <= failure.at_s < until_s for course in outcome.courses for failure in course.failures
        )
        yield Line("callers who failed in or after the rotation", str(failed), failed == 0)


def _one_address(outcome: Outcome, found: list[Row], _: list[Outage]) -> Iterator[Line]:
    yield from _no_waits(outcome, found, _)
    (row,) = found
    last_s = max(course.first_s or outcome.plan.length_s for course in outcome.courses)
    # The broker uses half the published limit, and the workers two thirds of that.
    least_s = 60 * AT_ONE_ADDRESS / ((row.limit or 1) // 2 * 2 // 3)
    measured = f"after {last_s / 60:.1f} min; the budget alone takes {least_s / 60:.1f}"
    yield Line("every key had its first token", measured, last_s <= 2 * least_s)


def _unserved(outcome: Outcome) -> int:
    return sum(course.first_s is None and course.calls > 0 for course in outcome.courses)


def _total(found: list[Row]) -> Row:
    whole = found[0]
    for row in found[1:]:
        whole = replace(whole, requests=whole.requests + row.requests, least=whole.least + row.least)
    return replace(whole, provider="all")

"""The course of each provider's token on the built functions: fetched, handed out again, used, and renewed unasked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from typing import Any, Final

from local.client import BrokerResponse, SignedClient
from local.connections import DEMO_PROVIDERS, NAME
from local.demo_course import CACHED, Course
from local.stack import Stack
from tests.integration.handlers.world import Aws

TIME_SCALE: Final = 1 / 10
LIFETIME_S: Final = 600.0  # no token ends while the tests run, however slow the machine
LIFETIMES_S: Final = {"commerce-layer": 80.0}  # it gives a new token in its last 15 min only: 90 s here
OVERDUE: Final = {"due_at": timedelta(minutes=-1), "renew_at": timedelta(minutes=-1)}
PATIENCE_S: Final = 60.0


def run_courses(stack: Stack) -> list[Course]:
    """All providers side by side. Whatever did not hold is among a course's faults."""
    courses = [Course(provider, stack) for provider in DEMO_PROVIDERS]
    with ThreadPoolExecutor(len(courses)) as callers:
        for _ in callers.map(lambda course: _run(stack, course), courses):
            pass
    return courses


def _run(stack: Stack, course: Course) -> None:
    course.simulator.configure(lifetime_s=LIFETIMES_S.get(course.provider, LIFETIME_S))
    course.begin()
    if course.token_id is None:
        return
    Aws(stack.endpoint_url, stack.resources).change_token_item(f"{course.provider}/{NAME}", **OVERDUE)
    # Nobody asks for the token meanwhile, for a reader that meets an overdue key queues it as well.
    with closing(SignedClient(stack.url)) as client:
        course.renewed = handed_out_after(client, f"{course.provider}/{NAME}", course.token_id)
    course.requests_made = course.simulator.report()["token_requests"]
    course._expect(course.requests_made == 2, f"{course.requests_made} token requests for two tokens")
    course._expect(course.renewed.body.get("source") in CACHED, "the renewed token was fetched once more")
    course._use(course.renewed)


def handed_out_after(client: SignedClient, connection: str, token_id: str) -> BrokerResponse:
    """The hand-out of the token that comes after this one. An environment that knows the old one, still valid, may give
    it from memory for 30 s."""
    shown = asked_until(client, f"/v1/connections/{connection}", lambda body: body["tokens"][0]["token_id"] != token_id)
    new = shown.body["tokens"][0]["token_id"]
    return asked_until(client, f"/v1/tokens/{connection}", lambda body: body["token_id"] == new)


def asked_until(client: SignedClient, path: str, enough: Callable[[Any], bool]) -> BrokerResponse:
    """GET until a success has the body wanted. A refusal is asked again, as callers would."""
    give_up, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while True:
        answer = client.call("GET", path)
        if answer.status == 200 and enough(answer.body):
            return answer
        if time.monotonic() > give_up:
            raise AssertionError(f"GET {path} went on to answer {answer.status}, and not with what was wanted")
        pause.wait(0.2)


def told(courses: Sequence[Course]) -> Iterator[str]:
    """A line for each provider: its tokens by their ids, and where they came from."""
    for course in courses:
        first, second, renewed = (
            (answer.body if answer else {}) for answer in (course.first, course.second, course.renewed)
        )
        yield (
            f"  {course.provider:<16} {first.get('token_id')} from {first.get('source')} and {second.get('source')}, "
            f"renewed as {renewed.get('token_id')}"
        )


def secrets_of(stack: Stack) -> list[str]:
    """Every password, client secret, token, refresh token and code that the simulated providers know."""
    found: list[str] = []
    for provider in DEMO_PROVIDERS:
        simulator = stack.providers.simulator(provider)
        for account in simulator.accounts.values():
            found += [value for name, value in account.secret.items() if name in ("client_secret", "password")]
        for kind in ("_codes", "_refresh_tokens"):
            found += getattr(simulator, kind, {})
        found += simulator.tokens._tokens
    return found

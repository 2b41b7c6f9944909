"""The life of each provider's token on the built functions: acquired, returned again, used, and renewed in advance."""

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
from local.demo_run import CACHED, DemoRun
from local.stack import Stack
from tests.integration.handlers.world import Aws

TIME_SCALE: Final = 1 / 10
LIFETIME_S: Final = 600.0  # no token expires during the tests, even on a slow machine
LIFETIMES_S: Final = {"commerce-layer": 80.0}  # it issues a new token only in the last 15 min: 90 s here
OVERDUE: Final = {"due_at": timedelta(minutes=-1), "renew_at": timedelta(minutes=-1)}
PATIENCE_S: Final = 60.0


def run_all(stack: Stack) -> list[DemoRun]:
    """Runs all providers at the same time. A run's `faults` say what went wrong."""
    runs = [DemoRun(provider, stack) for provider in DEMO_PROVIDERS]
    with ThreadPoolExecutor(len(runs)) as callers:
        for _ in callers.map(lambda run: _run(stack, run), runs):
            pass
    return runs


def _run(stack: Stack, run: DemoRun) -> None:
    run.simulator.configure(lifetime_s=LIFETIMES_S.get(run.provider, LIFETIME_S))
    run.begin()
    if run.token_id is None:
        return
    Aws(stack.endpoint_url, stack.resources).change_token_item(f"{run.provider}/{NAME}", **OVERDUE)
    # No request is sent meanwhile, because a request for an overdue key queues its renewal too.
    with closing(SignedClient(stack.url)) as client:
        run.renewed = token_after(client, f"{run.provider}/{NAME}", run.token_id)
    run.requests_made = run.simulator.report()["token_requests"]
    run._expect(run.requests_made == 2, f"{run.requests_made} token requests for two tokens")
    run._expect(run.renewed.body.get("source") in CACHED, "the renewed token was fetched once more")
    run._use(run.renewed)


def token_after(client: SignedClient, connection: str, token_id: str) -> BrokerResponse:
    """The response with the next token. Until then, environments may return the old one from memory for 30 s."""
    shown = get_until(client, f"/v1/connections/{connection}", lambda body: body["tokens"][0]["token_id"] != token_id)
    new = shown.body["tokens"][0]["token_id"]
    return get_until(client, f"/v1/tokens/{connection}", lambda body: body["token_id"] == new)


def get_until(client: SignedClient, path: str, enough: Callable[[Any], bool]) -> BrokerResponse:
    """Repeats GET until a success has the wanted body. Errors are retried, as callers do."""
    give_up, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while True:
        response = client.call("GET", path)
        if response.status == 200 and enough(response.body):
            return response
        if time.monotonic() > give_up:
            raise AssertionError(f"GET {path} kept returning {response.status}, and not with what was wanted")
        pause.wait(0.2)


def summary(runs: Sequence[DemoRun]) -> Iterator[str]:
    """A line for each provider: its token_ids and sources."""
    for run in runs:
        first, second, renewed = (
            (response.body if response else {}) for response in (run.first, run.second, run.renewed)
        )
        yield (
            f"  {run.provider:<16} {first.get('token_id')} from {first.get('source')} and {second.get('source')}, "
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

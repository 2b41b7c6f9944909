"""Several emulators at once: a burst on cold ones, and one that Lambda kills in the middle of an acquisition."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from local.client import BrokerResponse, SignedClient
from local.environments import EnvironmentPool
from local.stack import Stack
from tests.e2e.connections import connect
from tests.e2e.emulator import Emulator

pytestmark = pytest.mark.e2e

MakeClient = Callable[..., SignedClient]
FUNCTION = "GetTokenFunction"
EMULATORS = 4
CALLERS = 20
# Exchanges of 2 s in acquisitions of 3 s under leases of 4.25 s; a caller waits 2.5 s.
LEASE_SCALE = "0.25"
TIMEOUT_S = 7.0  # less than an acquisition before its end, less 2 s, a function does not begin one
PATIENCE = 30


def test_a_burst_over_cold_emulators_asks_the_provider_once(
    stack: Stack, client: SignedClient, make_client: MakeClient
) -> None:
    path, simulator = connect(stack, client, "oauth2", "burst"), stack.providers.simulator("oauth2")
    before = simulator.report()["token_requests"]
    simulator.fail("delay", seconds=1.0)
    with stack.make_pool(FUNCTION, size=EMULATORS) as cold, ThreadPoolExecutor(CALLERS) as callers:
        clients = [make_client(**{FUNCTION: cold}) for _ in range(CALLERS)]
        answers = list(callers.map(lambda client: client.call("GET", path), clients))
        assert len(cold.pids) == EMULATORS
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body["token_id"] for answer in answers}) == 1
    assert simulator.report()["token_requests"] - before == 1


def test_a_function_that_times_out_in_an_acquisition_holds_nobody_up_longer_than_its_lease(
    stack: Stack, client: SignedClient, make_client: MakeClient
) -> None:
    path, simulator = connect(stack, client, "oauth2", "lost"), stack.providers.simulator("oauth2")
    with short_leases(stack) as doomed, short_leases(stack) as other, ThreadPoolExecutor(1) as callers:
        unlucky, lucky = make_client(**{FUNCTION: doomed}), make_client(**{FUNCTION: other})
        # What is loaded at the first acquisition is not to count against the short deadlines.
        for number, caller in enumerate((unlucky, lucky)):
            assert patiently(caller, connect(stack, client, "oauth2", f"warm-{number}")).status == 200
        before = simulator.report()["token_requests"]

        simulator.fail("hang")
        lost = callers.submit(unlucky.call, "GET", path)
        assert simulator.waits.until_held(1, TIMEOUT_S)
        stop(doomed)
        refused = lucky.call("GET", path)
        assert (refused.status, refused.body["code"]) == (503, "acquisition_in_progress")
        answer = lost.result()
        assert (answer.status, answer.body["code"]) == (503, "broker_unavailable")

        taken_over = patiently(lucky, path)
        assert (taken_over.status, taken_over.body["source"]) == (200, "provider")
        assert simulator.report()["token_requests"] - before == 2
        again = patiently(unlucky, path)
        assert (again.status, again.body["token_id"]) == (200, taken_over.body["token_id"])
    simulator.clear_faults()


def short_leases(stack: Stack) -> EnvironmentPool:
    """One emulator of the function."""
    return stack.make_pool(FUNCTION, size=1, timeout_s=TIMEOUT_S, TOKEN_BROKER_LEASE_SCALE=LEASE_SCALE)


def stop(pool: EnvironmentPool) -> None:
    """The function stands still from now on, so that it cannot end the acquisition by itself."""
    (emulator,) = pool._all
    assert isinstance(emulator, Emulator)
    assert emulator.runtime_pid
    os.kill(emulator.runtime_pid, signal.SIGSTOP)


def patiently(client: SignedClient, path: str) -> BrokerResponse:
    """The first answer that is not told to wait."""
    pause = threading.Event()
    for _ in range(PATIENCE):
        answer = client.call("GET", path)
        if answer.status != 503:
            return answer
        pause.wait(0.1)
    raise AssertionError(f"GET {path} is told to wait again and again")

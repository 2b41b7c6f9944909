"""Several emulators at once: a burst on cold ones, and one that Lambda kills during an acquisition."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from local.client import BrokerResponse, SignedClient
from local.lambda_environments import EnvironmentPool
from local.stack import Stack
from tests.e2e.connections import connect
from tests.e2e.emulator import Emulator

pytestmark = pytest.mark.e2e

MakeClient = Callable[..., SignedClient]
FUNCTION = "GetTokenFunction"
EMULATORS = 4
CALLERS = 20
# Exchanges take at most 2 s, acquisitions 3 s, leases 4.25 s. A caller waits while the lease is younger than 1 s.
LEASE_SCALE = "0.25"
TIMEOUT_S = 7.0  # a function starts no acquisition that cannot finish 2 s before its time-out
PATIENCE = 100


def test_a_burst_over_cold_emulators_asks_the_provider_once(
    stack: Stack, client: SignedClient, make_client: MakeClient
) -> None:
    path, simulator = connect(stack, client, "oauth2", "burst"), stack.providers.simulator("oauth2")
    before = simulator.report()["token_requests"]
    simulator.fail("delay", seconds=1.0)
    with stack.make_pool(FUNCTION, size=EMULATORS) as cold, ThreadPoolExecutor(CALLERS) as callers:
        clients = [make_client(**{FUNCTION: cold}) for _ in range(CALLERS)]
        responses = list(callers.map(lambda client: client.call("GET", path), clients))
        assert len(cold.pids) == EMULATORS
    assert {response.status for response in responses} == {200}
    assert len({response.body["token_id"] for response in responses}) == 1
    assert simulator.report()["token_requests"] - before == 1


def test_a_function_that_times_out_in_an_acquisition_blocks_others_no_longer_than_its_lease(
    stack: Stack, client: SignedClient, make_client: MakeClient
) -> None:
    path, simulator = connect(stack, client, "oauth2", "lost"), stack.providers.simulator("oauth2")
    with short_leases(stack) as doomed, short_leases(stack) as other, ThreadPoolExecutor(1) as callers:
        unlucky, lucky = make_client(**{FUNCTION: doomed}), make_client(**{FUNCTION: other})
        # The imports of the first acquisition must not count against the short deadlines.
        for number, caller in enumerate((unlucky, lucky)):
            assert patiently(caller, connect(stack, client, "oauth2", f"warm-{number}")).status == 200
        before = simulator.report()["token_requests"]

        simulator.fail("hang")
        lost = callers.submit(unlucky.call, "GET", path)
        assert simulator.waits.until_held(1, TIMEOUT_S)
        stop(doomed)
        refused = lucky.call("GET", path)
        assert (refused.status, refused.body["code"]) == (503, "acquisition_in_progress")
        response = lost.result()
        assert (response.status, response.body["code"]) == (503, "broker_unavailable")

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
    """Stops the function's process, so that it cannot finish the acquisition."""
    (emulator,) = pool._all
    assert isinstance(emulator, Emulator)
    assert emulator.runtime_pid
    os.kill(emulator.runtime_pid, signal.SIGSTOP)


def patiently(client: SignedClient, path: str) -> BrokerResponse:
    """The first response that does not ask to wait."""
    pause = threading.Event()
    for _ in range(PATIENCE):
        response = client.call("GET", path)
        if response.status != 503:
            return response
        pause.wait(0.1)
    raise AssertionError(f"GET {path} still responds that the caller must wait")

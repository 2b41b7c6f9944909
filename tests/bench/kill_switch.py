"""The kill switch: how long after DELETE /v1/tokens/... any environment still returns the purged token.

One caller sends requests without a pause. The pool gives each call to the environment that has been idle longest, so as
many calls as environments reach all of them. All have read the token just before the purge, so their memory is valid
for nearly 30 s.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import Final

from local.client import SignedClient
from local.stack import Options, Stack
from tests.bench.figure import Amount, Finding
from tests.bench.scale import Progress, Scale
from tests.bench.stampede import connect

MEMORY_S: Final = 30.0
GIVE_UP: Final = 2  # in multiples of the memory's time


def measure(scale: Scale, progress: Progress) -> list[Finding]:
    """Seconds from the response of DELETE to the last response with the purged token."""
    options = Options(api_environments=scale.environments, ticks=False, time_scale=scale.kill_time_scale)
    bar_s = MEMORY_S * scale.kill_time_scale
    with Stack(options, progress) as stack, closing(SignedClient(stack.url)) as client:
        progress(f"kill switch: {bar_s:g} s")
        # The first call of each environment is slow because of imports.
        _ask_each(client, connect(stack, "warm"), scale.environments)
        name = connect(stack, "purged")
        purged = _ask_each(client, name, scale.environments)
        assert len(set(purged)) == 1, "the environments have different tokens"
        response = client.call("DELETE", f"/v1/tokens/{name}")
        assert response.status == 200, response.body
        last_s, calls = _last_returned(client, name, purged[0], scale.environments, GIVE_UP * bar_s)
    conditions = {"environments": scale.environments, "calls_meanwhile": calls}
    return [Amount("a purged token is returned for at most", round(last_s, 2), "seconds", bar_s, 1, conditions)]


def _ask(client: SignedClient, name: str) -> str:
    """The token_id of one response."""
    response = client.call("GET", f"/v1/tokens/{name}")
    assert response.status == 200, response.body
    return str(response.body["token_id"])


def _ask_each(client: SignedClient, name: str, environments: int) -> list[str]:
    return [_ask(client, name) for _ in range(environments)]


def _last_returned(
    client: SignedClient, name: str, purged: str, environments: int, give_up_s: float
) -> tuple[float, int]:
    """Seconds until the last response with the purged token, and calls until every environment returned another.

    Raises AssertionError if one never does.
    """
    started, last_s, calls, others = time.perf_counter(), 0.0, 0, 0
    # Twice the number of environments, because a repeated call changes the order.
    while others < 2 * environments:
        is_purged = _ask(client, name) == purged
        now_s = time.perf_counter() - started
        calls, others = calls + 1, 0 if is_purged else others + 1
        if is_purged:
            last_s = now_s
        assert now_s < give_up_s, "an environment still hands the purged token out"
    return last_s, calls

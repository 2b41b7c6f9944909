"""The kill switch: how long after DELETE /v1/tokens/... answered any environment still hands out the purged token.

One caller asks without a pause. The pool gives each call to the environment that has rested longest, so that as many
calls as there are environments ask every one of them. All have read the token just before it is purged: memory then
has nearly all of its 30 s before it.
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
GIVE_UP: Final = 2  # times the memory's time


def measure(scale: Scale, progress: Progress) -> list[Finding]:
    """Seconds from the answer of DELETE to the last answer with the purged token."""
    options = Options(api_environments=scale.environments, ticks=False, time_scale=scale.kill_time_scale)
    bar_s = MEMORY_S * scale.kill_time_scale
    with Stack(options, progress) as stack, closing(SignedClient(stack.url)) as client:
        progress(f"kill switch: {bar_s:g} s")
        # The first call of each environment imports what it needs, which takes a while.
        _ask_each(client, connect(stack, "warm"), scale.environments)
        name = connect(stack, "purged")
        purged = _ask_each(client, name, scale.environments)
        assert len(set(purged)) == 1, "the environments have different tokens"
        response = client.call("DELETE", f"/v1/tokens/{name}")
        assert response.status == 200, response.body
        last_s, calls = _last_seen(client, name, purged[0], scale.environments, GIVE_UP * bar_s)
    conditions = {"environments": scale.environments, "calls_meanwhile": calls}
    return [Amount("a purged token is handed out for at most", round(last_s, 2), "seconds", bar_s, 1, conditions)]


def _ask(client: SignedClient, name: str) -> str:
    """The token_id of one hand-out."""
    response = client.call("GET", f"/v1/tokens/{name}")
    assert response.status == 200, response.body
    return str(response.body["token_id"])


def _ask_each(client: SignedClient, name: str, environments: int) -> list[str]:
    return [_ask(client, name) for _ in range(environments)]


def _last_seen(client: SignedClient, name: str, purged: str, environments: int, give_up_s: float) -> tuple[float, int]:
    """Seconds from now to the last answer with the purged token, and the calls until every environment had another.

    Raises AssertionError if some never has.
    """
    started, last_s, calls, others = time.perf_counter(), 0.0, 0, 0
    # Twice over all of them, for a call that failed and was made again would move the order.
    while others < 2 * environments:
        is_purged = _ask(client, name) == purged
        now_s = time.perf_counter() - started
        calls, others = calls + 1, 0 if is_purged else others + 1
        if is_purged:
            last_s = now_s
        assert now_s < give_up_s, "an environment still hands the purged token out"
    return last_s, calls

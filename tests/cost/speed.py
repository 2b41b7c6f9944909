"""The processor time of handlers on the machine that writes the page. It is shown and not checked."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import timedelta

from tests.cost.courses import Bench, put_clock_on, quiet
from token_broker import bootstrap
from token_broker.core.names import ConnectionName

REPETITIONS = 100


def measure(bench: Bench) -> str:
    """A paragraph and a table: the median of the handler's own thread, in milliseconds."""
    world = bench.new_world()
    name = world.connect("unidy")
    function, event = world.api.event("GET", f"/v1/tokens/{name}")

    def get() -> None:
        world.functions.invoke(function, event)

    def forget() -> None:
        bootstrap.broker()._get_token.forget(ConnectionName(*name.split("/")))

    turns = iter(range(1, REPETITIONS + 1))
    with quiet():
        get()
        found = {
            "from memory": _median(get),
            "from the table, token opened before": _median(
                get, lambda: put_clock_on(timedelta(seconds=31 * next(turns)))
            ),
            "from the table, token not opened before": _median(get, forget),
            "sweep of an empty minute": _median(world.sweep),
        }
    rows = "\n".join(f"| {course} | {ms:.1f} |" for course, ms in found.items())
    return (
        f"Median of {REPETITIONS} warm invocations each, on the machine that wrote this page ({os.cpu_count()} cores, "
        f"{platform.system()}, Python {platform.python_version()}), possibly busy with\n"
        "other work: processor time of the handler's thread, without the AWS side.\n"
        "\n| course | CPU, ms |\n|---|---|\n" + rows
    )


def _median(run: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> float:
    taken = []
    for _ in range(REPETITIONS):
        prepare()
        before = time.thread_time()
        run()
        taken.append(time.thread_time() - before)
    return 1000 * statistics.median(taken)

"""`make demo`: follows a token of each provider on the local stack, from the first request to its renewal by the sweep.

The broker's and the providers' durations are divided by 60, so that a 20 minute token lives 20 seconds.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from rich.console import Console

from local.connections import DEMO_PROVIDERS
from local.demo_report import print_report
from local.demo_run import DemoRun
from local.process import LOGS
from local.stack import Options, Stack

TIME_SCALE: Final = 1 / 60
LIFETIME_S: Final = 20  # of a token, by this machine's clock
REPORT_WIDTH: Final = 100  # without a terminal
TIME_LIMIT_S: Final = 45.0  # more than two lifetimes
ShowProgress = Callable[[str], None]


def demo() -> int:
    """Run all of it and print the table: 0 if all of it worked, else 1."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=REPORT_WIDTH)
    # Unicommerce gives no lifetime. The connection's setting does, and the broker scales it like its own durations.
    settings = {"unicommerce": {"lifetime_s": round(LIFETIME_S / TIME_SCALE)}}
    options = Options(time_scale=TIME_SCALE, settings=settings)
    with _progress(console) as show, Stack(options, lambda step: show(f"starting: {step}")) as stack:
        runs = [DemoRun(provider, stack) for provider in DEMO_PROVIDERS]
        for run in runs:
            show(f"first and second token of {run.provider}")
            run.simulator.configure(lifetime_s=LIFETIME_S)
            run.begin()
        _follow(runs, show)
        show("stopping")
    return 0 if print_report(console, runs, LOGS) else 1


def _follow(runs: Sequence[DemoRun], show: ShowProgress) -> None:
    """Request every provider's token side by side, until each was renewed or the time limit is reached."""
    give_up = threading.Event()
    with ThreadPoolExecutor(len(runs)) as callers:
        following = [callers.submit(run.follow, give_up) for run in runs]
        try:
            for second in range(round(TIME_LIMIT_S)):
                waiting = [run.provider for run, future in zip(runs, following, strict=True) if not future.done()]
                if not waiting:
                    break
                renewed = len(runs) - len(waiting)
                show(f"waiting for the renewals: {second} s, {renewed} of {len(runs)} renewed")
                give_up.wait(1.0)
        finally:
            give_up.set()
    for future in following:
        future.result()


@contextmanager
def _progress(console: Console) -> Iterator[ShowProgress]:
    """A function that shows progress: on one line of a terminal, elsewhere on a line per step."""
    if console.is_terminal:
        with console.status("starting") as status:
            yield status.update
        return
    shown: set[str] = set()

    def show(text: str) -> None:
        # Without the seconds, so that each step is one line.
        step = text.partition(":")[0] if text.startswith("waiting") else text
        if step not in shown:
            shown.add(step)
            console.print(step)

    yield show

"""`make demo`: a token of each provider, from the first request to its renewal by the sweep, on the real local stack.

Time runs 60 times faster for the broker's and the providers' durations, so that a 20 minute token lives 20 seconds.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from rich.console import Console

from local.connections import DEMO_PROVIDERS
from local.demo_course import Course
from local.demo_report import print_report
from local.process import LOGS
from local.stack import Options, Stack

TIME_SCALE: Final = 1 / 60
LIFETIME_S: Final = 20  # of a token by this machine's clock
REPORT_WIDTH: Final = 100  # where there is no terminal to ask
PATIENCE_S: Final = 45.0  # more than two lifetimes
Tell = Callable[[str], None]


def demo() -> int:
    """Run it all and print the table: 0 if all of it held, else 1."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=REPORT_WIDTH)
    # Unicommerce tells no lifetime: the connection's setting does, which the broker scales like its own durations.
    settings = {"unicommerce": {"lifetime_s": round(LIFETIME_S / TIME_SCALE)}}
    options = Options(time_scale=TIME_SCALE, settings=settings)
    with _telling(console) as tell, Stack(options, lambda step: tell(f"starting: {step}")) as stack:
        courses = [Course(provider, stack) for provider in DEMO_PROVIDERS]
        for course in courses:
            tell(f"first and second token of {course.provider}")
            course.simulator.configure(lifetime_s=LIFETIME_S)
            course.begin()
        _follow(courses, tell)
        tell("stopping")
    return 0 if print_report(console, courses, LOGS) else 1


def _follow(courses: Sequence[Course], tell: Tell) -> None:
    """Keep asking for every provider's token side by side, until each was renewed or patience ends."""
    give_up = threading.Event()
    with ThreadPoolExecutor(len(courses)) as callers:
        following = [callers.submit(course.follow, give_up) for course in courses]
        try:
            for second in range(round(PATIENCE_S)):
                waiting = [
                    course.provider for course, future in zip(courses, following, strict=True) if not future.done()
                ]
                if not waiting:
                    break
                renewed = len(courses) - len(waiting)
                tell(f"callers ask on, tokens come due: {second} s, {renewed} of {len(courses)} renewed")
                give_up.wait(1.0)
        finally:
            give_up.set()
    for future in following:
        future.result()


@contextmanager
def _telling(console: Console) -> Iterator[Tell]:
    """Progress: one line that changes on a terminal, a line per step elsewhere."""
    if console.is_terminal:
        with console.status("starting") as status:
            yield status.update
        return
    told: set[str] = set()

    def tell(text: str) -> None:
        # Without a terminal the passing seconds are left out, so that each step is one line.
        step = text.partition(":")[0] if text.startswith("callers") else text
        if step not in told:
            told.add(step)
            console.print(step)

    yield tell

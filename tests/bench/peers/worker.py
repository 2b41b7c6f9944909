"""A process of callers: `python -m tests.bench.peers.worker`, in the environment with the peer.

The first line of standard input is the task as JSON. After imports and set-up the process prints "ready" and waits for
the line "go", so that all processes start at the same moment. Then it prints the result as one line of JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Final

from tests.bench.peers.callers import CALLERS, Ask, NoToken, Target
from tests.bench.peers.result import TOKEN, Answer, CallResults, Hit

LONGEST_MESSAGE: Final = 90


@dataclass(frozen=True)
class Task:
    """`kind`: cold (`count` threads call once, together), failing (one calls `count` times) or hit (as failing).

    `patience_s`: a failing caller gives up after this time. `pause_s`: its pause between calls.
    """

    caller: str
    target: Target
    kind: str
    count: int
    patience_s: float = 60.0
    pause_s: float = 0.0

    @classmethod
    def from_json(cls, text: str) -> Task:
        document = json.loads(text)
        return cls(**{**document, "target": Target(**document["target"])})


def main() -> None:
    task = Task.from_json(sys.stdin.readline())
    ask = CALLERS[task.caller](task.target)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.write(json.dumps(KINDS[task.kind](ask, task)) + "\n")


def cold(ask: Ask, task: Task) -> dict[str, Any]:
    """As `CallResults`, without token requests, which the provider counts."""
    barrier = threading.Barrier(task.count)

    def call(_: int) -> tuple[str, float]:
        barrier.wait()
        return _outcome(ask, task)

    with ThreadPoolExecutor(task.count) as threads:
        return asdict(_asked(list(threads.map(call, range(task.count)))))


def failing(ask: Ask, task: Task) -> dict[str, Any]:
    """As `CallResults`, of one caller that calls repeatedly."""
    outcomes = [_outcome(ask, task)]
    while len(outcomes) < task.count and sum(seconds for _, seconds in outcomes) < task.patience_s:
        time.sleep(task.pause_s)
        outcomes.append(_outcome(ask, task))
    return asdict(_asked(outcomes))


def hit(ask: Ask, task: Task) -> dict[str, Any]:
    """As `Hit`, without token requests. The first call gets the token and is not timed."""
    ask()
    taken = []
    for _ in range(task.count):
        started = time.perf_counter_ns()
        ask()
        taken.append(time.perf_counter_ns() - started)
    return asdict(Hit.of(taken))


KINDS: dict[str, Callable[[Ask, Task], dict[str, Any]]] = {"cold": cold, "failing": failing, "hit": hit}


def _outcome(ask: Ask, task: Task) -> tuple[str, float]:
    """What the caller got, in words, and the seconds that it took."""
    started = time.perf_counter()
    try:
        ask()
        what = TOKEN
    except Exception as error:  # noqa: BLE001  # any error of a library is a result here
        what = _in_words(error, task.target)
    return what, time.perf_counter() - started


def _in_words(error: Exception, target: Target) -> str:
    """The exception's package, name and message, without the address, which differs from run to run."""
    message = " ".join(str(error).split())
    if isinstance(error, NoToken):
        return message
    if target.token_url:
        message = message.replace(target.token_url, "the token endpoint")
    if len(message) > LONGEST_MESSAGE:
        message = f"{message[:LONGEST_MESSAGE]}…"
    name = f"{type(error).__module__.partition('.')[0]}'s {type(error).__qualname__}"
    return f"{name}: {message}" if message else name


def _asked(outcomes: list[tuple[str, float]]) -> CallResults:
    answers = tuple(Answer(what, times) for what, times in Counter(what for what, _ in outcomes).items())
    return CallResults(0, answers, round(max(seconds for _, seconds in outcomes), 3))


if __name__ == "__main__":
    main()

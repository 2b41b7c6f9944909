"""Virtual time: the order of events, sleeping actions, and the end."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from tests.simulation.loop import Loop

START = datetime(2026, 11, 22, tzinfo=UTC)


def test_planned_actions_run_in_the_order_of_their_time() -> None:
    loop = Loop(START)
    found = list[tuple[str, float]]()
    for name, after in (("c", 2.0), ("a", 1.0), ("d", 2.0), ("late", 11.0)):
        loop.after(after, lambda name=name: found.append((name, loop.seconds)))  # type: ignore[misc]
    loop.run(START + timedelta(seconds=10))
    assert found == [("a", 1.0), ("c", 2.0), ("d", 2.0)]
    assert loop() == START + timedelta(seconds=10)


def test_while_one_action_sleeps_one_other_runs() -> None:
    loop = Loop(START)
    found = list[str]()
    running = threading.Lock()

    def act(name: str, *sleeps: float) -> None:
        for number, length in enumerate(sleeps):
            assert running.acquire(blocking=False)
            found.append(f"{name}{number} at {loop.seconds:g}")
            running.release()
            loop.sleep(length)

    loop.at(START, lambda: act("a", 5, 5))
    loop.after(1, lambda: act("b", 1, 1, 4, 1))
    loop.run(START + timedelta(seconds=60))
    assert found == ["a0 at 0", "b0 at 1", "b1 at 2", "b2 at 3", "a1 at 5", "b3 at 7"]


def test_an_action_that_still_sleeps_at_the_end_is_unwound() -> None:
    loop = Loop(START)
    found = list[str]()

    def act() -> None:
        try:
            loop.sleep(100)
            found.append("woke")
        finally:
            found.append("unwound")

    before = threading.active_count()
    loop.at(START, act)
    loop.after(1, lambda: None)
    loop.run(START + timedelta(seconds=10))
    assert found == ["unwound"]
    assert threading.active_count() == before


def test_an_error_of_an_action_ends_the_run() -> None:
    loop = Loop(START)

    def act() -> None:
        loop.sleep(1)
        raise ZeroDivisionError

    loop.at(START, act)
    loop.after(0.5, lambda: loop.sleep(10))
    with pytest.raises(ZeroDivisionError):
        loop.run(START + timedelta(seconds=10))

"""Many callers at once on simulated time. One thread runs at a time, and the order is always the same."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from tests.fakes.clock import HandClock


class Actor:
    """One caller. Has `result` or `error` after it ended, at `ended_at`."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: Exception | None = None
        self.started_at: datetime | None = None
        self.ended_at: datetime | None = None
        self._action = action
        self._turn = threading.Semaphore(0)
        self._paused = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._live, daemon=True)
        self.has_ended = False

    def waited(self) -> timedelta:
        assert self.started_at is not None
        assert self.ended_at is not None
        return self.ended_at - self.started_at

    def go_on(self) -> None:
        """For the scheduler's thread: lets the actor run until it pauses or ends."""
        if self._thread.ident is None:
            self._thread.start()
        self._turn.release()
        self._paused.acquire()

    def pause(self) -> None:
        """For the actor's own thread: waits for its next turn."""
        self._paused.release()
        self._turn.acquire()

    def _live(self) -> None:
        self._turn.acquire()
        try:
            self.result = self._action()
        except Exception as error:  # noqa: BLE001  # the test checks every error
            self.error = error
        self.has_ended = True
        self._paused.release()


class Simulation:
    """Runs actors on a hand-driven clock. When one sleeps, the actor whose time comes first goes on."""

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self._order = count()
        self._waiting: list[tuple[datetime, int, Actor]] = []
        self._running: Actor | None = None

    def start(self, action: Callable[[], Any], *, after: float = 0) -> Actor:
        """Plans an actor. It starts in `run`."""
        actor = Actor(action)
        self._plan(actor, after)
        return actor

    def sleep(self, seconds: float) -> None:
        """For actors: pauses until the clock has moved on by this much."""
        actor = self._running
        if actor is None:
            self._clock.advance(seconds)
            return
        self._plan(actor, seconds)
        actor.pause()

    def run(self) -> None:
        """Runs all actors to their end."""
        while self._waiting:
            at, _, actor = heapq.heappop(self._waiting)
            self._clock.advance(to=at)
            if actor.started_at is None:
                actor.started_at = at
            self._running = actor
            actor.go_on()
            self._running = None
            if actor.has_ended:
                actor.ended_at = self._clock()

    def _plan(self, actor: Actor, seconds: float) -> None:
        at = self._clock() + timedelta(milliseconds=round(seconds * 1000))
        heapq.heappush(self._waiting, (at, next(self._order), actor))

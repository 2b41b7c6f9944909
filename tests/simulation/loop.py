"""Virtual time: events in one order. Many actions can sleep, each in its own thread, while one runs."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count

Action = Callable[[], object]


class _Ended(BaseException):
    """The loop has ended. Raised in sleeping actions. Not an Exception, which a handler could catch as an error."""


class _Turn:
    """Lets one thread wait until it may go on. A lock costs a tenth of a semaphore."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self) -> None:
        self._lock.acquire()

    def give(self) -> None:
        self._lock.release()


class Loop:
    """Call it for the time. One thread runs at a time.

    It runs the events until an action sleeps. Then another thread goes on with the events. So an action that never
    sleeps needs no switch of threads.
    """

    def __init__(self, start: datetime) -> None:
        self.start = start
        self._now = start
        self._order = count()
        # What to do at a moment: run an action, or wake a sleeping thread.
        self._events: list[tuple[datetime, int, Action | _Turn]] = []
        self._idle: list[_Turn] = []
        self._asleep: set[_Turn] = set()
        self._threads: list[threading.Thread] = []
        self._until = start
        self._over = threading.Event()
        self._error: BaseException | None = None

    def __call__(self) -> datetime:
        return self._now

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return (self._now - self.start).total_seconds()

    def at(self, moment: datetime, action: Action) -> None:
        """Plans an action. Actions of the same moment run in the order of planning."""
        heapq.heappush(self._events, (moment, next(self._order), action))

    def after(self, seconds: float, action: Action) -> None:
        """Plans an action for `seconds` from now, in whole milliseconds, as the table stores them."""
        self.at(self._now + timedelta(milliseconds=round(seconds * 1000)), action)

    def sleep(self, seconds: float) -> None:
        """For actions: sleeps, and lets earlier events happen."""
        moment = self._now + timedelta(milliseconds=round(seconds * 1000))
        if moment <= self._until and (not self._events or moment < self._events[0][0]):
            self._now = moment
            return
        turn = _Turn()
        heapq.heappush(self._events, (moment, next(self._order), turn))
        self._asleep.add(turn)
        self._pass_on()
        turn.wait()
        self._asleep.discard(turn)
        if self._over.is_set():
            raise _Ended

    def run(self, until: datetime) -> None:
        """Runs all events up to a moment, then ends. Raises what an action raised."""
        self._until = until
        self._pass_on()
        self._over.wait()
        for turn in (*self._asleep, *self._idle):
            turn.give()
        for thread in self._threads:
            thread.join()
        if self._error is not None:
            raise self._error

    def _pass_on(self) -> None:
        """Lets another thread run the events."""
        if self._idle:
            self._idle.pop().give()
            return
        thread = threading.Thread(target=self._live, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _live(self) -> None:
        try:
            self._drive()
        except _Ended:
            return
        except BaseException as error:  # noqa: BLE001  # the thread of `run` raises it
            self._error = error
            self._over.set()

    def _drive(self) -> None:
        while not self._over.is_set():
            if not self._events or self._events[0][0] > self._until:
                self._now = self._until
                self._over.set()
                return
            self._now, _, planned = heapq.heappop(self._events)
            if isinstance(planned, _Turn):
                turn = _Turn()
                self._idle.append(turn)
                planned.give()
                turn.wait()
            else:
                planned()

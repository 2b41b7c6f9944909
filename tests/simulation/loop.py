"""Virtual time: events in one order. Many actions may be under way, each asleep in a thread of its own but one."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count

Action = Callable[[], object]


class _Ended(BaseException):
    """The loop is over: whoever still sleeps is unwound. No Exception, or some handler would take it for an error."""


class _Turn:
    """Where one thread waits until it may go on. (A lock, because a semaphore costs ten times as much.)"""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self) -> None:
        self._lock.acquire()

    def give(self) -> None:
        self._lock.release()


class Loop:
    """Call it for the time. Exactly one thread runs at any moment: it drives the events until an action sleeps, and
    another goes on with them meanwhile. So an action that never sleeps costs no switch of threads."""

    def __init__(self, start: datetime) -> None:
        self.start = start
        self._now = start
        self._order = count()
        # What is to be done at a moment: an action, or a sleeper to be woken.
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
        """Since the start."""
        return (self._now - self.start).total_seconds()

    def at(self, moment: datetime, action: Action) -> None:
        """Plans an action; what is planned for the same moment keeps its order."""
        heapq.heappush(self._events, (moment, next(self._order), action))

    def after(self, seconds: float, action: Action) -> None:
        """Plans an action for `seconds` from now, in whole milliseconds, as the table keeps time."""
        self.at(self._now + timedelta(milliseconds=round(seconds * 1000)), action)

    def sleep(self, seconds: float) -> None:
        """For actions: what comes before happens first."""
        moment = self._now + timedelta(milliseconds=round(seconds * 1000))
        if moment <= self._until and (not self._events or moment < self._events[0][0]):
            self._now = moment
            return
        turn = _Turn()
        heapq.heappush(self._events, (moment, next(self._order), turn))
        self._asleep.add(turn)
        self._hand_over()
        turn.wait()
        self._asleep.discard(turn)
        if self._over.is_set():
            raise _Ended

    def run(self, until: datetime) -> None:
        """All that is planned up to a moment, and what comes of it; then it is over. Raises what an action raised."""
        self._until = until
        self._hand_over()
        self._over.wait()
        for turn in (*self._asleep, *self._idle):
            turn.give()
        for thread in self._threads:
            thread.join()
        if self._error is not None:
            raise self._error

    def _hand_over(self) -> None:
        """Another thread drives from here on."""
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

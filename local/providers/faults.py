"""Faults that a simulator plays on command, their queue, and waits that end with the server."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

HANG_LIMIT_S = 60.0

KINDS = ("status", "body", "malformed", "delay", "hang", "drip", "reset", "truncate", "huge", "redirect")
OPERATIONS = ("token", "connect", "revoke", "resource", "authorize", "device", "account")
CHOICES = {"kind": KINDS, "on": OPERATIONS, "when": ("before", "after"), "part": ("body", "all")}
RANGES = {"status": (200, 599), "seconds": (0, 3600), "size": (0, 2**30)}
# These change how the real reply is sent, so the request is always carried out.
DISTORTING = ("drip", "truncate")


@dataclass(slots=True)
class Fault:
    """A failure to play `times` times (None: until cleared) at one operation.

    `when` = 'before': the vendor fails instead of carrying the request out (delay and hang: carries it out later).
    'after': it carries the request out first, so that a token is issued and its reply is lost or late.
    """

    kind: str
    on: str = "token"
    times: int | None = 1
    when: str = "before"
    status: int = 500
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 1.0
    part: str = "body"
    size: int = 10 * 1024 * 1024
    location: str = "https://elsewhere.example/login?next=%2F"

    def __post_init__(self) -> None:
        """Checks the fields, which can come from JSON. Raises ValueError or TypeError."""
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"fault: {name} has to be one of {', '.join(allowed)}")
        for name, (lowest, highest) in RANGES.items():
            if not lowest <= getattr(self, name) <= highest:
                raise ValueError(f"fault: {name} has to be {lowest} to {highest}")
        if self.times is not None and self.times < 1:
            raise ValueError("fault: times has to be null or at least 1")
        self.headers = {**self.headers}

    @property
    def octets(self) -> bytes:
        """The body in bytes: a string as it is, None as nothing, anything else as JSON."""
        if self.body is None:
            return b""
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


class FaultQueue:
    """The queued faults, oldest first. Not thread-safe: the simulator holds its lock around each call."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults.clear()

    def take(self, operation: str) -> Fault | None:
        """The next fault for the operation; counts as played once."""
        for fault in self._faults:
            if fault.on != operation:
                continue
            if fault.times is not None:
                fault.times -= 1
                if fault.times == 0:
                    self._faults.remove(fault)
            return fault
        return None

    def pending(self) -> list[dict[str, object]]:
        return [{"kind": fault.kind, "on": fault.on, "times": fault.times} for fault in self._faults]


class WaitEnd(Enum):
    """Why a wait ended."""

    ELAPSED = "elapsed"
    RELEASED = "released"
    DROPPED = "dropped"


class Waits:
    """Holds requests for a time by the wall clock, or until all are released or dropped. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: dict[threading.Event, WaitEnd] = {}
        self._closed = threading.Event()

    def wait(self, seconds: float) -> WaitEnd:
        event = threading.Event()
        with self._changed:
            if self._closed.is_set():
                return WaitEnd.DROPPED
            self._held[event] = WaitEnd.ELAPSED
            self._changed.notify_all()
        event.wait(seconds)
        with self._changed:
            return self._held.pop(event)

    def until_held(self, count: int, timeout_s: float) -> bool:
        """Waits until `count` requests are held. Returns False if the time-out comes first."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._held) >= count, timeout_s)

    def release(self) -> None:
        """All held requests continue as if their time was over."""
        self._end(WaitEnd.RELEASED)

    def drop(self) -> None:
        """No held request gets a reply."""
        self._end(WaitEnd.DROPPED)

    def close(self) -> None:
        """As `drop`, also for all later requests."""
        self._closed.set()
        self.drop()

    def _end(self, end: WaitEnd) -> None:
        with self._changed:
            for event in self._held:
                self._held[event] = end
                event.set()

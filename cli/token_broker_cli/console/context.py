"""What the pages share, and what one page shows to one browser."""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Final

from token_broker_cli.console.door import Session
from token_broker_cli.console.messages import Response
from token_broker_cli.console.pages import Renderer
from token_broker_cli.target import Target
from token_broker_cli.wording import is_past
from token_broker_client.errors import TokenBrokerError

Json = dict[str, Any]
FRESH_S: Final = 5.0
STALE_S: Final = 300.0
DENIAL_S: Final = 300.0


def utc_now() -> datetime:
    return datetime.now(UTC)


class Denials:
    """Permissions that the operator was denied, by action and connection. Forgotten after 5 min."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._permissions: dict[tuple[str, str], tuple[str, float]] = {}

    def add(self, action: str, connection: str, permission: str) -> None:
        """`permission`: the one that is missing."""
        self._permissions[action, connection] = (permission, self._clock() + DENIAL_S)

    def missing(self, action: str, connection: str) -> str | None:
        """The permission that the action needs and the operator lacks."""
        permission, until = self._permissions.get((action, connection), (None, 0.0))
        return permission if self._clock() < until else None


class ConnectionList:
    """The summaries of all connections. Reading a thousand takes a while, so a page gets some that are
    at most 5 min old.

    Rows older than 5 s are read anew meanwhile.
    """

    def __init__(self, target: Target, now: Callable[[], datetime], clock: Callable[[], float]) -> None:
        self._target = target
        self._now = now
        self._clock = clock
        self._reading = Lock()
        self._rows: dict[tuple[str, str], Json] = {}
        self._read_at: float | None = None
        self._as_of = now()

    def read(self) -> tuple[list[Json], datetime]:
        """Every connection's summary, and when they were read. Raises TokenBrokerError."""
        if self._age() > STALE_S:
            with self._reading:
                if self._age() > STALE_S:
                    self._read()
        elif self._age() > FRESH_S and self._reading.acquire(blocking=False):
            threading.Thread(target=self._read_and_release, name="connections", daemon=True).start()
        return list(self._rows.values()), self._as_of

    def changed(self, provider: str, name: str) -> None:
        """Reads one connection anew, after a change. Raises TokenBrokerError."""
        found = self._target.api.find(provider, name)
        rows = dict(self._rows)
        if found is None:
            rows.pop((provider, name), None)
        else:
            now = self._now()
            live = [token for token in found["tokens"] if token["expires_at"] and not is_past(token["expires_at"], now)]
            rows[provider, name] = {**found, "tokens": len(live)}
        self._rows = rows

    def _age(self) -> float:
        return math.inf if self._read_at is None else self._clock() - self._read_at

    def _read(self) -> None:
        as_of = self._now()
        began = self._clock()
        self._rows = {(row["provider"], row["connection"]): row for row in self._target.api.connections()}
        self._as_of = as_of
        self._read_at = began

    def _read_and_release(self) -> None:
        """In the background. An error is left to the page that finds the rows too old."""
        try:
            with contextlib.suppress(TokenBrokerError):
                self._read()
        finally:
            self._reading.release()


class Catalogue:
    """The providers. They change with a release only, so they are read once."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._providers: dict[str, Json] = {}

    def read(self) -> Mapping[str, Json]:
        """Every provider by its slug. Raises TokenBrokerError."""
        if not self._providers:
            self._providers = {provider["slug"]: provider for provider in self._target.api.providers()}
        return self._providers


@dataclass
class ConsoleContext:
    """The broker and what is remembered of it. `log`: an audit log file instead of CloudWatch's."""

    target: Target
    renderer: Renderer
    read_only: bool = False
    log: Path | None = None
    now: Callable[[], datetime] = utc_now
    clock: Callable[[], float] = time.monotonic
    denials: Denials = field(init=False)
    connections: ConnectionList = field(init=False)
    catalogue: Catalogue = field(init=False)

    def __post_init__(self) -> None:
        self.denials = Denials(self.clock)
        self.connections = ConnectionList(self.target, self.now, self.clock)
        self.catalogue = Catalogue(self.target)

    @property
    def place(self) -> str:
        """Which broker this is, for the head of each page."""
        target = self.target
        if target.is_local:
            return "local stack"
        return str(target.options.url or f"{target.stack} in {target.session.region_name}")


@dataclass(frozen=True)
class View:
    """The console as one session sees it."""

    context: ConsoleContext
    session: Session

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """A page with the values that every page has."""
        shared = {
            "csrf_token": self.session.csrf_token,
            "notices": self.session.take_notices(),
            "read_only": self.context.read_only,
            "place": self.context.place,
            "now": self.context.now(),
        }
        return self.context.renderer.page(template, {**shared, **values}, status=status)

    def say(self, notice: str) -> None:
        """Has the session's next page show a notice."""
        self.session.notices.append(notice)

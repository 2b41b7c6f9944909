"""P4: checks the logins to accounts that lock after a number of failed ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta

from tests.component.state_machine.cooldowns import REFUSED_COOLDOWNS, digest_of
from tests.component.state_machine.servers import Received
from tests.component.state_machine.stage import Operation, Trace
from token_broker.core.names import ConnectionName

LOCKS_AFTER = 5
MAX_UNRESOLVED = 2
PERIOD: timedelta = REFUSED_COOLDOWNS[0]
OUTCOME_UNKNOWN = ("lost", "hang")
# The server did not check the credentials.
NOT_CHECKED = ("503", "429", "html", "no token", "unknown")


class Logins:
    """Records every login that is sent."""

    def __init__(self, breaks: Callable[[str], object]) -> None:
        self._breaks = breaks
        self._unresolved: dict[ConnectionName, list[str]] = defaultdict(list)
        self._failed: dict[tuple[str, str], list[datetime]] = defaultdict(list)

    def request(
        self, operation: Operation, name: ConnectionName, received: Received, now: datetime, *, ok: bool
    ) -> None:
        """A login is sent. Logins with another secret do not count."""
        unresolved = [secret for secret in self._unresolved[name] if secret == received.secret]
        if len(unresolved) >= MAX_UNRESOLVED:
            self._breaks(f"P4: a login although the outcome of the last {len(unresolved)} is unknown")
        self._unresolved[name] = [*unresolved, received.secret]
        if ok or operation.trace.met in NOT_CHECKED or operation.kind == "trial":
            return
        times = self._failed[received.secret, digest_of(operation.trace)]
        times.append(now)
        if sum(1 for at in times if now - at < PERIOD) >= LOCKS_AFTER:
            self._breaks(f"P4: {LOCKS_AFTER} failed logins within {PERIOD} lock the account")

    def settled(self, name: ConnectionName, trace: Trace, *, left: int, is_refused: bool) -> None:
        """The broker counts fewer unresolved logins: after a response, or because it stored a refusal."""
        if trace.met in OUTCOME_UNKNOWN and not is_refused:
            self._breaks("P4: a login of unknown outcome was forgotten")
        self._unresolved[name] = self._unresolved[name][:left]

"""`TokenSource`: a token in one call, kept until it is due, fetched once for all threads, retried where that helps."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from token_broker_client.endpoint import Ask
from token_broker_client.errors import (
    BrokerRefused,
    BrokerUnreachable,
    TokenBrokerError,
    TooManyRejections,
    TryLater,
)
from token_broker_client.keeping import ASK_AGAIN_S, ASK_AT_MOST_EVERY_S, Flight, Kept, Slot, Wanted
from token_broker_client.tokens import Token

DEADLINE_S: Final = 30.0
# How long a caller waits for the successor of a token that is still good: it gets that one then.
SPARE_S: Final = 5.0
QUIET_S: Final = 30.0  # after a report that failed
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 4.0
logger = logging.getLogger("token_broker_client")


def sleep(seconds: float) -> None:
    """Waits on the wall clock."""
    threading.Event().wait(seconds)


class TokenSource:
    """Tokens of whatever `ask` asks: the broker (`TokenBroker`) or a test's stand-in (`testing.FakeBroker`)."""

    def __init__(
        self,
        ask: Ask,
        *,
        deadline_s: float = DEADLINE_S,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = sleep,
    ) -> None:
        """`deadline_s`: how long one call may take, attempts and pauses together. `clock` is the wall's."""
        self._ask = ask
        self._deadline_s = deadline_s
        self._clock = clock
        self._sleep = sleep
        self.forget()

    def forget(self) -> None:
        """Drops every kept token."""
        self._lock = threading.Lock()
        self._slots: dict[Wanted, Slot] = {}

    def token(
        self,
        provider: str,
        connection: str,
        *,
        scope: str | None = None,
        min_ttl: int | None = None,
        rejected: str | None = None,
    ) -> Token:
        """A valid token: the one kept until its `renew_at` (at most 5 min), else the broker's.

        `scope`: items separated by single spaces (None: the connection's). `min_ttl`: seconds that it has to last, 0 to
        3600 (None: 30). `rejected`: the token_id of a token that the provider's API refused. A token that is still good
        is returned while the broker fails. Raises BrokerRefused or BrokerUnreachable when the deadline has passed or
        waiting does not help, and ClientNotConfigured.
        """
        return self._obtain(Wanted(provider, connection, scope, min_ttl), rejected)

    def kept(
        self, provider: str, connection: str, *, scope: str | None = None, min_ttl: int | None = None
    ) -> Token | None:
        """The token that `token` would return without asking anybody, or None. Never waits."""
        slot = self._slot(Wanted(provider, connection, scope, min_ttl))
        with slot.lock:
            now = self._clock()
            return slot.usable(now) if slot.fresh(now) else None

    def replacement(self, refused: Token, *, scope: str | None = None, min_ttl: int | None = None) -> Token | None:
        """Another token than the one that the provider's API refused, or None where there is none.

        The refused one is reported once, by whichever thread comes first, and again after 5 min at the earliest if the
        broker stands by it. Raises nothing of this package: the API's answer is what its caller should see then.
        """
        wanted = Wanted(refused.provider, refused.connection, scope, min_ttl)
        slot = self._slot(wanted)
        with slot.lock:
            if slot.quiet(self._clock(), refused.token_id):
                return None
        try:
            token = self._obtain(wanted, refused.token_id)
        except TokenBrokerError as error:
            logger.warning("%s was refused by the API, and there is no other token: %s", refused.token_id, error)
            return None
        return token if token.token_id != refused.token_id else None

    def _slot(self, wanted: Wanted) -> Slot:
        with self._lock:
            return self._slots.setdefault(wanted, Slot())

    def _obtain(self, wanted: Wanted, rejected: str | None) -> Token:
        slot = self._slot(wanted)
        deadline = self._clock() + self._deadline_s
        while True:
            with slot.lock:
                now = self._clock()
                usable = slot.usable(now, rejected)
                if usable and (slot.fresh(now) or slot.flight):
                    return usable
                flight = slot.flight
                if flight is None:
                    flight = slot.flight = Flight(None if usable else rejected)
                    break
            if not flight.landed.wait(max(deadline - now, 0)):
                raise BrokerUnreachable("the request of another thread brought no answer in time")
            if rejected in (None, flight.rejected):
                return flight.result()
        try:
            return self._fly(wanted, slot, flight, usable, deadline)
        finally:
            with slot.lock:
                slot.flight = None
            flight.landed.set()

    def _fly(self, wanted: Wanted, slot: Slot, flight: Flight, usable: Token | None, deadline: float) -> Token:
        """Asks the broker for all who wait. A failure does not take away a token that is still good."""
        if usable:
            deadline = min(deadline, self._clock() + SPARE_S)
        try:
            kept = self._fetch(wanted, flight.rejected, deadline, patient=usable is None)
        except TokenBrokerError as error:
            flight.error = error
            with slot.lock:
                now = self._clock()
                if flight.rejected:
                    slot.reported, slot.quiet_until = flight.rejected, now + (_retry_after(error) or QUIET_S)
                if _final(error):
                    slot.kept = None
                elif usable and slot.kept:
                    pause_s = min(max(_retry_after(error) or 0, ASK_AT_MOST_EVERY_S), ASK_AGAIN_S)
                    slot.kept = slot.kept._replace(ask_again_at=now + pause_s)
            if usable is None or _final(error):
                raise
            logger.warning("the broker failed, %s is still good: %s", usable.token_id, error)
            flight.token = usable
            return usable
        with slot.lock:
            slot.kept = kept
            if flight.rejected:
                slot.reported, slot.quiet_until = flight.rejected, self._clock() + ASK_AGAIN_S
        flight.token = kept.token
        return kept.token

    def _fetch(self, wanted: Wanted, rejected: str | None, deadline: float, *, patient: bool) -> Kept:
        """One answer, tried again while that helps and the deadline allows."""
        path = f"/v1/tokens/{quote(wanted.provider, safe='')}/{quote(wanted.connection, safe='')}"
        asked = {"scope": wanted.scope, "min_ttl": wanted.min_ttl, "rejected": rejected}
        query = {name: str(value) for name, value in asked.items() if value is not None}
        attempt = 0
        while True:
            requested_at = self._clock()
            try:
                body = self._ask(path, query, timeout_s=max(deadline - requested_at, 0.1))
                return _kept(body, requested_at, wanted.min_ttl)
            except TokenBrokerError as error:
                pause_s = _pause(error, attempt) if patient or attempt == 0 else None
                if pause_s is None or (not patient and pause_s > 0) or self._clock() + pause_s >= deadline:
                    raise
            if pause_s:
                self._sleep(pause_s)
            attempt += 1


def _kept(body: dict[str, Any], requested_at: float, min_ttl: int | None) -> Kept:
    try:
        return Kept.from_answer(body, requested_at, min_ttl)
    except (KeyError, TypeError, ValueError):
        # The cause could hold the token.
        raise BrokerRefused(200, {"detail": "the answer is no token: is this the broker's URL?"}) from None


def _pause(error: TokenBrokerError, attempt: int) -> float | None:
    """How long to wait before the next attempt, or None where none would help."""
    grown = min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S)
    if isinstance(error, BrokerUnreachable):
        # A kept connection that was closed meanwhile fails at once, and a new one does not.
        return 0 if attempt == 0 else grown
    if isinstance(error, TryLater) and not isinstance(error, TooManyRejections):
        return grown if error.retry_after is None else error.retry_after
    return None


def _final(error: TokenBrokerError) -> bool:
    """Whether the broker says that this caller is to have no token: then a kept one is not used any longer either."""
    return isinstance(error, BrokerRefused) and not isinstance(error, TryLater) and 400 <= error.status < 500


def _retry_after(error: TokenBrokerError) -> float | None:
    return error.retry_after if isinstance(error, BrokerRefused) else None

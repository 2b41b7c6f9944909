"""`TokenSource`: gets tokens from the broker, caches them, makes one request for all threads, and retries."""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from token_broker_client.cache import MAX_RECHECK_S, MIN_RECHECK_S, CachedToken, CacheEntry, CacheKey, PendingRequest
from token_broker_client.endpoint import BrokerGet
from token_broker_client.errors import (
    BrokerRefused,
    BrokerUnavailable,
    BrokerUnreachable,
    GatewayTimeout,
    InternalError,
    Throttled,
    TokenBrokerError,
    TooManyRejections,
    TryLater,
)
from token_broker_client.tokens import Token

DEADLINE_S: Final = 30.0
# How long a broker that has never responded is tried. Its URL or the way to it may be wrong.
FIRST_RESPONSE_S: Final = 5.0
# How long a caller with a usable token waits for its successor. After that it gets the usable one.
SUCCESSOR_WAIT_S: Final = 5.0
FAILED_REPORT_PAUSE_S: Final = 30.0
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 4.0
# Failures that follow each other within this time are one incident. A kept token is rechecked at least each 5 min.
INCIDENT_GAP_S: Final = 2 * MAX_RECHECK_S
# More different requests than a service makes. It bounds the memory of an agent whose callers name connections.
MAX_ENTRIES: Final = 10_000
# Errors of the broker itself. All others concern the connection.
BROKER_ERRORS: Final = (BrokerUnavailable, GatewayTimeout, InternalError, Throttled)
logger = logging.getLogger("token_broker_client")


def sleep(seconds: float) -> None:
    """Waits in real time."""
    threading.Event().wait(seconds)


class TokenSource:
    """Tokens from the broker that `get` reaches: `TokenBroker`, or `testing.FakeBroker` in tests."""

    def __init__(
        self,
        get: BrokerGet,
        *,
        deadline_s: float = DEADLINE_S,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = sleep,
    ) -> None:
        """`deadline_s`: how long one call may take, with all retries and pauses. `clock`: wall clock, in seconds."""
        self._get = get
        self._deadline_s = deadline_s
        self._clock = clock
        self._sleep = sleep
        self._responded = False
        self.forget()

    def forget(self) -> None:
        """Drops every cached token."""
        self._lock = threading.Lock()
        self._entries: dict[CacheKey, CacheEntry] = {}
        self._failed_at: dict[tuple[str, str] | None, float] = {}

    def token(
        self,
        provider: str,
        connection: str,
        *,
        scope: str | None = None,
        min_ttl: int | None = None,
        rejected: str | None = None,
    ) -> Token:
        """A valid token: the cached one until its `renew_at` (at most 5 min), else the broker's.

        `scope`: items separated by single spaces (None: the connection's). `min_ttl`: seconds for which the token must
        still be valid, 0 to 3600 (None: 30). `rejected`: the token_id of a token that the provider's API rejected.
        While the broker fails, a cached token is returned until it expires. Raises BrokerRefused or BrokerUnreachable
        when the deadline has passed or waiting does not help, and ClientNotConfigured.
        """
        return self.active().obtain(CacheKey(provider, connection, scope, min_ttl), rejected).token

    def kept(
        self, provider: str, connection: str, *, scope: str | None = None, min_ttl: int | None = None
    ) -> Token | None:
        """The token that `token` would return without asking the broker, or None. Never waits."""
        return self.active().cached(CacheKey(provider, connection, scope, min_ttl))

    def replacement(self, rejected: Token, *, scope: str | None = None, min_ttl: int | None = None) -> Token | None:
        """Another token than the one that the provider's API rejected, or None if there is none.

        The first thread that comes reports the rejected token to the broker. If the broker returns the same token
        again, it is not reported again for 5 min. Raises no TokenBrokerError: the caller should see the API's response.
        """
        key = CacheKey(rejected.provider, rejected.connection, scope, min_ttl)
        other = self.active().obtain_other(key, rejected.token_id)
        return other.token if other else None

    def renew_used(self, ahead_s: float) -> None:
        """Asks the broker for each cached token that a caller has used, and for which one would ask within `ahead_s`.

        Called in a thread of its own, it spares callers the wait. `ahead_s` is below 5 s, the shortest time between two
        requests for a token. Raises no TokenBrokerError.
        """
        with self._lock:
            entries = list(self._entries.items())
        for key, entry in entries:
            with entry.lock:
                now = self._clock()
                usable = entry.usable(now)
                if usable is None or not entry.used or entry.pending or entry.fresh(now + ahead_s):
                    continue
                pending = entry.pending = PendingRequest(None)
            with contextlib.suppress(TokenBrokerError):
                self._ask(key, entry, pending, usable, now + self._deadline_s)

    def active(self) -> "TokenSource":
        """The source that serves the three methods above: this one, or in a test a FakeBroker."""
        return self

    def cached(self, key: CacheKey) -> Token | None:
        """See `kept`."""
        entry = self._entry(key)
        with entry.lock:
            now = self._clock()
            usable = entry.usable(now)
            if usable is None or not entry.fresh(now):
                return None
            entry.used = True
            return usable.token

    def obtain_other(self, key: CacheKey, rejected: str) -> CachedToken | None:
        """See `replacement`."""
        entry = self._entry(key)
        with entry.lock:
            if entry.reported_recently(self._clock(), rejected):
                return None
        try:
            other = self.obtain(key, rejected)
        except TokenBrokerError as error:
            self._log(key, error, f"the API rejected {rejected}, and there is no other token")
            return None
        return other if other.token.token_id != rejected else None

    def _log(self, key: CacheKey, error: TokenBrokerError, what: str) -> None:
        """One line for each incident, not for each call. An incident concerns one connection, or all of them."""
        concerns_all = not isinstance(error, BrokerRefused) or isinstance(error, BROKER_ERRORS)
        name = None if concerns_all else (key.provider, key.connection)
        now = self._clock()
        with self._lock:
            if len(self._failed_at) >= MAX_ENTRIES:
                self._failed_at.clear()
            is_new = now - self._failed_at.get(name, -math.inf) > INCIDENT_GAP_S
            self._failed_at[name] = now
        if is_new:
            logger.warning("%s: %s", what, error)

    @property
    def size(self) -> int:
        """How many tokens are cached."""
        with self._lock:
            return sum(entry.cached is not None for entry in self._entries.values())

    def _entry(self, key: CacheKey) -> CacheEntry:
        with self._lock:
            if key not in self._entries:
                if len(self._entries) >= MAX_ENTRIES:
                    self._make_room()
                self._entries[key] = CacheEntry()
            return self._entries[key]

    def _make_room(self) -> None:
        """Drops the entries without a token; if all have one, the oldest tenth."""
        without = [key for key, entry in self._entries.items() if not entry.cached and not entry.pending]
        for key in without or list(self._entries)[: MAX_ENTRIES // 10]:
            del self._entries[key]

    def obtain(self, key: CacheKey, rejected: str | None) -> CachedToken:
        """See `token`. One thread asks the broker, the others wait or use the cached token."""
        entry = self._entry(key)
        deadline = self._clock() + self._deadline_s
        while True:
            with entry.lock:
                now = self._clock()
                usable = entry.usable(now, rejected)
                if usable and (entry.fresh(now) or entry.pending):
                    entry.used = True
                    return usable
                pending = entry.pending
                if pending is None:
                    pending = entry.pending = PendingRequest(None if usable else rejected)
                    break
            if not pending.done.wait(max(deadline - now, 0)):
                raise BrokerUnreachable("another thread's request got no response in time")
            if rejected in (None, pending.rejected):
                return pending.result()
        return self._ask(key, entry, pending, usable, deadline)

    def _ask(
        self, key: CacheKey, entry: CacheEntry, pending: PendingRequest, usable: CachedToken | None, deadline: float
    ) -> CachedToken:
        """Makes the pending request and ends it."""
        try:
            return self._request(key, entry, pending, usable, deadline)
        finally:
            with entry.lock:
                entry.pending = None
            pending.done.set()

    def _request(
        self, key: CacheKey, entry: CacheEntry, pending: PendingRequest, usable: CachedToken | None, deadline: float
    ) -> CachedToken:
        """Asks the broker for all threads that wait. If that fails, a usable token stays in use."""
        if usable:
            deadline = min(deadline, self._clock() + SUCCESSOR_WAIT_S)
        try:
            cached = self._fetch(key, pending.rejected, deadline, may_pause=usable is None)
        except TokenBrokerError as error:
            pending.error = error
            with entry.lock:
                now = self._clock()
                if pending.rejected:
                    entry.reported = pending.rejected
                    entry.no_report_until = now + (_retry_after(error) or FAILED_REPORT_PAUSE_S)
                if _is_final(error):
                    entry.cached = None
                elif entry.cached and (usable or pending.rejected):
                    # After a failed report the cached token is the rejected one: ask again as soon as that may help.
                    pause_s = min(max(_retry_after(error) or 0, MIN_RECHECK_S), MAX_RECHECK_S)
                    entry.cached = entry.cached._replace(recheck_at=now + pause_s)
            if usable is None or _is_final(error):
                raise
            self._log(key, error, f"the broker failed, and a kept token stays in use ({usable.token.token_id})")
            pending.cached = usable
            return usable
        with entry.lock:
            entry.cached = cached
            entry.used = False
            if pending.rejected:
                entry.reported = pending.rejected
                entry.no_report_until = self._clock() + MAX_RECHECK_S
        pending.cached = cached
        return cached

    def _fetch(self, key: CacheKey, rejected: str | None, deadline: float, *, may_pause: bool) -> CachedToken:
        """One token from the broker. Retries while that helps and the deadline allows it."""
        path = f"/v1/tokens/{quote(key.provider, safe='')}/{quote(key.connection, safe='')}"
        parameters = {"scope": key.scope, "min_ttl": key.min_ttl, "rejected": rejected}
        query = {name: str(value) for name, value in parameters.items() if value is not None}
        retries = 0
        began_at = self._clock()
        while True:
            requested_at = self._clock()
            try:
                body = self._get(path, query, timeout_s=max(deadline - requested_at, 0.1))
                self._responded = True
                return _read(body, requested_at, key.min_ttl)
            except TokenBrokerError as error:
                self._responded = self._responded or isinstance(error, BrokerRefused)
                pause_s = _pause(error, retries) if may_pause or retries == 0 else None
                if pause_s is None or (not may_pause and pause_s > 0) or self._clock() + pause_s >= deadline:
                    raise
                took_s = self._clock() - requested_at
                if not self._responded and self._clock() + pause_s + took_s > began_at + FIRST_RESPONSE_S:
                    raise
            if pause_s:
                self._sleep(pause_s)
            retries += 1


def _read(body: dict[str, Any], requested_at: float, min_ttl: int | None) -> CachedToken:
    try:
        return CachedToken.from_response(body, requested_at, min_ttl)
    except (KeyError, TypeError, ValueError):
        # The cause could hold the token.
        raise BrokerRefused(200, {"detail": "the response is not a token: is this the broker's URL?"}) from None


def _pause(error: TokenBrokerError, retries: int) -> float | None:
    """How long to wait before the next retry, or None if none would help."""
    growing_s = min(FIRST_PAUSE_S * 2**retries, LONGEST_PAUSE_S)
    if isinstance(error, BrokerUnreachable):
        # A kept connection that the server has closed fails at once. A new one works.
        return 0 if retries == 0 else growing_s
    if isinstance(error, TryLater) and not isinstance(error, TooManyRejections):
        return growing_s if error.retry_after is None else error.retry_after
    return None


def _is_final(error: TokenBrokerError) -> bool:
    """Whether the broker says that this caller gets no token. Then a cached one is not used any longer either."""
    return isinstance(error, BrokerRefused) and not isinstance(error, TryLater) and 400 <= error.status < 500


def _retry_after(error: TokenBrokerError) -> float | None:
    return error.retry_after if isinstance(error, BrokerRefused) else None

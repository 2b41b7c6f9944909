"""`TokenSource`: gets tokens from the broker, caches them, makes one request for all threads, and retries."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from token_broker_client.cache import MAX_RECHECK_S, MIN_RECHECK_S, CachedToken, CacheEntry, CacheKey, PendingRequest
from token_broker_client.endpoint import BrokerGet
from token_broker_client.errors import (
    BrokerRefused,
    BrokerUnreachable,
    TokenBrokerError,
    TooManyRejections,
    TryLater,
)
from token_broker_client.tokens import Token

DEADLINE_S: Final = 30.0
# How long a caller with a usable token waits for its successor. After that it gets the usable one.
SUCCESSOR_WAIT_S: Final = 5.0
FAILED_REPORT_PAUSE_S: Final = 30.0
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 4.0
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
        self.forget()

    def forget(self) -> None:
        """Drops every cached token."""
        self._lock = threading.Lock()
        self._entries: dict[CacheKey, CacheEntry] = {}

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
        return self._obtain(CacheKey(provider, connection, scope, min_ttl), rejected)

    def kept(
        self, provider: str, connection: str, *, scope: str | None = None, min_ttl: int | None = None
    ) -> Token | None:
        """The token that `token` would return without asking the broker, or None. Never waits."""
        entry = self._entry(CacheKey(provider, connection, scope, min_ttl))
        with entry.lock:
            now = self._clock()
            return entry.usable(now) if entry.fresh(now) else None

    def replacement(self, rejected: Token, *, scope: str | None = None, min_ttl: int | None = None) -> Token | None:
        """Another token than the one that the provider's API rejected, or None if there is none.

        The first thread that comes reports the rejected token to the broker. If the broker returns the same token
        again, it is not reported again for 5 min. Raises no TokenBrokerError: the caller should see the API's response.
        """
        key = CacheKey(rejected.provider, rejected.connection, scope, min_ttl)
        entry = self._entry(key)
        with entry.lock:
            if entry.reported_recently(self._clock(), rejected.token_id):
                return None
        try:
            token = self._obtain(key, rejected.token_id)
        except TokenBrokerError as error:
            logger.warning("the API rejected %s, and there is no other token: %s", rejected.token_id, error)
            return None
        return token if token.token_id != rejected.token_id else None

    def _entry(self, key: CacheKey) -> CacheEntry:
        with self._lock:
            return self._entries.setdefault(key, CacheEntry())

    def _obtain(self, key: CacheKey, rejected: str | None) -> Token:
        entry = self._entry(key)
        deadline = self._clock() + self._deadline_s
        while True:
            with entry.lock:
                now = self._clock()
                usable = entry.usable(now, rejected)
                if usable and (entry.fresh(now) or entry.pending):
                    return usable
                pending = entry.pending
                if pending is None:
                    pending = entry.pending = PendingRequest(None if usable else rejected)
                    break
            if not pending.done.wait(max(deadline - now, 0)):
                raise BrokerUnreachable("another thread's request got no response in time")
            if rejected in (None, pending.rejected):
                return pending.result()
        try:
            return self._request(key, entry, pending, usable, deadline)
        finally:
            with entry.lock:
                entry.pending = None
            pending.done.set()

    def _request(
        self, key: CacheKey, entry: CacheEntry, pending: PendingRequest, usable: Token | None, deadline: float
    ) -> Token:
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
            logger.warning("the broker failed, %s is still valid: %s", usable.token_id, error)
            pending.token = usable
            return usable
        with entry.lock:
            entry.cached = cached
            if pending.rejected:
                entry.reported = pending.rejected
                entry.no_report_until = self._clock() + MAX_RECHECK_S
        pending.token = cached.token
        return cached.token

    def _fetch(self, key: CacheKey, rejected: str | None, deadline: float, *, may_pause: bool) -> CachedToken:
        """One token from the broker. Retries while that helps and the deadline allows it."""
        path = f"/v1/tokens/{quote(key.provider, safe='')}/{quote(key.connection, safe='')}"
        parameters = {"scope": key.scope, "min_ttl": key.min_ttl, "rejected": rejected}
        query = {name: str(value) for name, value in parameters.items() if value is not None}
        retries = 0
        while True:
            requested_at = self._clock()
            try:
                body = self._get(path, query, timeout_s=max(deadline - requested_at, 0.1))
                return _read(body, requested_at, key.min_ttl)
            except TokenBrokerError as error:
                pause_s = _pause(error, retries) if may_pause or retries == 0 else None
                if pause_s is None or (not may_pause and pause_s > 0) or self._clock() + pause_s >= deadline:
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

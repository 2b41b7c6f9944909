"""The cached token of one cache key, and the request that is fetching its successor. Many threads make one request.

Times are seconds of the local wall clock, counted from before the request was sent. So a difference between this clock
and the broker's does no harm, and a process that was frozen, as Lambda does, does not take an old token for a fresh
one. The classes are plain or named tuples: defining a dataclass takes a millisecond of every service's start.
"""

import threading
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from token_broker_client.errors import TokenBrokerError
from token_broker_client.tokens import Token

MAX_RECHECK_S: Final = 300.0  # the longest time without asking the broker: a suspension or a purge is noticed
MIN_RECHECK_S: Final = 5.0  # the shortest, for a token whose renewal is overdue
MIN_TTL_S: Final = 30  # the broker's default


class CacheKey(NamedTuple):
    """What a token is cached under: the parameters of the request."""

    provider: str
    connection: str
    scope: str | None = None
    min_ttl: int | None = None


class CachedToken(NamedTuple):
    """A token, when to ask the broker again, and when it expires."""

    token: Token
    recheck_at: float
    expires_at: float

    @classmethod
    def from_response(cls, body: Mapping[str, Any], requested_at: float, min_ttl: int | None) -> "CachedToken":
        """Reads the response to a request that was sent at `requested_at`. Raises KeyError, TypeError or ValueError."""
        token = Token.from_response(body)
        lifetime_s = float(body["expires_in"])
        until_renewal_s = lifetime_s - (token.expires_at - token.renew_at).total_seconds()
        long_enough_s = lifetime_s - (MIN_TTL_S if min_ttl is None else min_ttl)
        keep_s = max(min(until_renewal_s, long_enough_s, MAX_RECHECK_S), min(MIN_RECHECK_S, lifetime_s / 2))
        return cls(token, requested_at + keep_s, requested_at + lifetime_s)


class PendingRequest:
    """A request to the broker that other threads wait for. `rejected`: the token_id that it reports."""

    def __init__(self, rejected: str | None) -> None:
        self.rejected = rejected
        self.done = threading.Event()
        self.cached: CachedToken | None = None
        self.error: TokenBrokerError | None = None

    def result(self) -> CachedToken:
        """The token. Raises the request's error."""
        if self.cached is None:
            raise self.error or TokenBrokerError("the request was aborted")
        return self.cached


class CacheEntry:
    """What is stored under one CacheKey. Hold `lock` to read or change it, and never while waiting."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.cached: CachedToken | None = None
        self.used = False  # whether a caller got the cached token without asking the broker
        self.pending: PendingRequest | None = None
        # The token_id of the last report, and until when it is not reported again.
        self.reported: str | None = None
        self.no_report_until = 0.0

    def usable(self, now: float, rejected: str | None = None) -> CachedToken | None:
        """The cached token, if it has not expired and is not the rejected one."""
        cached = self.cached
        return cached if cached and now < cached.expires_at and cached.token.token_id != rejected else None

    def fresh(self, now: float) -> bool:
        """Whether the cached token can be used without asking the broker."""
        return self.cached is not None and now < self.cached.recheck_at

    def reported_recently(self, now: float, token_id: str) -> bool:
        """Whether this token was reported a short while ago and is still the cached one."""
        is_cached = self.cached is not None and self.cached.token.token_id == token_id
        return is_cached and self.reported == token_id and now < self.no_report_until

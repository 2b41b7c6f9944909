"""One kept token and whoever is fetching its successor: what lets many threads make one request.

Times are seconds of the wall clock, counted from before the broker was asked: so a clock that differs from the
broker's does no harm, and a process that was frozen (as Lambda does) does not take an old token for a fresh one.
Plain classes and named tuples: making a dataclass takes a millisecond of every service's start.
"""

import threading
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from token_broker_client.errors import TokenBrokerError
from token_broker_client.tokens import Token

ASK_AGAIN_S: Final = 300.0  # so that a suspended connection or a purge is noticed
ASK_AT_MOST_EVERY_S: Final = 5.0  # where renewal is overdue
MIN_TTL_S: Final = 30  # the broker's default


class Wanted(NamedTuple):
    """What is asked for: the key of what is kept."""

    provider: str
    connection: str
    scope: str | None = None
    min_ttl: int | None = None


class Kept(NamedTuple):
    """A token, when to ask the broker again, and when it ends."""

    token: Token
    ask_again_at: float
    ends_at: float

    @classmethod
    def from_answer(cls, body: Mapping[str, Any], requested_at: float, min_ttl: int | None) -> "Kept":
        """Reads an answer to what was asked at `asked_at`. Raises KeyError, TypeError or ValueError."""
        token = Token.from_answer(body)
        life_s = float(body["expires_in"])
        until_renewal_s = life_s - (token.expires_at - token.renew_at).total_seconds()
        long_enough_s = life_s - (MIN_TTL_S if min_ttl is None else min_ttl)
        keep_s = max(min(until_renewal_s, long_enough_s, ASK_AGAIN_S), min(ASK_AT_MOST_EVERY_S, life_s / 2))
        return cls(token, requested_at + keep_s, requested_at + life_s)


class Flight:
    """A request to the broker that is under way; `rejected` is the token_id that it reports."""

    def __init__(self, rejected: str | None) -> None:
        self.rejected = rejected
        self.landed = threading.Event()
        self.token: Token | None = None
        self.error: TokenBrokerError | None = None

    def result(self) -> Token:
        """What the request brought. Raises its error."""
        if self.token is None:
            raise self.error or TokenBrokerError("the request was broken off")
        return self.token


class Slot:
    """What is kept for one `Wanted`. `lock` is held for no longer than it takes to look."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.kept: Kept | None = None
        self.flight: Flight | None = None
        # The token_id that the last report named, and until when it is not named again.
        self.reported: str | None = None
        self.quiet_until = 0.0

    def usable(self, now: float, rejected: str | None = None) -> Token | None:
        """The kept token, while it lives, unless it is the rejected one."""
        kept = self.kept
        return kept.token if kept and now < kept.ends_at and kept.token.token_id != rejected else None

    def fresh(self, now: float) -> bool:
        """Whether the kept token needs no asking."""
        return self.kept is not None and now < self.kept.ask_again_at

    def quiet(self, now: float, token_id: str) -> bool:
        """Whether this token was reported a short while ago, and is still the one there is."""
        still = self.kept is not None and self.kept.token.token_id == token_id
        return still and self.reported == token_id and now < self.quiet_until

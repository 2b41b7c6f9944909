"""Every token a simulator gave out: which are live, whose they are, and until when."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .accounts import Account


@dataclass(slots=True)
class IssuedToken:
    """One access token; its times are epoch seconds. `family` ties it to the code or refresh tokens it came with,
    `reissued` says that it was given out more than once."""

    value: str = field(repr=False)
    account: str
    scope: str
    issued_at: float
    ends_at: float
    family: str = ""
    revoked: bool = False
    reissued: bool = False

    @property
    def token_id(self) -> str:
        """The broker's fingerprint: the first 16 hex digits of the token's SHA-256."""
        return hashlib.sha256(self.value.encode()).hexdigest()[:16]

    def live(self, now: float) -> bool:
        return not self.revoked and now < self.ends_at


@dataclass(frozen=True, slots=True)
class TokenDraft:
    """A token about to be minted: whose, for what, and its times by the vendor's own clock (epoch seconds)."""

    account: Account
    scope: str
    issued_at: float
    ends_at: float


class TokenLedger:
    """The tokens of one simulator. Not thread-safe: the simulator's lock is held around it."""

    def __init__(self) -> None:
        self._tokens: dict[str, IssuedToken] = {}
        self._latest: dict[tuple[str, str], IssuedToken] = {}

    def add(self, token: IssuedToken) -> None:
        """Keeps a new token, and forgets the oldest that have ended, so that a long run stays small."""
        for value, oldest in list(_ended_first(self._tokens, token.issued_at)):
            del self._tokens[value]
            if self._latest.get((oldest.account, oldest.scope)) is oldest:
                del self._latest[oldest.account, oldest.scope]
        self._tokens[token.value] = token
        self._latest[token.account, token.scope] = token

    def latest(self, account: str, scope: str, now: float) -> IssuedToken | None:
        """The live token that was last issued to this account for this scope."""
        token = self._latest.get((account, scope))
        return token if token and token.live(now) else None

    def find(self, value: str) -> IssuedToken | None:
        return self._tokens.get(value)

    def live(self, now: float) -> list[IssuedToken]:
        return [token for token in self._tokens.values() if token.live(now)]

    def revoke(self, matches: Callable[[IssuedToken], bool]) -> int:
        """Revokes the tokens that match, and tells how many there were that were not revoked before."""
        doomed = [token for token in self._tokens.values() if not token.revoked and matches(token)]
        for token in doomed:
            token.revoked = True
        return len(doomed)


def _ended_first(tokens: dict[str, IssuedToken], now: float) -> Iterator[tuple[str, IssuedToken]]:
    for value, token in tokens.items():
        if now < token.ends_at:
            return
        yield value, token

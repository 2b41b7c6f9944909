"""Keeps the tokens that a simulator issued: their value, account, scope, expiry and revocation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .accounts import Account


@dataclass(slots=True)
class IssuedToken:
    """One access token. Its times are epoch seconds. `family`: the same as that of the code or refresh tokens it came
    with. `reissued`: it was returned more than once."""

    value: str = field(repr=False)
    account: str
    scope: str
    issued_at: float
    expires_at: float
    family: str = ""
    revoked: bool = False
    reissued: bool = False

    @property
    def token_id(self) -> str:
        """The broker's fingerprint: the first 16 hex digits of the token's SHA-256."""
        return hashlib.sha256(self.value.encode()).hexdigest()[:16]

    def live(self, now: float) -> bool:
        return not self.revoked and now < self.expires_at


@dataclass(frozen=True, slots=True)
class TokenDraft:
    """A token that is about to be made: account, scope, and times by the vendor's clock (epoch seconds)."""

    account: Account
    scope: str
    issued_at: float
    expires_at: float


class TokenLedger:
    """The tokens of one simulator. Not thread-safe: the simulator holds its lock around each call."""

    def __init__(self) -> None:
        self._tokens: dict[str, IssuedToken] = {}
        self._latest: dict[tuple[str, str], IssuedToken] = {}

    def add(self, token: IssuedToken) -> None:
        """Keeps a new token, and forgets the oldest that have expired, so that memory stays small."""
        for value, oldest in list(_expired_first(self._tokens, token.issued_at)):
            del self._tokens[value]
            if self._latest.get((oldest.account, oldest.scope)) is oldest:
                del self._latest[oldest.account, oldest.scope]
        self._tokens[token.value] = token
        self._latest[token.account, token.scope] = token

    def latest(self, account: str, scope: str, now: float) -> IssuedToken | None:
        """The live token that was issued last to this account for this scope."""
        token = self._latest.get((account, scope))
        return token if token and token.live(now) else None

    def find(self, value: str) -> IssuedToken | None:
        return self._tokens.get(value)

    def live(self, now: float) -> list[IssuedToken]:
        return [token for token in self._tokens.values() if token.live(now)]

    def revoke(self, matches: Callable[[IssuedToken], bool]) -> int:
        """Revokes the matching tokens. Returns how many of them were not revoked before."""
        matching = [token for token in self._tokens.values() if not token.revoked and matches(token)]
        for token in matching:
            token.revoked = True
        return len(matching)


def _expired_first(tokens: dict[str, IssuedToken], now: float) -> Iterator[tuple[str, IssuedToken]]:
    for value, token in tokens.items():
        if now < token.expires_at:
            return
        yield value, token

"""What the broker needs of the world: stores, vault, sealer and queue as protocols; send, clock, sleep as callables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from token_broker.core.credentials import Secret
from token_broker.core.exchange import HttpRequest, HttpResponse, Network
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.tokens import Guard, Refresh, Retired, Token, TokenRecord

Clock = Callable[[], datetime]
Sleep = Callable[[float], None]
NewId = Callable[[], str]
# Sends one request within a time and returns the whole answer. Raises TransportError.
Send = Callable[[HttpRequest, Network, timedelta], HttpResponse]


@dataclass(frozen=True, slots=True)
class StoredSettings:
    """The settings of a connection as stored; not yet checked."""

    name: ConnectionName
    settings: Mapping[str, Any] = field(repr=False)
    version: str


@dataclass(frozen=True, slots=True)
class DueKey:
    """An entry of the due index. `due_at` is the claim's expectation: the item as it was seen."""

    pk: str
    sk: str
    due_at: datetime


class Unclaimed(Exception):
    """A conditional write did not hold: somebody else was there first."""


class TokenStore(Protocol):
    """The token cache. Reads are strongly consistent; writes of a lease holder hold only while `owner` still leads.

    Every method raises BrokerUnavailable where the store does not answer.
    """

    def read(self, key: TokenKey) -> tuple[StoredSettings | None, TokenRecord]:
        """Settings, token and guard in one call."""

    def read_due(self, name: ConnectionName, sk: str) -> tuple[StoredSettings | None, TokenRecord | None]:
        """The same for a sort key from the due index; no record where the item is gone."""

    def records(self, name: ConnectionName) -> list[TokenRecord]:
        """Every token key of a connection, with its guard."""

    def take_lease(
        self, seen: TokenRecord, owner: str, *, now: datetime, until: datetime, mark_refresh: bool
    ) -> tuple[bool, TokenRecord]:
        """Takes the lease unless another holds it, or held it since `seen` was read: what was decided on still stands.

        Marks the stored refresh token as sent in the same write.
        Returns whether it was taken, and the record: with the lease as it was before the write. The guard is not read.
        A repeat by the same owner succeeds, and finds the refresh token marked.
        """

    def note_rejection(self, key: TokenKey, owner: str, *, count: int, until: datetime) -> None:
        """Writes down a forced request before it is made."""

    def commit(self, key: TokenKey, owner: str, commit: Commit) -> TokenRecord | None:
        """Stores a token while `owner` leads, and ends the lease. Returns None, or the record that stands instead.

        What changed since the lease was taken is kept (see Commit.after).
        """

    def end_lease(self, key: TokenKey, owner: str, *, unmark_refresh: bool = False) -> None:
        """Ends the lease and leaves everything else as it is. Somebody else's lease is left alone."""

    def release(
        self,
        seen: TokenRecord,
        owner: str,
        *,
        now: datetime,
        failure: Failure | None = None,
        unmark_refresh: bool = False,
        due_at: datetime | None = None,
    ) -> None:
        """Ends the lease after a failure. Somebody else's lease is left alone. `due_at` None: off the index.

        `seen`: the record when the lease was taken. If the secret changed since, the key is due at once instead.
        """

    def put_guard(self, name: ConnectionName, failure: Failure, *, settled: bool, seen: Failure | None = None) -> None:
        """Remembers a failure of the whole connection; `settled`: no login attempt is open any more.

        It replaces `seen`. What somebody else met meanwhile stays if it rests for longer. A wish to be left alone
        stands beside any other failure.
        """

    def clear_guard(self, name: ConnectionName, seen: Guard) -> None:
        """Forgets the failures `seen` and unresolved attempts."""

    def end_rests(self, name: ConnectionName) -> None:
        """Forgets the failures of the connection and of each of its keys."""

    def begin_attempt(self, name: ConnectionName, owner: str, version: str) -> int:
        """Counts an owner's login attempt, once, before it is sent. Returns how many are unresolved, with this one.

        Those with another version of the secret do not count.
        """

    def settle_attempt(self, name: ConnectionName) -> None:
        """One attempt's outcome is known."""

    def note_version(self, name: ConnectionName, tried: Sequence[tuple[str, datetime]]) -> None:
        """Remembers which secret versions were first tried when."""

    def begin_trial(self, name: ConnectionName, *, now: datetime, not_after: datetime) -> bool:
        """Notes a trial unless there was one after `not_after`."""

    def note_use(self, key: TokenKey, *, now: datetime, due_at: datetime | None) -> None:
        """Notes that a key is used; one that fell off the due index comes back with `due_at`."""

    def make_due(self, key: TokenKey, due_at: datetime) -> None:
        """Makes a key due, also one that was never asked for (keep_warm always)."""

    def put_off(self, seen: TokenRecord, due_at: datetime | None) -> None:
        """Moves a key's due time, or takes it off the index (None), unless somebody moved it since `seen` was read."""

    def mark_stale(self, name: ConnectionName, now: datetime) -> int:
        """The connection's secret or settings changed: its keys are due at once. Returns how many."""

    def purge(self, record: TokenRecord, revoke_with: Mapping[str, Any], now: datetime) -> TokenRecord:
        """Drops token, refresh token, lease and failure at once; what lived is kept sealed for its revocation only.

        Returns the record as it stood, which can be newer than the one given.
        """

    def retire(self, key: TokenKey, token: Retired, revoke_with: Mapping[str, Any], due_at: datetime) -> None:
        """Keeps one more token for its revocation."""

    def forget_retired(self, key: TokenKey, token_ids: Sequence[str]) -> None:
        """Revoked, or ended by itself."""

    def due(self, shard: int, *, until: datetime) -> Sequence[DueKey]:
        """The keys of a shard that are due by `until`, most urgent first; pages are followed."""

    def claim_due(self, due: DueKey, *, until: datetime) -> bool:
        """Moves `due_at` on, unless somebody did."""

    def take_budget(self, host: str, *, now: datetime, limit: int) -> datetime | None:
        """Takes one request from the host's minute. Returns None, or from when on there may be another."""

    def rest_host(self, host: str, until: datetime) -> None:
        """Nobody asks this host before `until`."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What a successful acquisition stores. `used`: a caller asked for it.

    `seen`: the record when the lease was taken. What came since stays.
    """

    seen: TokenRecord
    token: Token
    refresh: Refresh | None
    retired: tuple[Retired, ...]
    due_at: datetime | None
    now: datetime
    used: bool
    keep_rejections: bool

    def after(self, record: TokenRecord) -> Commit:
        """The same over a record that changed meanwhile: a retired token keeps its place, one revoked meanwhile
        does not come back, a changed secret is due."""
        kept = {item.token_id for item in (*self.retired, *self.seen.retired)} | {self.token.token_id}
        gone = {item.token_id for item in self.seen.retired} - {item.token_id for item in record.retired}
        retired = tuple(item for item in self.retired if item.token_id not in gone)
        retired += tuple(item for item in record.retired if item.token_id not in kept)
        due_at = self.now if record.stale_at != self.seen.stale_at else self.due_at
        return replace(self, retired=retired, due_at=due_at)


# As an expected version: whatever is there, so long as there is something (If-Match: *).
ANY_VERSION = "*"


class ConnectionStore(Protocol):
    """Settings: the source of truth. Raises BrokerUnavailable where it does not answer."""

    def get(self, name: ConnectionName) -> StoredSettings | None: ...

    def put(
        self, name: ConnectionName, settings: Mapping[str, Any], *, version: str, expected: str | None, absent: bool
    ) -> StoredSettings | None:
        """Writes if the stored version is `expected` (None: whatever it is), or if there is none (`absent`).

        Returns what stood there before. Raises Unclaimed if the condition does not hold.
        """

    def delete(self, name: ConnectionName, *, expected: str | None) -> bool:
        """Whether there was one. Raises Unclaimed if it has another version."""

    def page(self, limit: int, cursor: str | None) -> tuple[list[StoredSettings], str | None]:
        """Some connections and where to go on. Raises ValueError for a cursor that is none."""


class SecretVault(Protocol):
    """Where credentials live. Raises BrokerUnavailable where it does not answer."""

    def read(self, name: ConnectionName, stage: str = "AWSCURRENT") -> Secret | None:
        """The secret's version at a stage; None where there is no such secret or version."""


class SealBroken(Exception):
    """A sealed value does not open here: tampered with, moved from elsewhere, or sealed under another key."""


class Sealer(Protocol):
    """Seals a value for one place and purpose. Raises BrokerUnavailable where KMS does not answer."""

    def seal(self, value: str, key: TokenKey, purpose: str) -> bytes: ...

    def open(self, sealed: bytes, key: TokenKey, purpose: str) -> str:
        """Raises SealBroken."""


@dataclass(frozen=True, slots=True)
class RenewalMessage:
    """A request to the worker. It names a key and carries nothing else."""

    pk: str
    sk: str
    delay: timedelta = timedelta()


class RenewalQueue(Protocol):
    """Hands keys to the renewing worker. Raises BrokerUnavailable where it does not answer."""

    def send(self, messages: Sequence[RenewalMessage]) -> Sequence[RenewalMessage]:
        """Returns what could not be queued."""

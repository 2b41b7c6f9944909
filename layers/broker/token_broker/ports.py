"""What the broker needs from outside: stores, sealer and queue as protocols; send, clock and sleep as callables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from token_broker.core.connections import NetworkOptions
from token_broker.core.credentials import Secret
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import ConnectionHealth, RefreshToken, RetiredToken, Token, TokenRecord
from token_broker.oauth.exchange import HttpRequest, HttpResponse

Clock = Callable[[], datetime]
Sleep = Callable[[float], None]
NewId = Callable[[], str]
# Sends one request and returns the whole response within a time. Raises TransportError.
Send = Callable[[HttpRequest, NetworkOptions, timedelta], HttpResponse]


@dataclass(frozen=True, slots=True)
class StoredSettings:
    """The settings of a connection as stored; not yet checked."""

    name: ConnectionName
    settings: Mapping[str, Any] = field(repr=False)
    version: str


@dataclass(frozen=True, slots=True)
class DueKey:
    """An entry of the due index. A claim holds only if `due_at` has not changed."""

    name: ConnectionName
    scope_id: str
    due_at: datetime


class ConditionFailed(Exception):
    """The condition of a write did not hold: somebody else was first."""


class TokenStore(Protocol):
    """The token cache. Reads are strongly consistent. A write of a lease holder holds only while it owns the lease.

    Every method raises BrokerUnavailable if the store fails.
    """

    def read(self, key: TokenKey) -> tuple[StoredSettings | None, TokenRecord]:
        """Settings, token and connection health in one call."""

    def read_due(self, name: ConnectionName, scope_id: str) -> tuple[StoredSettings | None, TokenRecord | None]:
        """The same for a key of the due index. None where the item is gone."""

    def records(self, name: ConnectionName) -> list[TokenRecord]:
        """All token keys of a connection, with its health."""

    def take_lease(
        self, read_as: TokenRecord, owner: str, *, now: datetime, until: datetime, mark_refresh: bool
    ) -> tuple[bool, TokenRecord]:
        """Takes the lease, unless somebody holds it or held it after the record was read as `read_as`.

        The same write marks the stored refresh token as sent. Returns whether it was taken, and the record as it was
        before the write, without connection health. A repeat by the same owner succeeds and finds the refresh token
        marked.
        """

    def note_report(self, key: TokenKey, owner: str, *, count: int, until: datetime) -> None:
        """Notes a token request that a report caused, before it is sent."""

    def commit(self, key: TokenKey, owner: str, commit: Commit) -> TokenRecord | None:
        """Stores a token if `owner` still owns the lease, and ends it. Returns None, else the record that is stored.

        Changes since the lease was taken are kept (see Commit.over).
        """

    def end_lease(self, key: TokenKey, owner: str, *, unmark_refresh: bool = False) -> None:
        """Ends the lease if `owner` owns it. Changes nothing else."""

    def release(
        self,
        read_as: TokenRecord,
        owner: str,
        *,
        now: datetime,
        failure: Failure | None = None,
        unmark_refresh: bool = False,
        due_at: datetime | None = None,
    ) -> None:
        """Ends the lease after a failure, if `owner` owns it. `due_at` None: off the due index.

        `read_as`: the record when the lease was taken. If the secret changed since then, the key is due at once.
        """

    def put_health(
        self, name: ConnectionName, failure: Failure, *, settled: bool, replaced: Failure | None = None
    ) -> None:
        """Remembers a failure of the whole connection. `settled`: no login is unresolved any more.

        It replaces the failure `replaced`. A failure stored since then stays if its cooldown is longer. A rate limit
        is stored beside any other failure.
        """

    def clear_health(self, name: ConnectionName, read_as: ConnectionHealth) -> None:
        """Forgets the failures of `read_as` and the unresolved logins."""

    def end_cooldowns(self, name: ConnectionName) -> None:
        """Forgets the failures of the connection and of each of its keys."""

    def begin_login(self, name: ConnectionName, owner: str, version: str) -> int:
        """Counts an owner's login, once, before it is sent. Returns how many are unresolved, this one included.

        Logins with another version of the secret do not count.
        """

    def settle_login(self, name: ConnectionName) -> None:
        """The outcome of one login is known."""

    def note_version(self, name: ConnectionName, new_versions: Sequence[tuple[str, datetime]]) -> None:
        """Remembers which secret versions were first used when."""

    def begin_trial(self, name: ConnectionName, *, now: datetime, not_after: datetime) -> bool:
        """Notes a trial unless there was one after `not_after`."""

    def note_use(self, key: TokenKey, *, now: datetime, due_at: datetime | None) -> None:
        """Notes that a key is used. `due_at` puts it back into the due index."""

    def make_due(self, key: TokenKey, due_at: datetime) -> None:
        """Makes a key due, even one without a token yet (keep_warm always)."""

    def put_off(self, read_as: TokenRecord, due_at: datetime | None) -> None:
        """Moves a key's due time, or takes it off the index (None), unless it moved since `read_as` was read."""

    def mark_stale(self, name: ConnectionName, now: datetime) -> int:
        """The connection's secret or settings changed: its keys are due at once. Returns how many keys."""

    def purge(self, record: TokenRecord, revocation_settings: Mapping[str, Any], now: datetime) -> TokenRecord:
        """Drops token, refresh token, lease and failure in one write. Live tokens stay sealed, only to be revoked.

        Returns the record as it was, which can be newer than the one given.
        """

    def retire(
        self, key: TokenKey, token: RetiredToken, revocation_settings: Mapping[str, Any], due_at: datetime
    ) -> None:
        """Keeps one more token to be revoked."""

    def forget_retired(self, key: TokenKey, token_ids: Sequence[str]) -> None:
        """These tokens are revoked or expired."""

    def due(self, shard: int, *, until: datetime) -> Sequence[DueKey]:
        """All keys of a shard that are due by `until`, the most urgent first."""

    def claim_due(self, due: DueKey, *, until: datetime) -> bool:
        """Moves the due time on, unless somebody else did. Returns whether it did."""

    def take_budget(self, host: str, *, now: datetime, limit: int) -> datetime | None:
        """Takes one request from the host's budget for this minute. Returns None, or when to try again."""

    def cool_down_host(self, host: str, until: datetime) -> None:
        """This host is not asked before `until`."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What a successful acquisition stores. `used`: a caller asked for it. `read_as`: the record under the lease."""

    read_as: TokenRecord
    token: Token
    refresh_token: RefreshToken | None
    retired: tuple[RetiredToken, ...]
    due_at: datetime | None
    now: datetime
    used: bool
    keep_rejections: bool

    def over(self, record: TokenRecord) -> Commit:
        """The same for a record that changed since the lease was taken.

        Tokens retired since then stay, tokens revoked since then do not come back, and a changed secret is due.
        """
        kept = {item.token_id for item in (*self.retired, *self.read_as.retired)} | {self.token.token_id}
        gone = {item.token_id for item in self.read_as.retired} - {item.token_id for item in record.retired}
        retired = tuple(item for item in self.retired if item.token_id not in gone)
        retired += tuple(item for item in record.retired if item.token_id not in kept)
        due_at = self.now if record.stale_at != self.read_as.stale_at else self.due_at
        return replace(self, retired=retired, due_at=due_at)


# As an expected version: any, but the item must exist (If-Match: *).
ANY_VERSION = "*"


class ConnectionStore(Protocol):
    """The settings of connections: the source of truth. Raises BrokerUnavailable if the store fails."""

    def get(self, name: ConnectionName) -> StoredSettings | None: ...

    def put(
        self, name: ConnectionName, settings: Mapping[str, Any], *, version: str, expected: str | None, absent: bool
    ) -> StoredSettings | None:
        """Writes if the stored version is `expected` (None: whatever it is), or if there is none (`absent`).

        Returns what was stored before. Raises ConditionFailed.
        """

    def delete(self, name: ConnectionName, *, expected: str | None) -> bool:
        """Returns whether there was one. Raises ConditionFailed if it has another version."""

    def page(self, limit: int, cursor: str | None) -> tuple[list[StoredSettings], str | None]:
        """Some connections, and the cursor of the next page. Raises ValueError for an invalid cursor."""


class SecretStore(Protocol):
    """The credentials. Raises BrokerUnavailable if the store fails."""

    def read(self, name: ConnectionName, stage: str = "AWSCURRENT") -> Secret | None:
        """The secret's version at a stage; None if there is no such secret or version."""


class SealBroken(Exception):
    """A sealed value cannot be opened here: it was changed, moved, or sealed with another key."""


class Sealer(Protocol):
    """Seals a value for one token key and purpose. Raises BrokerUnavailable if KMS fails."""

    def seal(self, value: str, key: TokenKey, purpose: str) -> bytes: ...

    def open(self, sealed: bytes, key: TokenKey, purpose: str) -> str:
        """Raises SealBroken."""


@dataclass(frozen=True, slots=True)
class RenewalMessage:
    """A message to the worker. It names a token key and holds nothing else."""

    name: ConnectionName
    scope_id: str
    delay: timedelta = timedelta()


class RenewalQueue(Protocol):
    """Sends token keys to the worker. Raises BrokerUnavailable if the queue fails."""

    def send(self, messages: Sequence[RenewalMessage]) -> Sequence[RenewalMessage]:
        """Returns the messages that could not be queued."""

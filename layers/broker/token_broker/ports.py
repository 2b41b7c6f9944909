"""What the broker needs from outside: stores, sealer and queue as protocols; send, clock and sleep as callables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from token_broker.core.connections import NetworkOptions
from token_broker.core.credentials import Secret
from token_broker.core.health import ConnectionHealth
from token_broker.core.names import ConnectionName, Place, TokenKey
from token_broker.core.providers import MINUTE
from token_broker.core.records import RetiredToken, TokenRecord
from token_broker.oauth.assertions import Sign
from token_broker.oauth.exchange import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from token_broker.core.consent_sessions import ConsentSession, SessionFailure
    from token_broker.core.consents import Consent

Clock = Callable[[], datetime]
Sleep = Callable[[float], None]
NewId = Callable[[], str]
# Makes a random text that nobody can guess: 43 characters of base64url, 256 bits.
NewSecret = Callable[[], str]
# Sends one request and returns the whole response within a time. Raises TransportError. In AWS:
# adapters.provider_http.ProviderHttp.
Send = Callable[[HttpRequest, NetworkOptions, timedelta], HttpResponse]


@dataclass(frozen=True, slots=True)
class StoredSettings:
    """The settings of a connection as stored; not yet checked.

    `number`: 1 for the first settings, one more with each change. `changed_at` and `changed_by`: when this version was
    stored, and by which caller.
    """

    name: ConnectionName
    settings: Mapping[str, Any] = field(repr=False)
    version: str
    number: int = field(default=1, compare=False)
    changed_at: datetime | None = field(default=None, compare=False)
    changed_by: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ConnectionItems:
    """All that is stored of a connection's tokens."""

    records: Sequence[TokenRecord]
    retired: Sequence[RetiredToken]


class TokenStore(Protocol):
    """The token cache. Reads are strongly consistent. Raises BrokerUnavailable if the store fails.

    In AWS: adapters.dynamodb.token_store.
    """

    def read(self, key: TokenKey) -> tuple[StoredSettings | None, TokenRecord]:
        """Settings, token key and connection health in one call."""

    def read_due(self, name: ConnectionName, scope_id: str) -> tuple[StoredSettings | None, TokenRecord | None]:
        """The same for a key of the due index. None where the item is gone."""

    def read_retired(
        self, name: ConnectionName, scope_id: str, token_id: str
    ) -> tuple[StoredSettings | None, TokenRecord | None, RetiredToken | None]:
        """The same with a retired token of the key."""

    def items(self, name: ConnectionName) -> ConnectionItems:
        """All token keys of a connection with its health, and its retired tokens."""

    def items_of(self, names: Sequence[ConnectionName]) -> Sequence[ConnectionItems]:
        """The items of several connections, read at the same time."""

    def save(self, before: TokenRecord, after: TokenRecord) -> TokenRecord | None:
        """Writes what differs, if the item is still at `before.revision`. `after.revision` is the new one.

        Returns None, else the record that is stored, with the health of `before`. A repeat of a write that took effect
        succeeds.
        """

    def put_retired(self, token: RetiredToken) -> None:
        """Stores a retired token, or replaces it. One without `revoke` replaces none: a purge may have marked it."""

    def delete_retired(self, token: RetiredToken) -> None: ...


class HealthStore(Protocol):
    """The health of connections. Raises BrokerUnavailable if the store fails.

    In AWS: adapters.dynamodb.health_store.
    """

    def save(self, name: ConnectionName, before: ConnectionHealth, after: ConnectionHealth) -> ConnectionHealth | None:
        """Writes if the item is still at `before.revision`. Returns None, else the health that is stored."""


@dataclass(frozen=True, slots=True)
class DueKey:
    """An entry of the due index: a token key, or one of its retired tokens. A claim holds only for this `due_at`."""

    name: ConnectionName
    scope_id: str
    due_at: datetime
    token_id: str | None = None
    delete_at: datetime | None = None


class DueIndex(Protocol):
    """The keys that the sweep must look at. Raises BrokerUnavailable if the store fails.

    In AWS: adapters.dynamodb.due_index.
    """

    def due(self, shard: int, *, until: datetime) -> Sequence[DueKey]:
        """All keys of a shard that are due by `until`, the most urgent first."""

    def claim(self, due: DueKey, *, until: datetime) -> bool:
        """Moves the due time on, unless somebody else did. Returns whether it did."""


class Budgets(Protocol):
    """The request budgets and cooldowns of endpoints. Raises BrokerUnavailable if the store fails.

    `host`: the endpoint's host, or one client or connection there. A budget is that of a calendar `period` (UTC).
    In AWS: adapters.dynamodb.budgets.
    """

    def busy_until(self, host: str, *, now: datetime, limit: int, period: timedelta = MINUTE) -> datetime | None:
        """None if a request may be taken, else when to try again. Takes nothing."""

    def take(self, host: str, *, now: datetime, limit: int, period: timedelta = MINUTE) -> datetime | None:
        """Takes one request from the budget of this period. Returns None, or when to try again."""

    def cool_down(self, host: str, until: datetime) -> None:
        """This host is not asked before `until`."""


class ConditionFailed(Exception):
    """The condition of a write did not hold: somebody else was first."""


# As an expected version: any, but the item must exist (If-Match: *).
ANY_VERSION = "*"
# The versions of a connection's settings that are kept, the current one included.
KEPT_VERSIONS = 20


class ConnectionStore(Protocol):
    """The settings of connections: the source of truth. Raises BrokerUnavailable if the store fails.

    In AWS: adapters.dynamodb.connection_store.
    """

    def get(self, name: ConnectionName) -> StoredSettings | None: ...

    def put(
        self,
        name: ConnectionName,
        settings: Mapping[str, Any],
        *,
        version: str,
        expected: str | None,
        absent: bool,
        at: datetime | None = None,
        caller: str | None = None,
    ) -> StoredSettings | None:
        """Writes if the stored version is `expected` (None: any), or if there is none (`absent`).

        Returns what was stored before, and keeps it as an earlier version if it differs. Raises ConditionFailed.
        """

    def delete(self, name: ConnectionName, *, expected: str | None) -> bool:
        """Deletes the settings with their earlier versions. Returns whether there were any.

        Raises ConditionFailed if they have another version.
        """

    def history(self, name: ConnectionName) -> list[StoredSettings]:
        """The last KEPT_VERSIONS versions, the current one first; empty if there is no such connection."""

    def page(
        self, limit: int, after: ConnectionName | None, provider: str | None = None
    ) -> tuple[list[StoredSettings], bool]:
        """The connections after a name, in the order of names, at most `limit`; and whether more follow.

        With `provider` only that provider's; `after` is then one of them too.
        """


@dataclass(frozen=True, slots=True)
class DueConsent:
    """A consent whose refresh token must be sent although nobody may ask. A claim holds only for this `due_at`."""

    name: ConnectionName
    due_at: datetime


class ConsentStore(Protocol):
    """The consents of persons, in GrantTable: a source of truth. Raises BrokerUnavailable if the store fails.

    In AWS: adapters.dynamodb.consent_store.
    """

    def read(self, name: ConnectionName) -> Consent:
        """A connection's consent; an empty one where nothing is stored. Strongly consistent."""

    def save(self, before: Consent, after: Consent) -> Consent | None:
        """Writes if the item is still at `before.revision`. Returns None, else the consent that is stored.

        A repeat of a write that took effect succeeds.
        """

    def due(self, *, until: datetime) -> Sequence[DueConsent]:
        """All consents that are due by `until`, the most urgent first."""

    def claim(self, due: DueConsent, *, until: datetime) -> bool:
        """Moves the due time on, unless somebody else did. Returns whether it did. The revision stays."""


@dataclass(frozen=True, slots=True)
class CodeReceipt:
    """What a redirect brought for a consent session, found by its state alone.

    `iss`: None if the redirect has none. `sealed_code` and `code_id`, or the `failure` that stands in its place.
    `revision`: the new one.
    """

    consent_id: str
    provider: str
    iss: str | None
    code_id: str | None = None
    sealed_code: bytes | None = field(default=None, repr=False)
    kept: Mapping[str, str] = field(default_factory=dict)
    failure: SessionFailure | None = None
    revision: str = ""


class ConsentSessionStore(Protocol):
    """The ways to a consent, in GrantTable. Raises BrokerUnavailable if the store fails.

    In AWS: adapters.dynamodb.consent_session_store.
    """

    def read(self, consent_id: str) -> ConsentSession | None:
        """None if there is no such session. Strongly consistent."""

    def save(self, before: ConsentSession | None, after: ConsentSession) -> bool:
        """Writes if the item is still at `before.revision` (None: if there is none). Returns whether it did.

        A repeat of a write that took effect succeeds.
        """

    def receive(self, receipt: CodeReceipt, now: datetime) -> bool:
        """One conditional write, without a read: only if the session of this provider accepts this code now.

        Returns whether it took effect, also for the same code again.
        """


class ConsentQueue(Protocol):
    """Sends consent sessions to the function that exchanges their codes. Raises BrokerUnavailable if the queue fails.

    In AWS: adapters.sqs.
    """

    def send(self, consent_id: str, delay: timedelta = timedelta()) -> None: ...


class SecretNotReadable(Exception):
    """The secret exists, but the broker may not read it or decrypt it."""


class SecretStore(Protocol):
    """The credentials. Raises BrokerUnavailable if the store fails.

    In AWS: adapters.secrets_manager.
    """

    def read(self, name: ConnectionName, stage: str = "AWSCURRENT") -> Secret | None:
        """The secret's version at a stage; None if there is no such secret or version. Raises SecretNotReadable."""


class SealBroken(Exception):
    """A sealed value cannot be opened here: it was changed, moved, or sealed with another key."""


# Seals one value with a data key that is there already.
Seal = Callable[[str], bytes]


class Sealer(Protocol):
    """Seals a value for one place and purpose. Raises BrokerUnavailable if KMS fails.

    In AWS: adapters.kms.
    """

    def prepare(self, place: Place, purpose: str) -> Seal:
        """Gets the data key now. The returned function calls no service, and is used once."""

    def open(self, sealed: bytes, place: Place, purpose: str) -> str:
        """Raises SealBroken."""


class SigningKeys(Protocol):
    """Keys of connections that sign without leaving their place. In AWS: adapters.kms_signing_keys."""

    def signer(self, name: ConnectionName, algorithm: str) -> Sign:
        """Signs with a connection's key. The function raises ConnectionMisconfigured or BrokerUnavailable."""


@dataclass(frozen=True, slots=True)
class RenewalMessage:
    """A message to the worker. It names a token key, or one of its retired tokens, and holds nothing else.

    `scope_id` None: it names the connection's consent, whose refresh token must be sent.
    """

    name: ConnectionName
    scope_id: str | None
    delay: timedelta = timedelta()
    token_id: str | None = None


# Told of each refresh token that is sent again: its connection, its fingerprint, and when it was first sent.
ReportResend = Callable[[ConnectionName, str, datetime], None]


class RenewalQueue(Protocol):
    """Sends token keys to the worker. Raises BrokerUnavailable if the queue fails.

    In AWS: adapters.sqs.
    """

    def send(self, messages: Sequence[RenewalMessage]) -> Sequence[RenewalMessage]:
        """Returns the messages that could not be queued."""

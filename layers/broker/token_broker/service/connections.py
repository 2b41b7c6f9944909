"""Connections: their settings, versions, and the state of each token. Never a secret or a token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from token_broker.core.connections import Connection
from token_broker.core.consents import Consent, is_dead
from token_broker.core.expiries import ExpiryDate, expiry_dates
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.providers import Provider
from token_broker.core.records import TokenRecord
from token_broker.core.setting_changes import changed_names
from token_broker.errors import (
    BrokerError,
    BrokerUnavailable,
    FieldError,
    InvalidRequest,
    UnknownConnection,
    VersionConflict,
)
from token_broker.ports import ANY_VERSION, KEPT_VERSIONS, ConditionFailed, RenewalMessage, StoredSettings
from token_broker.service.context import BrokerContext, SettingsReader
from token_broker.service.records import MAX_TRIES, try_save
from token_broker.service.revoke import NotRevoked, PurgeResult, Revoker

STATES = ("ok", "failing", "reported", "suspended", "misconfigured", "consent_required", "idle")


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """A connection and its tokens. `state`: one of STATES. `live`: how many live tokens.

    `consent`: where the grant needs one.
    """

    name: ConnectionName
    state: str
    version: str
    settings: Mapping[str, Any] = field(repr=False)
    records: tuple[TokenRecord, ...] = ()
    live: int = 0
    next_expiry: datetime | None = None
    next_renewal: datetime | None = None
    last_failure: Failure | None = None
    deadlines: tuple[ExpiryDate, ...] = ()
    consent: Consent | None = None


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """Settings that were stored. `before`: what they replaced."""

    connection: Connection
    before: StoredSettings | None

    @property
    def is_new(self) -> bool:
        return self.before is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion(PurgeResult):
    """What became of a deleted connection's tokens. `settings`: what it was. `provider`: None if that is gone."""

    provider: Provider | None
    settings: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SettingsVersion:
    """A version of a connection's settings. `changed`: the settings that differ from the version before."""

    stored: StoredSettings
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Connections:
    """Creates, shows and deletes connections. It can neither read a secret's value nor open a token."""

    context: BrokerContext
    reader: SettingsReader
    revoker: Revoker

    def page(
        self, limit: int, after: ConnectionName | None, *, provider: str | None = None, state: str | None = None
    ) -> tuple[list[ConnectionState], ConnectionName | None]:
        """The connections after a name, in the order of names, and the last one that was read if more follow.

        It reads `limit` connections, and returns those in `state`. So its cost does not depend on how many match.
        """
        if after is not None and provider not in (None, after.provider):
            fault = FieldError("cursor", "belongs to another provider")
            raise InvalidRequest("The cursor and the provider contradict each other.", errors=[fault])
        stored, has_more = self.context.connections.page(limit, after, provider)
        items = self.context.tokens.items_of([settings.name for settings in stored])
        states = [self._state(settings, found.records) for settings, found in zip(stored, items, strict=True)]
        last = stored[-1].name if stored and has_more else None
        return [found for found in states if state in (None, found.state)], last

    def show(self, name: ConnectionName) -> ConnectionState:
        """Raises UnknownProvider or UnknownConnection."""
        return self._state(self.reader.stored(name), self.context.tokens.items(name).records)

    def check(self, name: ConnectionName, settings: object) -> tuple[FieldError, ...]:
        """The faults of settings, which are not stored. Raises UnknownProvider."""
        try:
            self.reader.parse(name, settings)
        except InvalidRequest as error:
            return error.errors
        return ()

    def history(self, name: ConnectionName) -> list[SettingsVersion]:
        """The last versions of the settings, the current one first. Raises UnknownProvider or UnknownConnection."""
        versions = self.context.connections.history(name)
        if not versions:
            self.reader.provider(name.provider)
            raise UnknownConnection(f"There is no connection {name}.")
        before: list[Mapping[str, Any]] = [version.settings for version in versions[1:]]
        if versions[-1].number == 1:
            before.append({})
        changed = [tuple(changed_names(old, new.settings)) for old, new in zip(before, versions, strict=False)]
        # What the oldest version changed is not known any more.
        changed += [()] * (len(versions) - len(changed))
        return [SettingsVersion(stored, names) for stored, names in zip(versions, changed, strict=True)]

    def check_health(self) -> dict[str, str]:
        """`ok` or `failing` for each of the two tables."""
        name = ConnectionName("health", "check")
        checks = {}
        for table, read in (("connections", self.context.connections.get), ("tokens", self.context.tokens.items)):
            try:
                read(name)
                checks[table] = "ok"
            except BrokerUnavailable:
                checks[table] = "failing"
        return checks

    def restore(
        self, name: ConnectionName, version: str, *, expected: str | None, caller: str | None = None
    ) -> SettingsChange:
        """Puts an earlier version of the settings. The connection stays suspended, or not suspended, as it is.

        Raises InvalidRequest if that version is not kept or not valid any more, or VersionConflict.
        """
        versions = {found.stored.version: found.stored for found in self.history(name)}
        if version not in versions:
            fault = FieldError("version", f"is not one of the last {KEPT_VERSIONS}")
            raise InvalidRequest(f"{name} has no such version.", errors=[fault])
        current = next(iter(versions.values()))
        settings = {key: value for key, value in versions[version].settings.items() if key != "suspended"}
        if "suspended" in current.settings:
            settings["suspended"] = current.settings["suspended"]
        # Without a version of the caller's, the one that was read: somebody may suspend the connection meanwhile.
        if expected in (None, ANY_VERSION):
            expected = current.version
        return self.put(name, settings, expected=expected, absent=False, caller=caller)

    def put(
        self, name: ConnectionName, settings: object, *, expected: str | None, absent: bool, caller: str | None = None
    ) -> SettingsChange:
        """Creates or replaces the settings. Raises InvalidRequest with every fault, or VersionConflict."""
        connection = self.reader.parse(name, settings, version=self.context.new_id())
        try:
            before = self.context.connections.put(
                name,
                connection.settings,
                version=connection.version,
                expected=expected,
                absent=absent,
                at=self.context.clock(),
                caller=caller,
            )
        except ConditionFailed:
            raise VersionConflict(f"The settings of {name} have another version than the request names.") from None
        self._apply(connection, resumed=before is not None and before.settings.get("suspended") is True)
        return SettingsChange(connection, before)

    def _apply(self, connection: Connection, *, resumed: bool) -> None:
        """Applies the settings to every token key. A PUT that failed in between can simply be repeated."""
        keys = [record.key for record in self.context.tokens.items(connection.name).records]
        own_key = TokenKey(connection.name, connection.scope)
        if connection.renewal_mode == "always" and own_key not in keys:
            keys.append(own_key)
        for key in keys:
            self._apply_to(key, resumed=resumed)

    def _apply_to(self, key: TokenKey, *, resumed: bool) -> None:
        """Applies the settings that are stored now: another PUT may have replaced those of this one.

        A record that they do not change gets a new revision all the same, so that nobody who read it with earlier
        settings can apply those.
        """
        context = self.context
        for _ in range(MAX_TRIES):
            stored, record = context.tokens.read(key)
            if stored is None:
                return
            connection = self.reader.connection(key.name, stored)
            after = record.settings_applied(
                keep_warm=connection.renewal_mode,
                settings_digest=connection.settings_digest,
                now=context.clock(),
                resumed=resumed and not connection.suspended,
            )
            if try_save(context, record, after)[0]:
                return
        raise BrokerUnavailable("The token's item changes faster than it can be written.")

    def delete(self, name: ConnectionName, *, expected: str | None) -> Deletion:
        """Deletes tokens and settings; the secret stays. The worker revokes, because it may open tokens.

        The tokens are dropped first, so that an interrupted delete can be repeated, and again after the settings, for
        what was acquired in between. Keys that are always kept warm leave the due index when the worker finds no
        settings, so that an interrupted delete loses none of them.
        """
        stored = self.reader.stored(name)
        if expected not in (None, ANY_VERSION, stored.version):
            raise VersionConflict(f"The settings of {name} have another version than the request names.")
        dropped = [self.revoker.purge(stored)]
        try:
            self.context.connections.delete(name, expected=stored.version)
        except ConditionFailed:
            raise VersionConflict(f"The settings of {name} were changed while they were being deleted.") from None
        dropped.append(self.revoker.purge(stored))
        tokens = {item.token_id: item for found in dropped for item in found.tokens}.values()
        reason = dropped[0].obstacle
        if reason is None and tokens:
            reason = "queued"
            self.context.queue.send(
                [RenewalMessage(item.key.name, item.key.scope_id, token_id=item.token_id) for item in tokens]
            )
        return Deletion(
            provider=self.context.catalogue.get(name.provider),
            settings=stored.settings,
            dropped=sum(found.count for found in dropped),
            not_revoked=tuple(NotRevoked(item.token_id, reason or "queued", item.expires_at) for item in tokens),
        )

    def _state(self, stored: StoredSettings, records: Sequence[TokenRecord]) -> ConnectionState:
        now = self.context.clock()
        live = [token for record in records if (token := record.live_token(now)) is not None]
        failures = {failure.at: failure for record in records for failure in _current_failures(record, now)}
        last_failure = failures[max(failures)] if failures else None
        try:
            connection = self.reader.connection(stored.name, stored)
        except BrokerError:
            connection = None
        consent = None
        if connection is not None and connection.provider.grant.needs_consent:
            consent = self.context.consents.read(stored.name)
        return ConnectionState(
            name=stored.name,
            state=_state_name(connection, records, last_failure, consent, now),
            version=stored.version,
            settings=stored.settings,
            records=tuple(records),
            live=len(live),
            next_expiry=min((token.expires_at for token in live), default=None),
            next_renewal=min((token.renew_at for token in live), default=None),
            last_failure=last_failure,
            deadlines=expiry_dates(connection, records, consent) if connection is not None else (),
            consent=consent,
        )


def _state_name(
    connection: Connection | None,
    records: Sequence[TokenRecord],
    failure: Failure | None,
    consent: Consent | None,
    now: datetime,
) -> str:
    if connection is None:
        return "misconfigured"
    if connection.suspended:
        return "suspended"
    if consent is not None and is_dead(
        consent, connection.provider.refresh, issuer=connection.endpoints.token, now=now
    ):
        return "consent_required"
    if failure is not None and failure.settings_digest == connection.settings_digest:
        if failure.consent_required:
            return "consent_required"
        return "misconfigured" if failure.misconfigured else "failing"
    if any((allowed_at := record.report_allowed_at()) is not None and allowed_at > now for record in records):
        return "reported"
    return "ok" if any(record.live_token(now) is not None for record in records) else "idle"


def _current_failures(record: TokenRecord, now: datetime) -> tuple[Failure, ...]:
    """A connection's failure counts until it is cleared; a key's own while its token lives or its cooldown lasts."""
    live = record.live_token(now) is not None
    return tuple(
        failure for failure in record.failures() if failure is not record.failure or live or failure.retry_at > now
    )

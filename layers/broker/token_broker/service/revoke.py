"""Revokes tokens at the provider (RFC 7009): after a purge, and those that were never returned to a caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from token_broker.core.connections import Connection
from token_broker.core.credentials import Credentials, parse_credentials
from token_broker.core.failures import DEFAULT_RATE_LIMIT_COOLDOWN, MAX_RATE_LIMIT_COOLDOWN
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import ACCESS_TOKEN, OpenedToken, RetiredToken, TokenRecord
from token_broker.errors import BrokerError, BrokerUnavailable, ConnectionMisconfigured, ProviderRateLimited
from token_broker.oauth.exchange import HttpResponse, TransportError
from token_broker.oauth.requests import revocation_request
from token_broker.oauth.responses import retry_after
from token_broker.ports import SealBroken, SecretNotReadable, StoredSettings
from token_broker.service.budget import take_from_budget
from token_broker.service.context import BrokerContext, SettingsReader
from token_broker.service.records import MAX_TRIES, try_save

FIRST_RETRY = timedelta(minutes=1)
LATER_RETRY = timedelta(minutes=5)
# Reasons for which a retry cannot help.
FINAL_REASONS = frozenset({"not_supported", "would_end_consent", "unreadable", "issued_elsewhere", "provider_refused"})


@dataclass(frozen=True, slots=True)
class NotRevoked:
    """A dropped token that may still be valid at the provider, and why."""

    token_id: str
    reason: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class PurgeResult:
    """How many tokens were dropped, which were revoked at the provider, and which were not."""

    dropped: int = 0
    revoked: tuple[str, ...] = ()
    not_revoked: tuple[NotRevoked, ...] = ()


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge dropped: how many live tokens, and all tokens that must be revoked.

    `connection`: None where the settings are not valid.
    """

    connection: Connection | None
    count: int
    tokens: tuple[RetiredToken, ...]

    @property
    def obstacle(self) -> str | None:
        """Why the tokens cannot be revoked now, if so."""
        if self.connection is None:
            return "settings_invalid"
        return self.connection.revocation_obstacle


@dataclass(frozen=True, slots=True)
class Revoker:
    """Purges and revokes tokens. The purge comes first and needs neither the secret nor the provider."""

    context: BrokerContext
    settings: SettingsReader

    def purge_and_revoke(self, stored: StoredSettings, scope: str | None, *, deadline: datetime) -> PurgeResult:
        """Drops the tokens of one scope set, or of all (None), then revokes until `deadline`.

        The rest stays sealed and due, and the worker revokes it. Invalid settings do not prevent a purge.
        """
        dropped = self.purge(stored, scope)
        revoked: list[str] = []
        not_revoked: list[NotRevoked] = []
        for item in dropped.tokens:
            reason = dropped.obstacle
            if reason is None and self.context.clock() + self.context.limits.exchange > deadline:
                reason = "queued"
            if reason is None and dropped.connection is not None:
                _, record = self.context.tokens.read(item.key)
                reason = self._revoke(dropped.connection, record, item, current=True, retry_in=FIRST_RETRY)
            if reason is None:
                revoked.append(item.token_id)
            else:
                not_revoked.append(NotRevoked(item.token_id, reason, item.expires_at))
        return PurgeResult(dropped.count, tuple(revoked), tuple(not_revoked))

    def purge(self, stored: StoredSettings, scope: str | None = None) -> Purged:
        """Takes the tokens away from every caller.

        Tokens to revoke are stored as retired ones first, where the provider can revoke.
        """
        now = self.context.clock()
        items = self.context.tokens.items(stored.name)
        connection = self.parsed(stored.name, stored.settings)
        can_revoke = connection is None or connection.revocation_obstacle is None
        count = 0
        tokens = dict[str, RetiredToken]()

        def retire(item: RetiredToken) -> None:
            tokens[item.token_id] = item.to_revoke(stored.settings, now + FIRST_RETRY)
            if can_revoke:
                self.context.tokens.put_retired(tokens[item.token_id])

        for item in items.retired:
            if item.expires_at > now and scope in (None, item.key.scope):
                retire(item)
        for record in items.records:
            if scope in (None, record.key.scope):
                count += self._purge_record(record, retire)
        return Purged(connection, count, tuple(tokens.values()))

    def _purge_record(self, record: TokenRecord, retire: Callable[[RetiredToken], None]) -> int:
        """Purges one record. Even an empty one gets a new revision, so that no earlier reader can take its lease."""
        for _ in range(MAX_TRIES):
            live = record.live_token(self.context.clock())
            if live is not None:
                retire(RetiredToken.of(record.key, live))
            saved, record = try_save(self.context, record, record.purged())
            if saved:
                return 1 if live is not None else 0
        raise BrokerUnavailable("The token's item changes faster than it can be written.")

    def retry(self, name: ConnectionName, scope_id: str, token_id: str) -> bool:
        """Revokes one retired token for the worker. Returns whether it was revoked."""
        now = self.context.clock()
        stored, record, item = self.context.tokens.read_retired(name, scope_id, token_id)
        if record is None or item is None:
            return False
        is_current = record.token is not None and record.token.token_id == token_id
        if item.expires_at <= now or is_current or item.settings is None:
            self.context.tokens.delete_retired(item)
            return False
        connection = self.parsed(name, item.settings)
        if connection is None:
            # A later release may know the provider, or read the settings, again.
            self.context.tokens.put_retired(replace(item, due_at=now + LATER_RETRY))
            return False
        current = stored is not None and stored.settings == item.settings
        return self._revoke(connection, record, item, current=current, retry_in=LATER_RETRY) is None

    def revoke_or_keep(self, connection: Connection, item: RetiredToken, access_token: str) -> None:
        """Revokes a token that no caller got. If that fails, the worker retries."""
        reason = self.revoke_access_token(connection, item.key, access_token)
        if reason is not None and reason not in FINAL_REASONS:
            self.context.tokens.put_retired(item)

    def _revoke(
        self, connection: Connection, record: TokenRecord, item: RetiredToken, *, current: bool, retry_in: timedelta
    ) -> str | None:
        """Revokes a retired token, and deletes its item or sets the time of the next try. Returns the reason if not.

        `current`: `connection` holds the settings of now. Otherwise they come from the item, which is not trusted for
        where to send a token.
        """
        reason = self._revoke_sealed(connection, record, item, current=current)
        if reason is None or reason in FINAL_REASONS:
            self.context.tokens.delete_retired(item)
        else:
            self.context.tokens.put_retired(replace(item, due_at=self.context.clock() + retry_in))
        return reason

    def revoke_access_token(
        self, connection: Connection, key: TokenKey, access_token: str, credentials: Credentials | None = None
    ) -> str | None:
        """None if the provider accepted the revocation, else the reason: `would_end_consent` or one of
        `revoke_at_provider`.

        Without `credentials` it reads the current ones.
        """
        obstacle = connection.revocation_obstacle
        return obstacle or self.revoke_at_provider(connection, key.scope, access_token, credentials)

    def revoke_at_provider(
        self, connection: Connection, scope: str, token: str, credentials: Credentials | None = None
    ) -> str | None:
        """None if the provider accepted the revocation, else the reason: `not_supported`, `credentials_missing`,
        `rate_limited`, `provider_unavailable`, `provider_refused` or `broker_unavailable`.
        """
        if connection.endpoints.revocation is None:
            return "not_supported"
        try:
            if credentials is None:
                secret = self.context.secrets.read(connection.name)
                if secret is None:
                    return "credentials_missing"
                credentials = parse_credentials(connection.name, connection.provider, secret)
            grant = self.context.request_for(connection, credentials, scope)
            request = revocation_request(grant, token)
            if request is None:
                return "not_supported"
            take_from_budget(self.context, connection, credentials)
            response = self.context.send(request, self.context.network(connection), self.context.limits.exchange)
            return self._reason(connection, response)
        except (ConnectionMisconfigured, SecretNotReadable):
            return "credentials_missing"
        except ProviderRateLimited:
            return "rate_limited"
        except BrokerUnavailable:
            return "broker_unavailable"
        except TransportError:
            return "provider_unavailable"

    def parsed(self, name: ConnectionName, settings: Mapping[str, Any]) -> Connection | None:
        """A connection by given settings; None where they are not valid."""
        try:
            return self.settings.parse(name, settings)
        except BrokerError:
            return None

    def _reason(self, connection: Connection, response: HttpResponse) -> str | None:
        if 200 <= response.status < 300:
            return None
        now = self.context.clock()
        if response.status == 429 or (response.status == 503 and "retry-after" in response.headers):
            if connection.provider.is_limited_per_host:
                wait = retry_after(response.headers, now) or DEFAULT_RATE_LIMIT_COOLDOWN
                until = now + min(wait, MAX_RATE_LIMIT_COOLDOWN)
                self.context.budgets.cool_down(connection.endpoints.token_host, until)
            return "rate_limited"
        return "provider_unavailable" if response.status >= 500 else "provider_refused"

    def _revoke_sealed(
        self, connection: Connection, record: TokenRecord, item: RetiredToken, *, current: bool
    ) -> str | None:
        if item.token_endpoint != connection.endpoints.token:
            # The settings name another endpoint by now, which must not get this token.
            return "issued_elsewhere"
        failure = record.health.failure
        if failure is not None and failure.refused and failure.retry_at > self.context.clock():
            return "credentials_refused"
        try:
            opened = self.context.sealer.open(item.sealed, record.key.place, ACCESS_TOKEN)
        except SealBroken:
            return "unreadable"
        except BrokerError:
            return "broker_unavailable"
        token = OpenedToken.unpack(opened)
        if not current and token.revocation_url != connection.endpoints.revocation:
            return "issued_elsewhere"
        return self.revoke_access_token(connection, record.key, token.access_token)

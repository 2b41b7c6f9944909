"""Revokes tokens at the provider (RFC 7009): after a purge, and those that were never returned to a caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from token_broker.core.connections import Connection
from token_broker.core.credentials import Credentials, parse_credentials
from token_broker.core.failures import DEFAULT_RATE_LIMIT_COOLDOWN, MAX_RATE_LIMIT_COOLDOWN
from token_broker.core.names import TokenKey
from token_broker.core.records import RetiredToken, TokenRecord, unpack_access_token
from token_broker.errors import BrokerError, BrokerUnavailable, ConnectionMisconfigured, ProviderRateLimited
from token_broker.oauth.exchange import HttpResponse, TransportError
from token_broker.oauth.requests import grant_request, revocation_request
from token_broker.oauth.responses import retry_after
from token_broker.ports import SealBroken, StoredSettings
from token_broker.service.budget import take_from_budget
from token_broker.service.context import BrokerContext, SettingsReader

FIRST_RETRY, LATER_RETRY = timedelta(minutes=1), timedelta(minutes=5)
# Reasons for which a retry cannot help.
FINAL_REASONS = frozenset({"not_supported", "unreadable", "issued_elsewhere", "provider_refused"})


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

    def plus(self, other: PurgeResult) -> PurgeResult:
        return PurgeResult(
            self.dropped + other.dropped, self.revoked + other.revoked, self.not_revoked + other.not_revoked
        )


@dataclass(frozen=True, slots=True)
class Revoker:
    """Drops and revokes tokens. Dropping comes first and needs neither the secret nor the provider."""

    context: BrokerContext
    settings: SettingsReader

    def purge(self, stored: StoredSettings, scope: str | None, *, deadline: datetime) -> PurgeResult:
        """Drops the tokens of one scope set, or of all (None), then revokes until `deadline`.

        The rest stays sealed and due, and the worker revokes it. Invalid settings do not prevent a purge.
        """
        dropped = self.drop(stored, scope)
        result = PurgeResult(dropped=self.count(dropped))
        for _, after in dropped:
            connection = self.issued_under(after)
            if connection is None:
                left = tuple(NotRevoked(item.token_id, "settings_invalid", item.expires_at) for item in after.retired)
                result = result.plus(PurgeResult(not_revoked=left))
            else:
                result = result.plus(self.revoke(connection, after, deadline=deadline, current=True))
        return result

    def count(self, dropped: Sequence[tuple[TokenRecord, TokenRecord]]) -> int:
        """How many live tokens were dropped."""
        now = self.context.clock()
        return sum(1 for before, _ in dropped if before.live_token(now) is not None)

    def drop(self, stored: StoredSettings, scope: str | None = None) -> list[tuple[TokenRecord, TokenRecord]]:
        """Drops tokens. Returns each record as it was, and as it is with what is left to revoke."""
        now = self.context.clock()
        dropped = []
        for record in self.context.tokens.records(stored.name):
            if scope is None or record.key.scope == scope:
                before = self.context.tokens.purge(record, stored.settings, now)
                after = replace(
                    before,
                    token=None,
                    retired=before.tokens_to_revoke(now),
                    revocation_settings=stored.settings,
                )
                dropped.append((before, after))
        return dropped

    def revoke(self, connection: Connection, record: TokenRecord, *, deadline: datetime, current: bool) -> PurgeResult:
        """Revokes a record's retired tokens, and forgets those that are revoked or expired.

        `current`: `connection` holds the settings of now. Otherwise it was read from the token's item, which is not
        trusted for where to send a token.
        """
        revoked: list[str] = []
        not_revoked: list[NotRevoked] = []
        done = [item.token_id for item in record.retired if not item.expires_at > self.context.clock()]
        for item in record.retired:
            if not item.revoke or item.token_id in done:
                continue
            late = self.context.clock() + self.context.limits.exchange > deadline
            reason = "queued" if late else self._revoke_sealed(connection, record, item, current=current)
            if reason is None:
                revoked.append(item.token_id)
            else:
                not_revoked.append(NotRevoked(item.token_id, reason, item.expires_at))
            if reason is None or reason in FINAL_REASONS:
                done.append(item.token_id)
        if done:
            self.context.tokens.forget_retired(record.key, done)
        return PurgeResult(0, tuple(revoked), tuple(not_revoked))

    def revoke_or_keep(self, connection: Connection, key: TokenKey, item: RetiredToken, access_token: str) -> None:
        """Revokes a token that no caller got. If that fails, the worker retries."""
        reason = self.revoke_access_token(connection, key, access_token)
        if reason is not None and reason not in FINAL_REASONS:
            self.context.tokens.retire(key, item, connection.settings, self.context.clock() + FIRST_RETRY)

    def revoke_access_token(
        self, connection: Connection, key: TokenKey, access_token: str, credentials: Credentials | None = None
    ) -> str | None:
        """None if the provider accepted the revocation, else the reason: `not_supported`, `credentials_missing`,
        `rate_limited`, `provider_unavailable`, `provider_refused` or `broker_unavailable`.

        Without `credentials` it reads the current ones.
        """
        if connection.endpoints.revocation is None:
            return "not_supported"
        try:
            if credentials is None:
                secret = self.context.secrets.read(connection.name)
                if secret is None:
                    return "credentials_missing"
                credentials = parse_credentials(connection.name, connection.provider, secret)
            grant = grant_request(connection, credentials, key.scope, self.context.clock())
            request = revocation_request(grant, access_token)
            if request is None:
                return "not_supported"
            take_from_budget(self.context, connection)
            response = self.context.send(request, self.context.network(connection), self.context.limits.exchange)
            return self._reason(connection, response)
        except ConnectionMisconfigured:
            return "credentials_missing"
        except ProviderRateLimited:
            return "rate_limited"
        except BrokerUnavailable:
            return "broker_unavailable"
        except TransportError:
            return "provider_unavailable"

    def issued_under(self, record: TokenRecord) -> Connection | None:
        """The connection when the record's tokens were dropped. Its settings may be gone or different since."""
        if record.revocation_settings is None:
            return None
        try:
            return self.settings.parse(record.key.name, record.revocation_settings)
        except BrokerError:
            return None

    def _reason(self, connection: Connection, response: HttpResponse) -> str | None:
        if 200 <= response.status < 300:
            return None
        now = self.context.clock()
        if response.status == 429 or (response.status == 503 and "retry-after" in response.headers):
            if connection.provider.limit_per == "host":
                wait = retry_after(response.headers, now) or DEFAULT_RATE_LIMIT_COOLDOWN
                until = now + min(wait, MAX_RATE_LIMIT_COOLDOWN)
                self.context.tokens.cool_down_host(connection.endpoints.token_host, until)
            return "rate_limited"
        return "provider_unavailable" if response.status >= 500 else "provider_refused"

    def _revoke_sealed(
        self, connection: Connection, record: TokenRecord, item: RetiredToken, *, current: bool
    ) -> str | None:
        if item.issuer != connection.endpoints.token:
            # The settings name another endpoint by now, which must not get this token.
            return "issued_elsewhere"
        failure = record.health.failure
        if failure is not None and failure.refused and failure.retry_at > self.context.clock():
            return "credentials_refused"
        try:
            opened = self.context.sealer.open(item.sealed, record.key, "access_token")
        except SealBroken:
            return "unreadable"
        except BrokerError:
            return "broker_unavailable"
        access_token, revocation_url = unpack_access_token(opened)
        if not current and revocation_url != connection.endpoints.revocation:
            return "issued_elsewhere"
        return self.revoke_access_token(connection, record.key, access_token)


def due_with_revocations(retired: tuple[RetiredToken, ...], due_at: datetime | None, now: datetime) -> datetime | None:
    """When a key is due: at `due_at`, or earlier if a token is left to revoke."""
    if not any(item.revoke for item in retired):
        return due_at
    retry_at = now + LATER_RETRY
    return retry_at if due_at is None else min(due_at, retry_at)

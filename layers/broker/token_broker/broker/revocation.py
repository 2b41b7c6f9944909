"""Ending tokens at the provider (RFC 7009): after a purge, and for what nobody will ever be handed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from token_broker.broker.parts import Parts, host_of, order_for
from token_broker.core.connections import Connection
from token_broker.core.credentials import Credentials, parse_credentials
from token_broker.core.exchange import HttpResponse, TransportError
from token_broker.core.failures import DEFAULT_LIMIT_REST, MAX_LIMIT_REST
from token_broker.core.grants import revocation
from token_broker.core.names import TokenKey
from token_broker.core.replies import retry_after
from token_broker.core.tokens import Retired, TokenRecord, unsealed
from token_broker.errors import BrokerError, BrokerUnavailable, ConnectionMisconfigured, ProviderRateLimited
from token_broker.ports import SealBroken, StoredSettings

# The second is as far apart as attempts at a failing token endpoint end up.
FIRST_RETRY, RETRY_TIME = timedelta(minutes=1), timedelta(minutes=5)
# Reasons after which another attempt cannot help.
FINAL = frozenset({"not_supported", "unreadable", "issued_elsewhere", "provider_refused"})


@dataclass(frozen=True, slots=True)
class NotRevoked:
    """A dropped token that may still live at the provider, and why."""

    token_id: str
    reason: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Purge:
    """What a DELETE did: how many tokens were dropped, which of them were ended at the provider, which were not."""

    dropped: int = 0
    revoked: tuple[str, ...] = ()
    not_revoked: tuple[NotRevoked, ...] = ()


@dataclass(frozen=True, slots=True)
class Revoker:
    """Ends tokens. Purging comes first and needs neither the secret nor the provider."""

    parts: Parts

    def purge(self, stored: StoredSettings, scope: str | None, *, deadline: datetime) -> Purge:
        """Drops the tokens of one scope set, or of all (None), then revokes what can be until `deadline`.

        What is outstanding stays sealed and due: the worker goes on with it. Settings that are broken stop no purge.
        """
        dropped = self.drop(stored, scope)
        result = Purge(dropped=self.count(dropped))
        for _, after in dropped:
            connection = issued_under(self.parts, after)
            if connection is None:
                left = tuple(NotRevoked(item.token_id, "settings_invalid", item.expires_at) for item in after.retired)
                result = joined(result, Purge(not_revoked=left))
            else:
                result = joined(result, self.revoke(connection, after, deadline=deadline, current=True))
        return result

    def count(self, dropped: Sequence[tuple[TokenRecord, TokenRecord]]) -> int:
        """How many live tokens were dropped."""
        now = self.parts.clock()
        return sum(1 for before, _ in dropped if before.token is not None and before.token.alive(now))

    def drop(self, stored: StoredSettings, scope: str | None = None) -> list[tuple[TokenRecord, TokenRecord]]:
        """Takes the tokens away from every caller. Gives each record as it was, and with what is left to revoke."""
        now = self.parts.clock()
        dropped = []
        for record in self.parts.tokens.records(stored.name):
            if scope is None or record.key.scope == scope:
                before = self.parts.tokens.purge(record, stored.settings, now)
                left = replace(before, token=None, retired=before.outstanding(now), revoke_with=stored.settings)
                dropped.append((before, left))
        return dropped

    def revoke(self, connection: Connection, record: TokenRecord, *, deadline: datetime, current: bool) -> Purge:
        """Revokes a record's retired tokens that are to be revoked; forgets those that are done or have ended.

        `current`: these are the connection's settings now. What a token's item says they were is not taken at its word.
        """
        revoked: list[str] = []
        not_revoked: list[NotRevoked] = []
        done = [item.token_id for item in record.retired if not item.expires_at > self.parts.clock()]
        for item in record.retired:
            if not item.revoke or item.token_id in done:
                continue
            late = self.parts.clock() + self.parts.times.exchange > deadline
            reason = "queued" if late else self._revoke_sealed(connection, record, item, current=current)
            if reason is None:
                revoked.append(item.token_id)
            else:
                not_revoked.append(NotRevoked(item.token_id, reason, item.expires_at))
            if reason is None or reason in FINAL:
                done.append(item.token_id)
        if done:
            self.parts.tokens.forget_retired(record.key, done)
        return Purge(0, tuple(revoked), tuple(not_revoked))

    def end(self, connection: Connection, key: TokenKey, item: Retired, plain: str) -> None:
        """Ends a token that was issued to nobody; kept for the worker where that fails."""
        reason = self.revoke_plain(connection, key, plain)
        if reason is not None and reason not in FINAL:
            self.parts.tokens.retire(key, item, connection.settings, self.parts.clock() + FIRST_RETRY)

    def revoke_plain(
        self, connection: Connection, key: TokenKey, plain: str, credentials: Credentials | None = None
    ) -> str | None:
        """None if the provider took it; else the reason: `not_supported`, `credentials_missing`, `rate_limited`,
        `provider_unavailable`, `provider_refused` or `broker_unavailable`. By default with the current credentials."""
        if connection.endpoints.revocation is None:
            return "not_supported"
        try:
            if credentials is None:
                secret = self.parts.vault.read(connection.name)
                if secret is None:
                    return "credentials_missing"
                credentials = parse_credentials(connection.name, connection.provider, secret)
            request = revocation(order_for(connection, credentials, key.scope, self.parts.clock()), plain)
            if request is None:
                return "not_supported"
            self.parts.take_budget(connection)
            response = self.parts.send(request, self.parts.network(connection), self.parts.times.exchange)
            return self._outcome(connection, response)
        except ConnectionMisconfigured:
            return "credentials_missing"
        except ProviderRateLimited:
            return "rate_limited"
        except BrokerUnavailable:
            return "broker_unavailable"
        except TransportError:
            return "provider_unavailable"

    def _outcome(self, connection: Connection, response: HttpResponse) -> str | None:
        if 200 <= response.status < 300:
            return None
        now = self.parts.clock()
        if response.status == 429 or (response.status == 503 and "retry-after" in response.headers):
            if connection.provider.limit_per == "host":
                rest = min(retry_after(response.headers, now) or DEFAULT_LIMIT_REST, MAX_LIMIT_REST)
                self.parts.tokens.rest_host(host_of(connection.endpoints.token), now + rest)
            return "rate_limited"
        return "provider_unavailable" if response.status >= 500 else "provider_refused"

    def _revoke_sealed(
        self, connection: Connection, record: TokenRecord, item: Retired, *, current: bool
    ) -> str | None:
        if item.issuer != connection.endpoints.token:
            # The settings name another endpoint now: it must not learn the token.
            return "issued_elsewhere"
        rest = record.guard.failure
        if rest is not None and rest.refused and rest.retry_at > self.parts.clock():
            return "credentials_refused"
        try:
            plain, endpoint = unsealed(self.parts.sealer.open(item.sealed, record.key, "access_token"))
        except SealBroken:
            return "unreadable"
        except BrokerError:
            return "broker_unavailable"
        if not current and endpoint != connection.endpoints.revocation:
            return "issued_elsewhere"
        return self.revoke_plain(connection, record.key, plain)


def issued_under(parts: Parts, record: TokenRecord) -> Connection | None:
    """The connection as it was when a record's tokens were dropped; its settings may be gone or changed since."""
    if record.revoke_with is None:
        return None
    try:
        return parts.parse(record.key.name, record.revoke_with)
    except BrokerError:
        return None


def next_due(retired: tuple[Retired, ...], due_at: datetime | None, now: datetime) -> datetime | None:
    """When a key is due that is due at `due_at` otherwise: soon, while a token is left to revoke."""
    if not any(item.revoke for item in retired):
        return due_at
    soon = now + RETRY_TIME
    return soon if due_at is None else min(due_at, soon)


def joined(left: Purge, right: Purge) -> Purge:
    """Both purges as one."""
    return Purge(left.dropped + right.dropped, left.revoked + right.revoked, left.not_revoked + right.not_revoked)

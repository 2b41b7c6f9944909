"""The use cases: get, acquire, renew and revoke tokens; try credentials; manage connections."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from token_broker.core.names import ConnectionName
from token_broker.service.acquire import Acquirer
from token_broker.service.context import BrokerContext, SettingsReader
from token_broker.service.get_token import GetToken, TokenRequest, TokenResponse
from token_broker.service.provider_client import ProviderClient
from token_broker.service.records import save
from token_broker.service.revoke import PurgeResult, Revoker

# Getting a token needs none of these. An import costs every cold start, so each is imported at its first use.
if TYPE_CHECKING:
    from token_broker.service.connections import Connections
    from token_broker.service.consent_sessions import ConsentSessions
    from token_broker.service.drop_consent import DroppedConsent
    from token_broker.service.exchange_code import Exchange
    from token_broker.service.renew import Renewal
    from token_broker.service.sweep import SweepReport
    from token_broker.service.trial import TrialResult

__all__ = ["Broker", "PurgeResult", "TokenRequest", "TokenResponse"]


class Broker:
    """The façade that the functions call. Holds one environment's memory; everything else is in the stores."""

    def __init__(self, context: BrokerContext) -> None:
        self.context = context
        self._settings = SettingsReader(context)
        self._revoker = Revoker(context, self._settings)
        self._provider_client = ProviderClient(context)
        self._acquirer = Acquirer(context, self._provider_client, self._revoker)
        self._get_token = GetToken(context, self._settings, self._acquirer)

    def now(self) -> datetime:
        return self.context.clock()

    @cached_property
    def connections(self) -> Connections:
        """The settings of connections and their state."""
        from token_broker.service.connections import Connections

        return Connections(self.context, self._settings, self._revoker)

    @cached_property
    def consent_sessions(self) -> ConsentSessions:
        """The ways to persons' consents."""
        from token_broker.service.consent_sessions import ConsentSessions

        return ConsentSessions(self.context, self._settings, self._provider_client, self._revoker)

    def exchange_code(self, consent_id: str) -> Exchange:
        """Exchanges the code of a consent session, or polls for its device. Raises BrokerUnavailable."""
        from token_broker.service.exchange_code import CodeExchanger

        return CodeExchanger(self.context, self._settings, self._provider_client).exchange(consent_id)

    def receive_code(self, provider: str, pairs: Sequence[tuple[str, str]]) -> str | None:
        """Takes a redirect without a signature. Returns the session that it was for. Raises BrokerUnavailable."""
        from token_broker.service.receive_code import CodeReceiver

        return CodeReceiver(self.context).receive(provider, pairs)

    def get_token(self, request: TokenRequest) -> TokenResponse:
        """A valid token for a caller. Raises BrokerError."""
        return self._get_token.get_token(request)

    def renew(self, name: ConnectionName, scope_id: str | None, token_id: str | None = None) -> Renewal:
        """Renews a token key if it is due, or revokes a retired token of it. Raises BrokerUnavailable.

        Without `scope_id` it keeps the connection's consent alive.
        """
        from token_broker.service.renew import Renewal, RenewalOutcome, Renewer

        renewer = Renewer(self.context, self._settings, self._acquirer)
        if scope_id is None:
            return renewer.keep_consent(name)
        if token_id is not None:
            revoked = self._revoker.retry(name, scope_id, token_id)
            return Renewal(name, RenewalOutcome.REVOKED if revoked else RenewalOutcome.NOT_REVOKED)
        return renewer.renew(name, scope_id)

    def sweep(self, *, scheduled_at: datetime, deadline: datetime) -> SweepReport:
        """Queues the token keys that are due. Raises BrokerUnavailable."""
        from token_broker.service.sweep import sweep

        return sweep(self.context, scheduled_at=scheduled_at, deadline=deadline)

    def purge_and_revoke(self, name: ConnectionName, scope: str | None, *, deadline: datetime) -> PurgeResult:
        """Drops a connection's tokens (of one scope set, or all) and revokes what can be. Raises BrokerError."""
        stored = self._settings.stored(name)
        self._get_token.forget(name)
        return self._revoker.purge_and_revoke(stored, scope, deadline=deadline)

    def drop_consent(self, name: ConnectionName) -> DroppedConsent:
        """Ends a connection's consent and drops its tokens. Raises BrokerError."""
        from token_broker.service.drop_consent import drop_consent

        stored = self._settings.stored(name)
        self._get_token.forget(name)
        return drop_consent(self.context, self._revoker, stored)

    def trial(self, name: ConnectionName, *, force: bool) -> TrialResult:
        """Tries a connection's pending or current credentials. Raises BrokerError."""
        from token_broker.service.trial import Trials

        trials = Trials(self.context, self._settings, self._provider_client, self._revoker, self._acquirer)
        return trials.run(name, force=force)

    def secret_changed(self, name: ConnectionName, version: str | None = None) -> int:
        """Makes the tokens of a connection due. Returns how many token keys.

        `version`: the one that is current now, if known. A token that was issued with it stays.
        """
        now = self.now()
        records = [
            record
            for record in self.context.tokens.items(name).records
            if version is None or record.token is None or record.token.secret_version != version
        ]
        for record in records:
            save(self.context, record, lambda current: current.marked_stale(now))
        return len(records)

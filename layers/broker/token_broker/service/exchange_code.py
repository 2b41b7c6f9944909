"""Exchanges the code of a consent session, once, and puts the refresh token into quarantine. Polls for devices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from token_broker.core.connections import Connection
from token_broker.core.consent_sessions import (
    CONSENT_CODE,
    PKCE_VERIFIER,
    QUARANTINED_REFRESH_TOKEN,
    SETTINGS_CHANGED,
    UNREADABLE,
    ConsentSession,
    SessionFailure,
    SessionState,
    code_place,
)
from token_broker.core.consents import ConsentToken
from token_broker.core.credentials import Credentials
from token_broker.core.names import fingerprint
from token_broker.core.providers import ConsentSpec
from token_broker.errors import (
    BrokerUnavailable,
    ConnectionMisconfigured,
    InvalidRequest,
    ProviderRateLimited,
    UnknownConnection,
    UnknownProvider,
)
from token_broker.oauth.consents import (
    ConsentFlow,
    ConsentRequest,
    GrantedConsent,
    check_kept,
    exchange_code,
    poll_device,
)
from token_broker.oauth.grants import GrantFailed
from token_broker.ports import SealBroken
from token_broker.service.budget import take_from_budget
from token_broker.service.consent_sessions import is_changed
from token_broker.service.context import BrokerContext, SettingsReader
from token_broker.service.provider_client import ProviderClient, run_flow

# A code that was not sent is tried again so soon: most codes live for a minute, some for less.
RETRY = timedelta(seconds=5)
WRITE_TRIES = 3
PENDING_ERRORS = frozenset({"authorization_pending", "slow_down"})


class ExchangeOutcome(StrEnum):
    """What became of a message."""

    QUARANTINED = "quarantined"
    FAILED = "failed"
    ASKED_AGAIN_LATER = "asked_again_later"
    NOTHING_TO_DO = "nothing_to_do"


@dataclass(frozen=True, slots=True)
class Exchange:
    """What became of a message, and of which session. `failure`: why it failed."""

    outcome: ExchangeOutcome
    session: ConsentSession | None = None
    failure: SessionFailure | None = None


@dataclass(frozen=True, slots=True)
class CodeExchanger:
    """The worker of consents. A message that comes twice sends nothing twice."""

    context: BrokerContext
    settings: SettingsReader
    provider_client: ProviderClient

    def exchange(self, consent_id: str) -> Exchange:
        """Raises BrokerUnavailable: then the message must be delivered again."""
        context = self.context
        now = self.context.clock()
        session = context.consent_sessions.read(consent_id)
        if session is None or not _is_to_do(session, now):
            return Exchange(ExchangeOutcome.NOTHING_TO_DO, session)
        try:
            connection, spec, credentials = self._as_begun(session)
            consent = ConsentRequest(
                connection,
                credentials,
                context.request_for(connection, credentials, connection.scope),
                spec,
                session.kept,
            )
            # Everything that can fail is done before the code is sent.
            seal = context.consent_sealer.prepare(session.place, QUARANTINED_REFRESH_TOKEN)
            flow = self._flow(session, consent)
            take_from_budget(context, connection, credentials)
        except _Failed as failed:
            return self._fail(session, failed.failure)
        except SealBroken:
            return self._fail(session, SessionFailure(UNREADABLE))
        except ProviderRateLimited as error:
            return self._later(session, error.retry_after or RETRY)
        begun = self._saved(
            session, session.poll_begun(now) if session.uses_device_flow else session.exchange_begun(now)
        )
        if begun is None:
            return Exchange(ExchangeOutcome.NOTHING_TO_DO, session)
        try:
            granted, _ = run_flow(
                flow,
                context.network(connection),
                send=context.send,
                clock=context.clock,
                exchange_limit=context.limits.exchange,
                deadline=now + context.limits.acquisition,
            )
        except GrantFailed as failure:
            return self._not_granted(begun, failure)
        return self._quarantine(begun, granted, seal(granted.refresh_token))

    def _as_begun(self, session: ConsentSession) -> tuple[Connection, ConsentSpec, Credentials]:
        """The connection and its client, if nothing of them changed since the session began. Raises _Failed."""
        name = session.name
        try:
            connection = self.settings.connection(name, self.settings.stored(name))
            credentials = self.provider_client.credentials(connection, connection.scope)
            check_kept(session.kept, connection.options)
        except (UnknownProvider, UnknownConnection, ConnectionMisconfigured, InvalidRequest) as error:
            raise _Failed(SessionFailure(error.code)) from None
        spec = connection.provider.consent
        if spec is None or is_changed(session, connection, credentials):
            raise _Failed(SessionFailure(SETTINGS_CHANGED))
        return connection, spec, credentials

    def _flow(self, session: ConsentSession, consent: ConsentRequest) -> ConsentFlow:
        sealer = self.context.consent_sealer
        place = code_place(session.name.provider, session.consent_id)
        code = sealer.open(session.sealed_code or b"", place, CONSENT_CODE)
        if session.uses_device_flow:
            return poll_device(consent, device_code=code)
        verifier = None
        if consent.spec.pkce:
            # A session without one does not open: the code is never sent without its verifier.
            verifier = sealer.open(session.sealed_verifier or b"", session.place, PKCE_VERIFIER)
        return exchange_code(consent, code=code, redirect_uri=session.redirect_uri, verifier=verifier)

    def _not_granted(self, begun: ConsentSession, failed: GrantFailed) -> Exchange:
        failure = failed.failure
        if begun.uses_device_flow:
            # A device code may be sent again and again (RFC 8628 section 3.5), also after a lost response.
            if failure.provider_error in PENDING_ERRORS or failure.outcome_unknown or failed.nothing_sent:
                polled = begun.polled(slow_down=failure.provider_error == "slow_down")
                saved = self._saved(begun, polled)
                return self._later(saved, polled.poll_interval or RETRY) if saved else _nothing(begun)
        elif failed.nothing_sent:
            saved = self._saved(begun, begun.not_sent())
            return self._later(saved, RETRY) if saved else _nothing(begun)
        return self._fail(begun, SessionFailure(failure.kind.code, failure.provider_error))

    def _quarantine(self, begun: ConsentSession, granted: GrantedConsent, sealed: bytes) -> Exchange:
        now = self.context.clock()
        token = ConsentToken(fingerprint(granted.refresh_token), sealed, granted.issued.refresh_token_expires_at(now))
        session = begun.granted(
            token,
            scope=granted.issued.scope,
            account=granted.account,
            account_verified=granted.account_verified,
            now=now,
        )
        saved = self._saved(begun, session, tries=WRITE_TRIES)
        return Exchange(ExchangeOutcome.QUARANTINED, saved) if saved else _nothing(begun)

    def _fail(self, session: ConsentSession, failure: SessionFailure) -> Exchange:
        saved = self._saved(session, session.failed(failure))
        return Exchange(ExchangeOutcome.FAILED, saved, failure) if saved else _nothing(session)

    def _later(self, session: ConsentSession, delay: timedelta) -> Exchange:
        """Queues the session again. It stops when the session expires."""
        self.context.consent_queue.send(session.consent_id, delay)
        return Exchange(ExchangeOutcome.ASKED_AGAIN_LATER, session)

    def _saved(self, before: ConsentSession, after: ConsentSession, *, tries: int = 1) -> ConsentSession | None:
        """The session as saved; None if somebody else changed it. A write that is tried again keeps its revision."""
        after = replace(after, revision=self.context.new_id()[:16])
        while True:
            tries -= 1
            try:
                return after if self.context.consent_sessions.save(before, after) else None
            except BrokerUnavailable:
                if tries <= 0:
                    raise
                self.context.sleep(1)


class _Failed(Exception):
    """The code must not be sent."""

    def __init__(self, failure: SessionFailure) -> None:
        super().__init__(failure.code)
        self.failure = failure


def _is_to_do(session: ConsentSession, now: datetime) -> bool:
    """Whether nobody is doing it, and it was not done: a code is sent once."""
    if session.uses_device_flow:
        return session.state_at(now) is SessionState.PENDING and not session.is_exchanging(now)
    return session.state_at(now) is SessionState.CODE_RECEIVED


def _nothing(session: ConsentSession) -> Exchange:
    return Exchange(ExchangeOutcome.NOTHING_TO_DO, session)

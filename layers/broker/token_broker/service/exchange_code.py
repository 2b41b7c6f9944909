"""Exchanges the code of a consent session, once, and puts the refresh token into quarantine. Polls for devices."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from token_broker.core.connections import Connection
from token_broker.core.consent_sessions import (
    CONSENT_CODE,
    PKCE_VERIFIER,
    QUARANTINED_REFRESH_TOKEN,
    SETTINGS_CHANGED,
    TIME_TO_EXCHANGE,
    UNREADABLE,
    ConsentSession,
    SessionFailure,
    SessionState,
    code_place,
)
from token_broker.core.consents import ConsentToken
from token_broker.core.credentials import Credentials
from token_broker.core.failures import FailureKind
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
from token_broker.ports import Seal, SealBroken
from token_broker.service.budget import take_from_budget
from token_broker.service.consent_sessions import is_changed
from token_broker.service.consents import insist
from token_broker.service.context import BrokerContext, SettingsReader
from token_broker.service.provider_client import ProviderClient, run_flow

# A code that was not sent is tried again so soon: most codes live for a minute, some for less.
RETRY = timedelta(seconds=5)
# How long the worker insists on reading a session and on marking its code as sent.
TIME_TO_BEGIN = timedelta(seconds=5)
# How long it insists on storing what came. Lambda ends the function 30 s after its start.
TIME_TO_STORE = timedelta(seconds=26)
PENDING_ERRORS = frozenset({"authorization_pending", "slow_down"})
PASSING = frozenset({FailureKind.RATE_LIMITED, FailureKind.TRANSIENT})


class ExchangeOutcome(StrEnum):
    """What became of a message."""

    QUARANTINED = "quarantined"
    FAILED = "failed"
    ASKED_AGAIN_LATER = "asked_again_later"
    NOTHING_TO_DO = "nothing_to_do"


@dataclass(frozen=True, slots=True)
class Exchange:
    """What became of a message, and of which session. `failure`: why it failed.

    `error`: of our own services. Nothing was sent, and the session is queued again.
    """

    outcome: ExchangeOutcome
    session: ConsentSession | None = None
    failure: SessionFailure | None = None
    error: BrokerUnavailable | None = None


@dataclass(frozen=True, slots=True)
class _Begun:
    """A session whose code is marked as sent, and everything that is needed from here on."""

    session: ConsentSession
    connection: Connection
    flow: ConsentFlow
    seal: Seal = field(repr=False)


@dataclass(frozen=True, slots=True)
class CodeExchanger:
    """The worker of consents. A message that comes twice sends nothing twice."""

    context: BrokerContext
    settings: SettingsReader
    provider_client: ProviderClient

    def exchange(self, consent_id: str) -> Exchange:
        """Raises BrokerUnavailable: then the message must be delivered again."""
        context = self.context
        now = context.clock()
        session = insist(context, lambda: context.consent_sessions.read(consent_id), now + TIME_TO_BEGIN)
        if session is None or not _is_to_do(session, now):
            return Exchange(ExchangeOutcome.NOTHING_TO_DO, session)
        try:
            begun = self._begin(session, now)
        except BrokerUnavailable as error:
            # The queue's own redelivery would come after minutes. An unfinished mark of a device passes before.
            self._later(session, TIME_TO_EXCHANGE if session.uses_device_flow else RETRY)
            return Exchange(ExchangeOutcome.ASKED_AGAIN_LATER, session, error=error)
        if isinstance(begun, Exchange):
            return begun
        store_until = now + TIME_TO_STORE
        try:
            granted, _ = run_flow(
                begun.flow,
                context.network(begun.connection),
                send=context.send,
                clock=context.clock,
                exchange_limit=context.limits.exchange,
                deadline=now + context.limits.acquisition,
            )
        except GrantFailed as failure:
            return self._not_granted(begun.session, failure, store_until)
        return self._quarantine(begun.session, granted, begun.seal(granted.refresh_token), store_until)

    def _begin(self, session: ConsentSession, now: datetime) -> _Begun | Exchange:
        """Marks the code as sent, after everything else that can fail. An Exchange: it is not to be sent now.

        Raises BrokerUnavailable.
        """
        context = self.context
        begin_until = now + TIME_TO_BEGIN
        try:
            connection, spec, credentials = self._as_begun(session)
            consent = ConsentRequest(
                connection,
                credentials,
                context.request_for(connection, credentials, connection.scope),
                spec,
                session.kept,
            )
            seal = context.consent_sealer.prepare(session.place, QUARANTINED_REFRESH_TOKEN)
            flow = self._flow(session, consent)
            take_from_budget(context, connection, credentials)
        except _Failed as failed:
            return self._fail(session, failed.failure, begin_until)
        except SealBroken:
            return self._fail(session, SessionFailure(UNREADABLE), begin_until)
        except ProviderRateLimited as error:
            return self._later(session, error.retry_after or RETRY)
        marked = session.poll_begun(now) if session.uses_device_flow else session.exchange_begun(now)
        saved = self._saved(session, marked, begin_until)
        return _Begun(saved, connection, flow, seal) if saved is not None else _nothing(session)

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

    def _not_granted(self, begun: ConsentSession, failed: GrantFailed, until: datetime) -> Exchange:
        failure = failed.failure
        if begun.uses_device_flow:
            # A device code may be sent again and again (RFC 8628 section 3.5), also after a lost response.
            passes = failure.kind in PASSING and failure.provider_error != "invalid_grant"
            if passes or failure.provider_error in PENDING_ERRORS or failure.outcome_unknown or failed.nothing_sent:
                polled = begun.polled(slow_down=failure.provider_error == "slow_down")
                saved = self._saved(begun, polled, until)
                delay = max(polled.poll_interval or RETRY, failure.retry_after or timedelta())
                return self._later(saved, delay) if saved else _nothing(begun)
        elif failed.nothing_sent:
            saved = self._saved(begun, begun.not_sent(), until)
            return self._later(saved, RETRY) if saved else _nothing(begun)
        return self._fail(begun, SessionFailure(failure.kind.code, failure.provider_error), until)

    def _quarantine(self, begun: ConsentSession, granted: GrantedConsent, sealed: bytes, until: datetime) -> Exchange:
        now = self.context.clock()
        token = ConsentToken(fingerprint(granted.refresh_token), sealed, granted.issued.refresh_token_expires_at(now))
        session = begun.granted(
            token,
            scope=granted.issued.scope,
            account=granted.account,
            account_verified=granted.account_verified,
            now=now,
        )
        saved = self._saved(begun, session, until)
        return Exchange(ExchangeOutcome.QUARANTINED, saved) if saved else _nothing(begun)

    def _fail(self, session: ConsentSession, failure: SessionFailure, until: datetime) -> Exchange:
        saved = self._saved(session, session.failed(failure), until)
        return Exchange(ExchangeOutcome.FAILED, saved, failure) if saved else _nothing(session)

    def _later(self, session: ConsentSession, delay: timedelta) -> Exchange:
        """Queues the session again. It stops when the session expires."""
        self.context.consent_queue.send(session.consent_id, delay)
        return Exchange(ExchangeOutcome.ASKED_AGAIN_LATER, session)

    def _saved(self, before: ConsentSession, after: ConsentSession, until: datetime) -> ConsentSession | None:
        """The session as saved; None if somebody else changed it. A write that is tried again keeps its revision."""
        after = replace(after, revision=self.context.new_id()[:16])
        saved = insist(self.context, lambda: self.context.consent_sessions.save(before, after), until)
        return after if saved else None


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

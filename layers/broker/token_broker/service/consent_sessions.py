"""Obtains a person's consent: begins it, takes the redirect, shows what came, makes it live once confirmed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from token_broker.core.connections import Connection
from token_broker.core.consent_sessions import (
    CONSENT_CODE,
    PKCE_VERIFIER,
    QUARANTINED_REFRESH_TOKEN,
    TIME_TO_APPROVE,
    ConsentSession,
    SessionFailure,
    SessionState,
    code_place,
    consent_id_of,
    needs_new_account,
)
from token_broker.core.consents import Consent
from token_broker.core.credentials import Credentials
from token_broker.core.failures import ExchangeFailure
from token_broker.core.names import CONSENT_ID, ConnectionName, fingerprint
from token_broker.core.providers import ConsentSpec
from token_broker.errors import (
    PROVIDER_ERRORS,
    BrokerError,
    CallerNotAllowed,
    FieldError,
    InvalidRequest,
    NewAccount,
    ProviderUnavailable,
    UnknownConsent,
    WrongConsentState,
)
from token_broker.oauth.consents import (
    DeviceAuthorization,
    Redirect,
    begin_device,
    check_kept,
    code_challenge,
    expected_iss,
    is_issuer,
    loopback_uri,
    read_redirect,
    redirect_pairs,
)
from token_broker.oauth.grants import GrantFailed
from token_broker.oauth.requests import authorize_url, grant_request_for
from token_broker.oauth.responses import IssuedRefreshToken
from token_broker.ports import RenewalMessage, SealBroken
from token_broker.service.budget import take_from_budget
from token_broker.service.consents import NewConsent, begin_consent, client_id_of, lift_consent_failure, seed_id_of
from token_broker.service.context import BrokerContext, SettingsReader
from token_broker.service.provider_client import ProviderClient, run_flow
from token_broker.service.records import save
from token_broker.service.revoke import Revoker

PROVIDER_REFUSED = "provider_refused"


@dataclass(frozen=True, slots=True)
class StartedConsent:
    """A consent that a person can give now: at `authorize_url`, or as `device` says."""

    session: ConsentSession
    authorize_url: str | None = field(default=None, repr=False)
    device: DeviceAuthorization | None = None


@dataclass(frozen=True, slots=True)
class ShownConsent:
    """A session, and the account that the connection's consent has now."""

    session: ConsentSession
    pinned_account: str | None
    now: datetime


@dataclass(frozen=True, slots=True)
class ConfirmedConsent:
    """A session whose consent is live. `dropped`: how many tokens of another account were taken from callers."""

    shown: ShownConsent
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class ConsentSessions:
    """What operators do on the way to a consent."""

    context: BrokerContext
    settings: SettingsReader
    provider_client: ProviderClient
    revoker: Revoker

    # ---------------------------------------------------------------- begin

    def start(self, name: ConnectionName, *, initiator: str, redirect_uri: str | None) -> StartedConsent:
        """A new session with a redirect. `redirect_uri`: on the person's own machine; None: that of the settings.

        Raises InvalidRequest, ConnectionMisconfigured or another BrokerError.
        """
        connection, spec, credentials = self._begin(name)
        uri = _redirect_uri(connection, spec, redirect_uri)
        state = self.context.new_secret()
        verifier = self.context.new_secret()
        session = self._new_session(connection, credentials, state, initiator, redirect_uri=uri)
        more = {"redirect_uri": uri, "state": state}
        if spec.pkce:
            seal = self.context.consent_sealer.prepare(session.place, PKCE_VERIFIER)
            session = replace(session, sealed_verifier=seal(verifier))
            more["code_challenge"] = code_challenge(verifier)
        session = replace(session, expected_iss=expected_iss(spec, connection.options))
        request = grant_request_for(connection, credentials, connection.scope, self.context.clock())
        url = authorize_url(request, spec, **more)
        self._create(session)
        return StartedConsent(session, authorize_url=url)

    def start_device(self, name: ConnectionName, *, initiator: str) -> StartedConsent:
        """A new session of the device flow (RFC 8628). Raises InvalidRequest, the provider's failure or another one."""
        context = self.context
        connection, spec, credentials = self._begin(name)
        if spec.device_url is None:
            raise _not_possible("flow", "this provider has no device flow")
        session = self._new_session(connection, credentials, context.new_secret(), initiator)
        seal = context.consent_sealer.prepare(code_place(name.provider, session.consent_id), CONSENT_CODE)
        request = context.request_for(connection, credentials, connection.scope)
        take_from_budget(context, connection, credentials)
        now = context.clock()
        try:
            device, _ = run_flow(
                begin_device(request, spec, insecure_urls=context.deployment.insecure_urls),
                context.network(connection),
                send=context.send,
                clock=context.clock,
                exchange_limit=context.limits.exchange,
                deadline=now + context.limits.acquisition,
            )
        except GrantFailed as failed:
            raise _device_error(failed.failure) from None
        session = replace(
            session,
            poll_interval=device.interval,
            sealed_code=seal(device.device_code),
            expires_at=now + device.lifetime,
        )
        self._create(session)
        context.consent_queue.send(session.consent_id, device.interval)
        return StartedConsent(session, device=device)

    def _begin(self, name: ConnectionName) -> tuple[Connection, ConsentSpec, Credentials]:
        connection = self.settings.connection(name, self.settings.stored(name))
        spec = connection.provider.consent
        if spec is None:
            raise _not_possible("provider", "needs no person's consent, or its file does not say how to get it")
        return connection, spec, self.provider_client.credentials(connection, connection.scope)

    def _new_session(
        self, connection: Connection, credentials: Credentials, state: str, initiator: str, *, redirect_uri: str = ""
    ) -> ConsentSession:
        return ConsentSession(
            consent_id_of(state),
            connection.name,
            initiator,
            connection.settings_digest,
            connection.endpoints.token,
            client_id_of(credentials),
            connection.scope,
            self.context.clock() + TIME_TO_APPROVE,
            generation=self.context.consents.read(connection.name).generation,
            redirect_uri=redirect_uri,
        )

    def _create(self, session: ConsentSession) -> None:
        self.context.consent_sessions.save(None, _with_new_revision(self.context, session))

    # ---------------------------------------------------------------- look

    def show(self, name: ConnectionName, consent_id: str) -> ShownConsent:
        """Raises UnknownConsent."""
        return self._shown(self._session(name, consent_id))

    def _shown(self, session: ConsentSession) -> ShownConsent:
        return ShownConsent(session, self.context.consents.read(session.name).account, self.context.clock())

    def _session(self, name: ConnectionName, consent_id: str) -> ConsentSession:
        known = CONSENT_ID.fullmatch(consent_id) is not None
        session = self.context.consent_sessions.read(consent_id) if known else None
        if session is None or session.name != name:
            raise UnknownConsent(f"{name} has no consent session of this id.")
        return session

    def _own_session(self, name: ConnectionName, consent_id: str, initiator: str) -> ConsentSession:
        """The session, for whoever began it: who approves at the vendor may be led by somebody else.

        Raises UnknownConsent or CallerNotAllowed.
        """
        session = self._session(name, consent_id)
        if not initiator or session.initiator != initiator:
            raise CallerNotAllowed("Only the caller who began a consent may finish or confirm it, in the same session.")
        return session

    # ---------------------------------------------------------------- finish

    def finish(self, name: ConnectionName, consent_id: str, *, initiator: str, redirect_url: str) -> ShownConsent:
        """Takes the redirect that came back, and queues the exchange of its code. The same one may come again.

        A code whose exchange has begun or succeeded changes nothing. A redirect with an error ends the session. Raises
        InvalidRequest or WrongConsentState.
        """
        context = self.context
        session = self._own_session(name, consent_id, initiator)
        connection = self.settings.connection(name, self.settings.stored(name))
        spec = connection.provider.consent
        if spec is None or session.uses_device_flow:
            raise WrongConsentState("This consent needs no redirect.")
        redirect = read_redirect(redirect_pairs(redirect_url, session.redirect_uri), spec, connection.response)
        _check_whose(redirect, session)
        check_kept(redirect.kept, connection.options)
        now = context.clock()
        code_id = fingerprint(redirect.code) if redirect.code is not None else None
        if session.was_handed(code_id, now):
            return self._shown(session)
        if not session.accepts_code(code_id, now):
            raise _wrong_state(session, now)
        if redirect.code is None or code_id is None:
            failed = session.failed(SessionFailure(PROVIDER_REFUSED, redirect.error))
            return self._shown(self._save(session, failed))
        if session.state is SessionState.PENDING:
            seal = context.consent_sealer.prepare(code_place(name.provider, consent_id), CONSENT_CODE)
            received = session.code_received(code_id, seal(redirect.code), redirect.kept, now)
            session = self._save(session, received)
        context.consent_queue.send(consent_id)
        return self._shown(session)

    # ---------------------------------------------------------------- confirm

    def confirm(self, name: ConnectionName, consent_id: str, *, initiator: str, new_account: bool) -> ConfirmedConsent:
        """Makes the consent live. `new_account`: it may be of another account than the connection's until now.

        Then the tokens of the old account are taken from callers. A repeat changes nothing. Raises NewAccount,
        WrongConsentState or another BrokerError.
        """
        context = self.context
        session = self._own_session(name, consent_id, initiator)
        now = context.clock()
        if session.state is not SessionState.CONFIRMED:
            if session.state_at(now) is not SessionState.QUARANTINED:
                raise _wrong_state(session, now)
            session = self._make_live(session, new_account=new_account)
        dropped = self._drop_tokens(name) if new_account else 0
        return ConfirmedConsent(self._shown(session), dropped)

    def _make_live(self, session: ConsentSession, *, new_account: bool) -> ConsentSession:
        context = self.context
        name = session.name
        token = session.token
        assert token is not None, session.consent_id  # noqa: S101  # a session in quarantine has one
        connection = self.settings.connection(name, self.settings.stored(name))
        credentials = self.provider_client.credentials(connection, connection.scope)
        if is_changed(session, connection, credentials):
            raise WrongConsentState("The connection's settings or client changed since this consent began. Begin anew.")
        consent = context.consents.read(name)
        if not session.may_replace(consent):
            raise WrongConsentState(
                "The connection's consent was replaced or dropped since this one began. Begin anew."
            )
        if consent.consent_id != session.consent_id and needs_new_account(consent, session.account) and not new_account:
            raise _new_account(consent, session)
        try:
            refresh_token = context.consent_sealer.open(token.sealed, session.place, QUARANTINED_REFRESH_TOKEN)
        except SealBroken:
            raise WrongConsentState("The refresh token in quarantine cannot be opened. Begin anew.") from None
        new = NewConsent(
            session.consent_id,
            IssuedRefreshToken(refresh_token, token.expires_at),
            session.client_id,
            session.issuer,
            scope=session.scope,
            account=session.account,
            kept=dict(session.kept),
        )
        if begin_consent(context, connection, consent, new, seed_id=seed_id_of(credentials)) is None:
            raise WrongConsentState("The connection's consent changed at the same moment. Confirm again.")
        lift_consent_failure(context, name)
        now = context.clock()
        for record in context.tokens.items(name).records:
            save(context, record, lambda current: current.marked_stale(now))
        return self._save(session, session.confirmed())

    def _drop_tokens(self, name: ConnectionName) -> int:
        """Takes all tokens of the connection from callers. The worker revokes what can and may be revoked."""
        purged = self.revoker.purge(self.settings.stored(name))
        if purged.obstacle is None and purged.tokens:
            self.context.queue.send(
                [RenewalMessage(item.key.name, item.key.scope_id, token_id=item.token_id) for item in purged.tokens]
            )
        return purged.count

    def _save(self, before: ConsentSession, after: ConsentSession) -> ConsentSession:
        after = _with_new_revision(self.context, after)
        if not self.context.consent_sessions.save(before, after):
            raise WrongConsentState("The consent session was changed at the same moment. Look at it again.")
        return after


def is_changed(session: ConsentSession, connection: Connection, credentials: Credentials) -> bool:
    """Whether a code or refresh token of this session would go to another place than the person consented to."""
    begun_with = (session.settings_digest, session.issuer, session.client_id)
    return begun_with != (connection.settings_digest, connection.endpoints.token, client_id_of(credentials))


def _with_new_revision(context: BrokerContext, session: ConsentSession) -> ConsentSession:
    return replace(session, revision=context.new_id()[:16])


def _redirect_uri(connection: Connection, spec: ConsentSpec, requested: str | None) -> str:
    if spec.authorize_url is None:
        raise _not_possible("flow", 'must be "device": this provider has no other way to a consent')
    if requested is None:
        registered: str | None = connection.options.get("redirect_uri")
        if registered is None:
            raise _not_possible("redirect_uri", "is required: the connection's settings have none")
        return registered
    if not spec.loopback:
        raise _not_possible("redirect_uri", "must be left out: this provider accepts only registered ones")
    try:
        return loopback_uri(requested)
    except ValueError as error:
        raise _not_possible("redirect_uri", str(error)) from None


def _check_whose(redirect: Redirect, session: ConsentSession) -> None:
    """The redirect belongs to this session, and comes from its authorization server. Raises InvalidRequest."""
    faults = []
    if consent_id_of(redirect.state) != session.consent_id:
        faults.append(FieldError("state", "is of another consent"))
    if not is_issuer(redirect.iss, session.expected_iss):
        faults.append(FieldError("iss", "is not the authorization server of this consent"))
    if faults:
        raise InvalidRequest("The redirect is not one of this consent.", errors=faults)


def _device_error(failure: ExchangeFailure) -> BrokerError:
    kind = PROVIDER_ERRORS.get(failure.kind.code, ProviderUnavailable)
    return kind(failure.detail, retry_after=failure.retry_after, provider_error=failure.provider_error)


def _not_possible(field_name: str, reason: str) -> InvalidRequest:
    return InvalidRequest("This consent cannot be begun.", errors=[FieldError(field_name, reason)])


def _wrong_state(session: ConsentSession, now: datetime) -> WrongConsentState:
    return WrongConsentState(f"The consent session is {session.state_at(now).value}.")


def _new_account(consent: Consent, session: ConsentSession) -> NewAccount:
    if session.account is None:
        detail = "It is not known which account this consent is of."
    elif consent.account is None:
        detail = "It is not known which account the connection has now."
    else:
        detail = "This consent is of another account than the connection's."
    return NewAccount(f"{detail} Confirm it by confirm-new-account, which drops the connection's tokens.")

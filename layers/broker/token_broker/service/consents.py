"""Consents of persons: which refresh token is sent, under which lease and mark, and what becomes of it.

Two scope sets share one consent, so it has a lease of its own. The write that takes it marks the refresh token as sent:

time ───────────────────────────────────────────────────────────────────────────────────────────▶
token key    lease ─────────────────────────────────────────────────────────── commit the access token
consent              lease + mark ── exchange ── store the new refresh token
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from token_broker.core.connections import Connection
from token_broker.core.consents import (
    CONSENT_REFRESH_TOKEN,
    DETAILS,
    REFUSED,
    RESEND_DELAY,
    UNREADABLE,
    AwaitSender,
    Consent,
    ConsentStep,
    ConsentToken,
    PersonNeeded,
    next_due,
    next_step,
)
from token_broker.core.credentials import Credentials
from token_broker.core.failures import FailureKind
from token_broker.core.names import ConnectionName, TokenKey, fingerprint
from token_broker.core.providers import RESEND_MARGIN, RefreshSpec
from token_broker.core.records import Lease
from token_broker.errors import AcquisitionInProgress, BrokerError, BrokerUnavailable
from token_broker.oauth.grants import GrantFailed
from token_broker.oauth.outcomes import consent_missing
from token_broker.oauth.responses import IssuedRefreshToken, IssuedToken
from token_broker.ports import RenewalMessage, Seal, SealBroken, SecretNotReadable
from token_broker.service.context import BrokerContext
from token_broker.service.failures import store_failure
from token_broker.service.lease import LeaseContext
from token_broker.service.records import new_revision, save_health

SEED = "refresh_token"
# In a window of up to this, neither callers nor the sweep come back in time. A message does.
SHORT_WINDOW = timedelta(seconds=120)
FIRST_PAUSE_S = 0.05
LAST_PAUSE_S = 0.4
RETRY_IN_PROGRESS = timedelta(seconds=2)
Change = Callable[[Consent], Consent]
Result = TypeVar("Result")


def insist(context: BrokerContext, call: Callable[[], Result], until: datetime) -> Result:
    """Calls again and again while our own services fail. A repeat of a write that took effect succeeds.

    Raises BrokerUnavailable, if there is no time left.
    """
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return call()
        except BrokerUnavailable:
            if context.clock() + timedelta(seconds=pause_s) >= until:
                raise
        context.sleep(pause_s)
        pause_s = min(pause_s * 2, LAST_PAUSE_S)


def try_save_consent(context: BrokerContext, spec: RefreshSpec, before: Consent, after: Consent) -> Consent | None:
    """Saves a changed consent with its due time. Returns it as stored; None if somebody else changed it."""
    after = replace(after, due_at=next_due(after, spec, context.clock()), revision=new_revision(context))
    return after if context.consents.save(before, after) is None else None


@dataclass(slots=True)
class RefreshSending:
    """The one sending of a consent's refresh token in an acquisition. `found`: the consent before it.

    `consent`: as it is stored now. `seal`: has its data key, and calls no service.
    """

    context: BrokerContext
    lease: LeaseContext
    found: Consent
    consent: Consent
    refresh_token: str = field(repr=False)
    seal: Seal = field(repr=False)

    @property
    def spec(self) -> RefreshSpec:
        return self.lease.connection.provider.refresh

    @property
    def deadline(self) -> datetime:
        """When to stop asking. A resend ends before the vendor's window does."""
        deadline = self.lease.deadline
        within = self.spec.resend_within
        if self.found.sent_at is None or within is None:
            return deadline
        return min(deadline, self.found.sent_at + within - RESEND_MARGIN)

    def begin(self) -> bool:
        """Takes the consent's lease and marks the refresh token as sent, in one write. False if it changed meanwhile.

        Raises BrokerUnavailable, after which the mark is gone or its write did not take effect, as far as that can be
        known.
        """
        context = self.context
        now = self.context.clock()
        self._plan_resend(now)
        marked = self.found.send_begun(Lease(self.lease.owner, since=now, until=now + context.limits.lease))
        try:
            stored = try_save_consent(context, self.spec, self.found, marked)
        except BrokerUnavailable:
            with suppress(BrokerUnavailable):
                self.consent = context.consents.read(self.found.name)
                self._settle(lambda current: current.not_spent(self.found))
            raise
        if stored is None:
            return False
        self.consent = stored
        if self.found.sent_at is not None:
            context.report_resend(self.found.name, self._refresh_id, self.found.sent_at)
        return True

    def succeeded(self, issued: IssuedToken) -> Consent | None:
        """Stores what came, before the access token is. None if the consent is another by now.

        Raises BrokerUnavailable: then the refresh token stays marked as sent.
        """
        refresh_token = issued.issued_refresh_token(self.context.clock())
        return self._settle(self._refreshed(refresh_token, issued.refresh_token_expires_at(self.context.clock())))

    def failed(self, failed: GrantFailed) -> bool:
        """Stores what a failure means for the refresh token. False if the consent is another by now.

        A mark that cannot be changed stays.
        """
        with suppress(BrokerUnavailable):
            return self._settle(self._after_failure(failed)) is not None
        return True

    def _after_failure(self, failed: GrantFailed) -> Change:
        """A complete error response other than invalid_grant and 5xx leaves the refresh token as it was."""
        if failed.refresh_token is not None:
            return self._refreshed(failed.refresh_token, failed.refresh_token.expires_at)
        if failed.nothing_sent:
            return lambda current: current.not_spent(self.found)
        if failed.failure.kind is FailureKind.CONSENT_REQUIRED:
            return lambda current: current.refused_by_provider(failed.failure.provider_error or REFUSED)
        if failed.is_complete_error:
            return lambda current: current.not_spent(self.found)
        return Consent.outcome_unknown

    def _plan_resend(self, now: datetime) -> None:
        """Before a refresh token with a short window is sent: the worker looks at its outcome in time."""
        spec = self.spec
        first_sent_at = self.found.sent_at or now
        if spec.resend_within is None or spec.resend_within > SHORT_WINDOW:
            return
        if spec.may_resend(first_sent_at, now + RESEND_DELAY):
            message = RenewalMessage(self.found.name, None, RESEND_DELAY)
            if self.context.queue.send([message]):
                raise BrokerUnavailable("The renewal queue did not accept a message.")

    def _refreshed(self, refresh_token: IssuedRefreshToken | None, expires_at: datetime | None) -> Change:
        """The new refresh token, or the old one with what the response says of it."""
        now = self.context.clock()
        token = self.consent.token
        if refresh_token is not None:
            sealed = self.seal(refresh_token.value)
            token = ConsentToken(fingerprint(refresh_token.value), sealed, self._expires_at(expires_at))
        elif token is not None and expires_at is not None:
            token = replace(token, expires_at=expires_at)
        return lambda current: current.refreshed(token, now)

    def _expires_at(self, stated: datetime | None) -> datetime | None:
        return stated or life_ends_at(self.spec, self.consent.obtained_at)

    @property
    def _refresh_id(self) -> str:
        return self.found.token.refresh_id if self.found.token is not None else ""

    def _settle(self, change: Change) -> Consent | None:
        """Changes the consent while the refresh token in it is the one that was sent here. None if it is not.

        Tries until the token key's lease ends: what is lost here costs a person.
        """
        context = self.context
        current = self.consent
        while current.is_sender(self.lease.owner, self._refresh_id):
            after = change(current)
            after = replace(after, due_at=next_due(after, self.spec, context.clock()), revision=new_revision(context))
            other = insist(context, partial(context.consents.save, current, after), self.lease.expires_at)
            if other is None:
                self.consent = after
                return after
            current = other
        return None


def prepare_sending(context: BrokerContext, lease: LeaseContext, credentials: Credentials) -> RefreshSending:
    """The refresh token to send, with the data key for the next one. Waits a while for somebody else who sends it.

    Raises ConsentRequired where only a person can help: it is stored, and the lease has ended. Raises
    AcquisitionInProgress or BrokerUnavailable.
    """
    consent = _take_seed(context, lease, credentials, context.consents.read(lease.key.name))
    pause_s = FIRST_PAUSE_S
    while True:
        step = _next_step(lease, credentials, consent, context.clock())
        if not isinstance(step, AwaitSender):
            break
        since = consent.lease.since if consent.lease is not None else context.clock()
        wait_until = min(since + context.limits.wait_on_lease, lease.deadline)
        if context.clock() + timedelta(seconds=pause_s) > wait_until:
            raise AcquisitionInProgress(
                "The refresh token of this connection is being sent for another scope set.",
                retry_after=RETRY_IN_PROGRESS,
            )
        context.sleep(pause_s)
        pause_s = min(pause_s * 2, LAST_PAUSE_S)
        consent = _take_seed(context, lease, credentials, context.consents.read(lease.key.name))
    if isinstance(step, PersonNeeded):
        raise _person_needed(context, lease, credentials, consent, step)
    try:
        refresh_token = context.consent_sealer.open(_sealed(consent), consent.place, CONSENT_REFRESH_TOKEN)
    except SealBroken:
        raise _person_needed(context, lease, credentials, consent, PersonNeeded(UNREADABLE)) from None
    seal = context.consent_sealer.prepare(consent.place, CONSENT_REFRESH_TOKEN)
    return RefreshSending(context, lease, consent, consent, refresh_token, seal)


def _sealed(consent: Consent) -> bytes:
    return consent.token.sealed if consent.token is not None else b""


def _next_step(lease: LeaseContext, credentials: Credentials, consent: Consent, now: datetime) -> ConsentStep:
    return next_step(
        consent,
        lease.connection.provider.refresh,
        issuer=lease.connection.endpoints.token,
        client_id=client_id_of(credentials),
        now=now,
    )


def client_id_of(credentials: Credentials) -> str:
    """The client that a consent is given to; empty at a vendor that knows none."""
    return credentials.values.get("client_id", "")


def seed_id_of(credentials: Credentials) -> str | None:
    """The fingerprint of the secret's refresh token, if it has one."""
    seed = credentials.values.get(SEED)
    return fingerprint(seed) if seed is not None else None


def life_ends_at(spec: RefreshSpec, obtained_at: datetime | None) -> datetime | None:
    """When a refresh token dies at the latest, if its response does not say."""
    return obtained_at + spec.life if obtained_at is not None and spec.life is not None else None


def _take_seed(context: BrokerContext, lease: LeaseContext, credentials: Credentials, consent: Consent) -> Consent:
    """Begins a consent with the secret's refresh token, if an operator put another one there. Returns what is stored.

    Not while somebody sends the stored one: its response is stored first. Never with a seed of the past, nor with one
    that is not in the secret any more: the secret may have been read before the operator changed it, and the stored
    refresh token may have no copy anywhere. An operator who wants an old seed back has a person consent again, or puts
    a newly issued refresh token into the secret.
    """
    seed = credentials.values.get(SEED)
    seed_id = seed_id_of(credentials)
    now = context.clock()
    if seed is None or seed_id is None or consent.knows_seed(seed_id) or consent.leased(now):
        return consent
    if consent.revision is not None and not _is_current(context, lease.key.name, credentials):
        return consent
    spec = lease.connection.provider.refresh
    connection = lease.connection
    sealed = context.consent_sealer.prepare(consent.place, CONSENT_REFRESH_TOKEN)(seed)
    begun = consent.begun(
        ConsentToken(seed_id, sealed, life_ends_at(spec, now)),
        issuer=connection.endpoints.token,
        client_id=client_id_of(credentials),
        seed_id=seed_id,
        now=now,
    )
    return try_save_consent(context, spec, consent, begun) or context.consents.read(lease.key.name)


def _is_current(context: BrokerContext, name: ConnectionName, credentials: Credentials) -> bool:
    """Whether the secret still has the version that these credentials were read from."""
    try:
        secret = context.secrets.read(name)
    except SecretNotReadable:
        return False
    return secret is not None and secret.version == credentials.version


def _person_needed(
    context: BrokerContext, lease: LeaseContext, credentials: Credentials, consent: Consent, step: PersonNeeded
) -> BrokerError:
    """Stores that only a person can help, and ends the lease. Returns the error to raise."""
    failure = consent_missing(step.reason, DETAILS[step.reason], step.provider_error)
    return store_consent_failure(context, lease, credentials, consent, GrantFailed(failure, nothing_sent=True))


def store_consent_failure(
    context: BrokerContext, lease: LeaseContext, credentials: Credentials, consent: Consent, failed: GrantFailed
) -> BrokerError:
    """Stores a failure as `store_failure` does. A consent that was given meanwhile lifts it at once."""
    error = store_failure(context, lease, credentials, failed)
    if failed.failure.kind is FailureKind.CONSENT_REQUIRED:
        with suppress(BrokerUnavailable):
            if context.consents.read(consent.name).generation != consent.generation:
                lift_consent_failure(context, consent.name)
    return error


def lift_consent_failure(context: BrokerContext, name: ConnectionName) -> None:
    """A consent was given: the connection's next request may use it at once. Raises BrokerUnavailable."""
    _, record = context.tokens.read(TokenKey(name, ""))
    save_health(context, name, record.health, lambda current: current.consent_given())


@dataclass(frozen=True, slots=True)
class NewConsent:
    """What a confirmed session brings. `consent_id`: the session's. `scope`: the granted one."""

    consent_id: str
    refresh_token: IssuedRefreshToken
    client_id: str
    issuer: str
    scope: str | None = None
    account: str | None = None
    kept: dict[str, str] = field(default_factory=dict)


def begin_consent(
    context: BrokerContext, connection: Connection, stored: Consent, new: NewConsent, *, seed_id: str | None
) -> Consent | None:
    """Makes a confirmed consent live, in place of `stored`. None if that changed meanwhile: read and judge it again.

    `seed_id`: of the secret's refresh token, which from now on does not count as new. Repeating it after a failure is
    safe: the session's consent is not begun twice. A response to the old refresh token that comes later is not stored.
    Afterwards the caller lifts the failure (`lift_consent_failure`) and replaces the access tokens.
    """
    if stored.consent_id == new.consent_id:
        return stored
    now = context.clock()
    spec = connection.provider.refresh
    sealed = context.consent_sealer.prepare(stored.place, CONSENT_REFRESH_TOKEN)(new.refresh_token.value)
    expires_at = new.refresh_token.expires_at or life_ends_at(spec, now)
    begun = stored.begun(
        ConsentToken(fingerprint(new.refresh_token.value), sealed, expires_at),
        issuer=new.issuer,
        client_id=new.client_id,
        seed_id=seed_id,
        now=now,
        consent_id=new.consent_id,
        scope=new.scope,
        account=new.account,
        kept=new.kept,
    )
    return try_save_consent(context, spec, stored, begun)

"""A consent session: the way to a person's consent, from the authorization request to the confirmation.

    pending ── the code came ──► code_received ──► exchanging ── refresh token ──► quarantined ──► confirmed
       └── the device flow was approved ───────────────────────────────────────────────▲
    Any state before confirmed can become failed, and each expires.

Every change is a pure function of the session. What time does to it is judged by `state_at`: nobody must write it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from token_broker.core.consents import Consent, ConsentToken
from token_broker.core.names import ConnectionName, Place

# The purposes of sealed values.
PKCE_VERIFIER = "pkce_verifier"
CONSENT_CODE = "consent_code"
QUARANTINED_REFRESH_TOKEN = "quarantined_refresh_token"  # noqa: S105  # a name

# How long a person has to approve, and how long a code may wait for its exchange.
TIME_TO_APPROVE = timedelta(minutes=10)
# More than the function that exchanges the code may run. After this, nobody is exchanging it.
TIME_TO_EXCHANGE = timedelta(seconds=40)
QUARANTINE = timedelta(hours=24)
# How long a session can be read after it has expired.
KEEP = timedelta(days=1)
# RFC 8628 section 3.5
SLOW_DOWN = timedelta(seconds=5)

# Why a session failed, besides the codes of provider errors.
OUTCOME_UNKNOWN = "outcome_unknown"
SETTINGS_CHANGED = "settings_changed"
UNREADABLE = "unreadable"


class SessionState(StrEnum):
    PENDING = "pending"
    CODE_RECEIVED = "code_received"
    EXCHANGING = "exchanging"
    QUARANTINED = "quarantined"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    EXPIRED = "expired"  # never stored


EXPIRING = frozenset({SessionState.PENDING, SessionState.CODE_RECEIVED, SessionState.QUARANTINED})
AFTER_CODE = frozenset({SessionState.EXCHANGING, SessionState.QUARANTINED, SessionState.CONFIRMED})


def consent_id_of(state: str) -> str:
    """The SHA-256 of `state` as 64 hex digits: the name of its session. Safe to show and to log."""
    return hashlib.sha256(state.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class SessionFailure:
    """Why no consent came. `code`: of a provider error, or one of this module. `provider_error`: from a fixed list."""

    code: str
    provider_error: str | None = None


@dataclass(frozen=True, slots=True)
class ConsentSession:
    """One way to a consent of a connection.

    `initiator`: the full userArn of who began it. Only the same one may finish and confirm it. `settings_digest`,
    `issuer`, `client_id`: what it was begun with; the code is exchanged under nothing else. `scope`: the requested one,
    later the granted one. `generation`: of the live consent at the beginning. `expected_iss`: the `iss` that a redirect
    may carry (RFC 9207). `poll_interval`: of the device flow; None: there is a redirect. `exchange_until`: until then,
    somebody is exchanging the code. `code_id`: the code's fingerprint. `kept`: what the redirect brought besides the
    code. `token`: the refresh token in quarantine. `account`: the vendor's account, where the file says how to know it.
    `revision` names this state; None where nothing is stored.
    """

    consent_id: str
    name: ConnectionName
    initiator: str
    settings_digest: str
    issuer: str
    client_id: str
    scope: str
    expires_at: datetime
    generation: int = 0
    redirect_uri: str = ""
    expected_iss: str = ""
    poll_interval: timedelta | None = None
    state: SessionState = SessionState.PENDING
    sealed_verifier: bytes | None = field(default=None, repr=False)
    code_id: str | None = None
    sealed_code: bytes | None = field(default=None, repr=False)
    exchange_until: datetime | None = None
    kept: Mapping[str, str] = field(default_factory=dict)
    token: ConsentToken | None = None
    account: str | None = None
    failure: SessionFailure | None = None
    revision: str | None = None

    # ---------------------------------------------------------------- what time does

    def state_at(self, now: datetime) -> SessionState:
        """The state now. An exchange that nobody finished has failed: the code may have been used."""
        if self.state in EXPIRING and now >= self.expires_at:
            return SessionState.EXPIRED
        if self.state is SessionState.EXCHANGING and not self.is_exchanging(now):
            return SessionState.FAILED
        return self.state

    def failure_at(self, now: datetime) -> SessionFailure | None:
        if self.state is SessionState.EXCHANGING and not self.is_exchanging(now):
            return SessionFailure(OUTCOME_UNKNOWN)
        return self.failure

    def is_exchanging(self, now: datetime) -> bool:
        return self.exchange_until is not None and now < self.exchange_until

    @property
    def place(self) -> Place:
        """Where its verifier and its refresh token are sealed: they open for no other connection."""
        return Place(self.name, self.consent_id)

    @property
    def uses_device_flow(self) -> bool:
        return self.poll_interval is not None

    @property
    def delete_at(self) -> datetime:
        return self.expires_at + KEEP

    def accepts_code(self, code_id: str | None, now: datetime) -> bool:
        """Whether a redirect with this code may come now. The same one may come again: its message can be lost.

        None: a redirect with an error. It is accepted only while there is no code.
        """
        if self.uses_device_flow:
            return False
        state = self.state_at(now)
        is_same = code_id is not None and code_id == self.code_id
        return state is SessionState.PENDING or (state is SessionState.CODE_RECEIVED and is_same)

    def was_handed(self, code_id: str | None, now: datetime) -> bool:
        """Whether this code came before, and its exchange has begun or succeeded: then it needs no other message."""
        return code_id is not None and code_id == self.code_id and self.state_at(now) in AFTER_CODE

    def may_replace(self, consent: Consent) -> bool:
        """Whether the live consent is still the one of the beginning, or this session's own.

        Each refresh token of a session is made live once. By a later confirmation it could be spent.
        """
        return consent.consent_id == self.consent_id or consent.generation == self.generation

    # ---------------------------------------------------------------- changes

    def code_received(self, code_id: str, sealed_code: bytes, kept: Mapping[str, str], now: datetime) -> ConsentSession:
        """The redirect came back with a code."""
        return replace(
            self,
            state=SessionState.CODE_RECEIVED,
            code_id=code_id,
            sealed_code=sealed_code,
            kept=dict(kept),
            expires_at=now + TIME_TO_APPROVE,
        )

    def exchange_begun(self, now: datetime) -> ConsentSession:
        """The code is about to be sent. It is never sent again, unless no byte of it left the broker."""
        return replace(self, state=SessionState.EXCHANGING, exchange_until=now + TIME_TO_EXCHANGE)

    def not_sent(self) -> ConsentSession:
        """No byte left the broker: the code may still be sent."""
        return replace(self, state=SessionState.CODE_RECEIVED, exchange_until=None)

    def poll_begun(self, now: datetime) -> ConsentSession:
        """The provider is about to be asked whether the person has approved (device flow). One asks at a time."""
        return replace(self, exchange_until=now + TIME_TO_EXCHANGE)

    def polled(self, *, slow_down: bool = False) -> ConsentSession:
        """The person has not approved yet. `slow_down`: the provider wants to be asked less often."""
        interval = (self.poll_interval or timedelta()) + (SLOW_DOWN if slow_down else timedelta())
        return replace(self, poll_interval=interval, exchange_until=None)

    def granted(self, token: ConsentToken, *, scope: str | None, account: str | None, now: datetime) -> ConsentSession:
        """A refresh token came. Nobody uses it before it is confirmed. `scope` None: it is the requested one."""
        return replace(
            self._without_secrets(),
            state=SessionState.QUARANTINED,
            token=token,
            scope=self.scope if scope is None else scope,
            account=account,
            expires_at=now + QUARANTINE,
        )

    def confirmed(self) -> ConsentSession:
        """The consent is live: its refresh token is stored there, and here no longer."""
        return replace(self._without_secrets(), state=SessionState.CONFIRMED, token=None)

    def failed(self, failure: SessionFailure) -> ConsentSession:
        return replace(self._without_secrets(), state=SessionState.FAILED, token=None, failure=failure)

    def _without_secrets(self) -> ConsentSession:
        return replace(self, sealed_verifier=None, sealed_code=None, exchange_until=None)


def code_place(provider: str, consent_id: str) -> Place:
    """Where a session's code is sealed. Who receives a redirect knows the session, but not its connection."""
    return Place(ConnectionName(provider, "-"), consent_id)


def needs_new_account(consent: Consent, account: str | None) -> bool:
    """Whether a new consent may be of another account than the connection's. Confirming it needs its own permission.

    The first consent pins its account. Without a known account on either side, nobody can tell.
    """
    return consent.token is not None and (account is None or account != consent.account)

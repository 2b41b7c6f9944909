"""A person's consent: the refresh token that it gave, and when that may be sent.

Every change is a pure function of the consent. `next_step` is the only place that decides whether its refresh token is
sent. A consent belongs to its connection: all scope sets share it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from token_broker.core.names import ConnectionName, Place
from token_broker.core.providers import RefreshSpec
from token_broker.core.records import Lease

# The purpose of its sealed refresh token, and the logical name of its table in every encryption context.
CONSENT_REFRESH_TOKEN = "consent_refresh_token"  # noqa: S105  # a name
GRANTS_TABLE = "grants"
# At this share of its idle time a refresh token is used, although nobody asks for a token.
KEEP_ALIVE_AT = 0.8
# When one whose outcome is unknown is sent again. The first time lets a dead sender's lease end.
RESEND_SPACING = timedelta(minutes=5)
RESEND_DELAY = timedelta(seconds=20)
# How many seeds of the past a consent remembers. An old copy of the secret can bring one again.
MAX_PAST_SEEDS = 16
# Ends that differ by less are the same one: responses state it in whole seconds from now.
EXTENSION = timedelta(minutes=1)
# Why a person must consent (again).
NEVER_GIVEN = "never_given"
REFUSED = "refused"
EXPIRED = "expired"
OUTCOME_UNKNOWN = "outcome_unknown"
OTHER_CLIENT = "other_client"
UNREADABLE = "unreadable"
# Each in a sentence, for callers and operators.
DETAILS: Mapping[str, str] = {
    NEVER_GIVEN: "Nobody has consented yet.",
    REFUSED: "The provider no longer accepts the consent. A person must consent again.",
    EXPIRED: "The consent has expired. A person must consent again.",
    OUTCOME_UNKNOWN: "The provider's last response was lost. A person must consent again.",
    OTHER_CLIENT: "The consent was given to another client, or at another token endpoint. A person must consent again.",
    UNREADABLE: "The stored refresh token cannot be opened. A person must consent again.",
}


@dataclass(frozen=True, slots=True)
class ConsentToken:
    """The refresh token of a consent. `refresh_id`: its fingerprint, safe to log. `sealed`: its ciphertext."""

    refresh_id: str
    sealed: bytes = field(repr=False)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Consent:
    """What is stored of a connection's consent.

    `issuer`, `client_id`: the token endpoint and the client that the refresh token belongs to. It is sent nowhere else.
    `seed_id`: the fingerprint of the secret's refresh_token when this consent began; None if it had none.
    `past_seeds`: those before it, newest last. `sent_at`: when the current refresh token was first sent, if no response
    has settled that. `consent_id`: of the session that gave it; None for a seed. `refused`: the provider's error code
    once it refused the current refresh token. `generation`: grows with every new consent, so that a late response of an
    older one is noticed. `account`: the vendor's account, where the file says how to know it. `kept`: what the redirect
    brought besides the code. `extends`: whether its last use moved its end; None: not known yet. `obtained_at`,
    `refreshed_at`: when the consent was given and last used. `due_at`: when the refresh token must be sent although
    nobody asks (see `next_due`). `revision` names this state; None where nothing is stored.
    """

    name: ConnectionName
    token: ConsentToken | None = None
    issuer: str = ""
    client_id: str = ""
    seed_id: str | None = None
    past_seeds: tuple[str, ...] = ()
    lease: Lease | None = None
    sent_at: datetime | None = None
    refused: str | None = None
    generation: int = 0
    consent_id: str | None = None
    scope: str | None = None
    account: str | None = None
    kept: Mapping[str, str] = field(default_factory=dict)
    obtained_at: datetime | None = None
    refreshed_at: datetime | None = None
    extends: bool | None = None
    due_at: datetime | None = None
    revision: str | None = None

    @property
    def place(self) -> Place:
        """Where its refresh token is sealed."""
        return Place(self.name, "consent")

    def leased(self, now: datetime) -> bool:
        return self.lease is not None and self.lease.holds(now)

    def knows_seed(self, seed_id: str) -> bool:
        """Whether this consent, or one before it, has had this seed. It begins no consent again."""
        return seed_id == self.seed_id or seed_id in self.past_seeds

    def must_be_used(self, spec: RefreshSpec, now: datetime) -> bool:
        """Whether the refresh token must be sent now, whoever asks: see `next_due`."""
        if self.token is None or self.refused is not None:
            return False
        if self.sent_at is not None:
            return spec.may_resend(self.sent_at, now)
        due_at = next_due(self, spec, now)
        return due_at is not None and due_at <= now

    def is_sender(self, owner: str, refresh_id: str) -> bool:
        """Whether `owner` took the lease last, and the refresh token is still the one that it sent."""
        return (
            self.lease is not None
            and self.lease.owner == owner
            and self.token is not None
            and self.token.refresh_id == refresh_id
        )

    # ---------------------------------------------------------------- changes

    def begun(
        self,
        token: ConsentToken,
        *,
        issuer: str,
        client_id: str,
        seed_id: str | None,
        now: datetime,
        consent_id: str | None = None,
        scope: str | None = None,
        account: str | None = None,
        kept: Mapping[str, str] | None = None,
    ) -> Consent:
        """A new consent, from the secret or from a confirmed session. It replaces the stored one."""
        return Consent(
            self.name,
            token,
            issuer,
            client_id,
            seed_id,
            self._seeds_before(seed_id),
            generation=self.generation + 1,
            consent_id=consent_id,
            scope=scope,
            account=account,
            kept=dict(kept or {}),
            obtained_at=now,
            revision=self.revision,
        )

    def send_begun(self, lease: Lease) -> Consent:
        """The refresh token is about to be sent under this lease. A resend keeps the first time of sending."""
        return replace(self, lease=lease, sent_at=self.sent_at or lease.since)

    def not_spent(self, before: Consent) -> Consent:
        """No byte left the broker, or the provider's error leaves the refresh token as it was.

        `before`: the consent before `send_begun`. What is not known of an earlier sending stays unknown.
        """
        return replace(self, lease=None, sent_at=before.sent_at)

    def outcome_unknown(self) -> Consent:
        """No complete response came. The refresh token stays marked as sent."""
        return replace(self, lease=None)

    def refused_by_provider(self, provider_error: str) -> Consent:
        """The provider refused the refresh token (invalid_grant)."""
        return replace(self, lease=None, refused=provider_error)

    def refreshed(self, token: ConsentToken | None, now: datetime) -> Consent:
        """A token came. `token`: the new refresh token; None if the response had none, which keeps the old one.

        The new one is not refused and was not sent, whatever the old one was.
        """
        extends = self.extends
        if token is not None and token.expires_at is not None and self.token is not None and self.token.expires_at:
            extends = token.expires_at - self.token.expires_at > EXTENSION
        return replace(
            self, token=token or self.token, lease=None, sent_at=None, refused=None, refreshed_at=now, extends=extends
        )

    def dropped(self) -> Consent:
        """The refresh token is given up. The generation stays, so that a late response of it is noticed."""
        return Consent(
            self.name,
            seed_id=self.seed_id,
            past_seeds=self.past_seeds,
            generation=self.generation + 1,
            revision=self.revision,
        )

    def _seeds_before(self, seed_id: str | None) -> tuple[str, ...]:
        seeds = [*self.past_seeds, self.seed_id]
        return tuple(seed for seed in seeds if seed is not None and seed != seed_id)[-MAX_PAST_SEEDS:]


def next_due(consent: Consent, spec: RefreshSpec, now: datetime) -> datetime | None:
    """When the sweep must have the refresh token sent, although nobody may ask for a token; None: never.

    At 80 % of its idle life, which is the vendor's or ends when the refresh token expires, and within the vendor's
    window if its outcome is unknown.
    """
    if consent.token is None or consent.refused is not None:
        return None
    if consent.sent_at is not None:
        resends = [now + delay for delay in (RESEND_SPACING, RESEND_DELAY)]
        return next((at for at in resends if spec.may_resend(consent.sent_at, at)), None)
    used_at = consent.refreshed_at or consent.obtained_at
    if used_at is None:
        return None
    idle_lives = [spec.idle_life] if spec.idle_life is not None else []
    if consent.token.expires_at is not None and consent.extends is not False:
        idle_lives.append(consent.token.expires_at - used_at)
    return used_at + min(idle_lives) * KEEP_ALIVE_AT if idle_lives else None


def ends_at(consent: Consent, spec: RefreshSpec) -> datetime | None:
    """When a person must consent again, as far as that is known: an end that use does not move."""
    ends = []
    if spec.life is not None and consent.obtained_at is not None:
        ends.append(consent.obtained_at + spec.life)
    if consent.extends is False and consent.token is not None and consent.token.expires_at is not None:
        ends.append(consent.token.expires_at)
    return min(ends, default=None) if consent.token is not None else None


@dataclass(frozen=True, slots=True)
class SendRefreshToken:
    """The refresh token may be sent. `resend`: it may have been sent before, and the provider's file allows that."""

    resend: bool


@dataclass(frozen=True, slots=True)
class AwaitSender:
    """Somebody else sends it, until this moment at the latest."""

    until: datetime


@dataclass(frozen=True, slots=True)
class PersonNeeded:
    """Only a person can help. `reason`: one of the constants of this module. `provider_error`: of a refusal."""

    reason: str
    provider_error: str | None = None


ConsentStep = SendRefreshToken | AwaitSender | PersonNeeded


def next_step(consent: Consent, spec: RefreshSpec, *, issuer: str, client_id: str, now: datetime) -> ConsentStep:
    """What may be done with the refresh token now. `issuer`, `client_id`: those of today's settings and secret."""
    token = consent.token
    if token is None:
        return PersonNeeded(NEVER_GIVEN)
    if consent.lease is not None and consent.leased(now):
        return AwaitSender(consent.lease.until)
    if (consent.issuer, consent.client_id) != (issuer, client_id):
        return PersonNeeded(OTHER_CLIENT)
    if consent.refused is not None:
        return PersonNeeded(REFUSED, consent.refused)
    if token.expires_at is not None and token.expires_at <= now:
        return PersonNeeded(EXPIRED)
    if consent.sent_at is None:
        return SendRefreshToken(resend=False)
    if spec.may_resend(consent.sent_at, now):
        return SendRefreshToken(resend=True)
    return PersonNeeded(OUTCOME_UNKNOWN)


def is_dead(consent: Consent, spec: RefreshSpec, *, issuer: str, now: datetime) -> bool:
    """Whether only a person can help, as far as that is known without the secret. One never given can begin there."""
    step = next_step(consent, spec, issuer=issuer, client_id=consent.client_id, now=now)
    return isinstance(step, PersonNeeded) and step.reason != NEVER_GIVEN

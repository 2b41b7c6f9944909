"""When the provider may be asked again after a failure.

`token_broker.oauth.outcomes` says what a provider's response means. This module turns that meaning into a remembered
failure with a cooldown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum


class FailureKind(Enum):
    """What a failed token request means for the next one. The value is the error code that callers see."""

    TRANSIENT = "provider_unavailable"
    INVALID = "provider_invalid_response"
    RATE_LIMITED = "provider_rate_limited"
    REFUSED = "provider_refused"
    CONSENT_REQUIRED = "consent_required"
    BROKER = "broker_unavailable"

    @property
    def code(self) -> str:
        return self.value


class FailureLevel(Enum):
    """Where the cause of a failure lies, and so what its cooldown applies to."""

    CONNECTION = "connection"
    KEY = "key"
    ENDPOINT = "endpoint"


@dataclass(frozen=True, slots=True)
class ExchangeFailure:
    """What a failed exchange with a provider means. `rule`: the failure rule that recognised it.

    `retry_after`: how long the provider asks us to wait. `restart`: the grant may start anew at once.
    `outcome_unknown`: the request may have taken effect.
    """

    rule: str
    kind: FailureKind
    level: FailureLevel
    detail: str
    provider_error: str | None = None
    retry_after: timedelta | None = None
    restart: bool = False
    outcome_unknown: bool = False


# Failure rules that this module treats in a way of their own.
CREDENTIALS_DOUBTED = "credentials_doubted"
CREDENTIALS_REFUSED = "credentials_refused"
UNKNOWN_ERROR = "unknown_error"
UNRESOLVED_LOGINS = "too_many_unresolved_logins"
MISCONFIGURED = "misconfigured"
SECRET_MISSING = "secret_missing"  # noqa: S105  # the name of a failure rule

FIXED_COOLDOWNS = {
    "certificate_not_trusted": timedelta(minutes=5),
    "address_not_public": timedelta(minutes=5),
    "redirected_elsewhere": timedelta(minutes=15),
    "request_unknown": timedelta(minutes=15),
    CREDENTIALS_DOUBTED: timedelta(seconds=60),
    UNKNOWN_ERROR: timedelta(seconds=60),
}
UNKNOWN_ERROR_SPACING = timedelta(seconds=60)
ONE_MORE_TRY_COOLDOWN = timedelta(seconds=60)
DEFAULT_RATE_LIMIT_COOLDOWN = timedelta(seconds=60)
MAX_RATE_LIMIT_COOLDOWN = timedelta(hours=1)
TRANSIENT_COOLDOWNS = tuple(timedelta(seconds=s) for s in (2, 30, 60, 120, 240, 300))
REFUSED_COOLDOWNS = (timedelta(minutes=15), timedelta(hours=1), timedelta(hours=4), timedelta(hours=24))
MISCONFIGURED_COOLDOWN = timedelta(minutes=5)
# How long nobody looks again whether the secret has another refresh token. A new consent ends it at once.
CONSENT_COOLDOWN = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Failure:
    """A remembered failure. `retry_at`: the provider is not asked before. `count`: failures of this kind in a row.

    `secret_version` and `settings_digest`: what failed. A change of either clears a refusal. `one_more_try`: the
    provider refused this version of the secret for the first time. It is asked once more, for the whole connection.
    """

    code: str
    detail: str
    provider_error: str | None
    at: datetime
    retry_at: datetime
    count: int
    secret_version: str | None
    settings_digest: str
    rule: str
    one_more_try: bool = False

    @property
    def refused(self) -> bool:
        """Whether the provider refused credentials or scope. Only a caller repeats that, after the cooldown."""
        return self.code == FailureKind.REFUSED.code

    @property
    def consent_required(self) -> bool:
        """Whether only a person's consent helps, or another refresh token in the secret. The provider is not asked."""
        return self.code == FailureKind.CONSENT_REQUIRED.code

    @property
    def needs_change(self) -> bool:
        """Whether waiting does not help: other credentials or settings are needed, or a person's consent."""
        return self.refused or self.consent_required

    @property
    def passes(self) -> bool:
        """Whether its cause may be over by now. Its cooldown only spaces the attempts; nobody asked us to wait."""
        return not self.refused and not self.rate_limited

    @property
    def is_against_credentials(self) -> bool:
        """Whether the provider refused the credentials, even if it may have meant something else."""
        return self.refused or self.rule == CREDENTIALS_DOUBTED

    @property
    def repeated_by_sweep(self) -> bool:
        """Whether the sweep asks again after the cooldown. A login that was not sent was not refused."""
        return not self.refused or self.one_more_try or self.rule == UNRESOLVED_LOGINS

    @property
    def rate_limited(self) -> bool:
        """Whether the provider asked us to slow down. New credentials or settings do not change that."""
        return self.code == FailureKind.RATE_LIMITED.code

    @property
    def misconfigured(self) -> bool:
        """Whether the provider was never asked: the secret is missing or incomplete. Callers are not held back."""
        return self.rule in (MISCONFIGURED, SECRET_MISSING)


def next_failure(
    exchange_failure: ExchangeFailure,
    previous: Failure | None,
    *,
    now: datetime,
    secret_version: str | None,
    settings_digest: str,
    refused_before: bool,
    counts_logins: bool = False,
) -> Failure:
    """The failure to remember after `previous`. The cooldown grows with the number of failures of a kind in a row.

    `refused_before`: the provider refused this version of the secret already. Its first refusal gets one more try after
    60 s, because a provider may take that long to accept new credentials; never with a grant that `counts_logins`. A
    refusal before that, of a trial, does not use the try up. The refusal that confirms it does not count again.

    A second refusal of credentials that worked before counts as a refusal. So does a second unknown error with the same
    secret, at least a minute after the first; with a grant that `counts_logins` at once, so that no account is locked.
    """
    same_secret = previous is not None and previous.secret_version == secret_version
    doubted = exchange_failure.rule == CREDENTIALS_DOUBTED
    if doubted and (refused_before or (previous is not None and previous.refused)):
        exchange_failure = replace(exchange_failure, rule=CREDENTIALS_REFUSED, kind=FailureKind.REFUSED)
    unknown_again = previous is not None and same_secret and previous.rule == exchange_failure.rule == UNKNOWN_ERROR
    if previous is not None and unknown_again and (counts_logins or now - previous.at >= UNKNOWN_ERROR_SPACING):
        exchange_failure = replace(exchange_failure, kind=FailureKind.REFUSED)
    is_refusal = exchange_failure.kind is FailureKind.REFUSED
    one_more_try = (
        is_refusal
        and exchange_failure.level is FailureLevel.CONNECTION
        and exchange_failure.rule != UNKNOWN_ERROR
        and not counts_logins
        and (not refused_before or _is_early(previous, same_secret=same_secret, now=now))
    )
    count = 1
    if previous is not None and previous.refused == is_refusal and (same_secret or not is_refusal):
        count = previous.count if previous.one_more_try else previous.count + 1
    return Failure(
        code=exchange_failure.kind.code,
        detail=exchange_failure.detail,
        provider_error=exchange_failure.provider_error,
        at=now,
        retry_at=now + (ONE_MORE_TRY_COOLDOWN if one_more_try else cooldown(exchange_failure, count)),
        count=count,
        secret_version=secret_version,
        settings_digest=settings_digest,
        rule=exchange_failure.rule,
        one_more_try=one_more_try,
    )


def _is_early(previous: Failure | None, *, same_secret: bool, now: datetime) -> bool:
    """Whether it is too early for the one more try."""
    if previous is None or not previous.one_more_try or not same_secret:
        return False
    return now - previous.at < ONE_MORE_TRY_COOLDOWN


def broker_failed(detail: str) -> ExchangeFailure:
    """One of our own services failed, so the provider gave no token."""
    return ExchangeFailure("broker_failed", FailureKind.BROKER, FailureLevel.KEY, detail)


def broker_failure(detail: str, previous: Failure | None, *, now: datetime, settings_digest: str) -> Failure:
    """The failure to remember where one of our own services failed. Its cooldown grows like a provider's."""
    return next_failure(
        broker_failed(detail),
        previous,
        now=now,
        secret_version=None,
        settings_digest=settings_digest,
        refused_before=False,
    )


def misconfigured_failure(
    code: str, detail: str, *, now: datetime, settings_digest: str, secret_missing: bool = False
) -> Failure:
    """The failure to remember where the provider could not even be asked."""
    rule = SECRET_MISSING if secret_missing else MISCONFIGURED
    return Failure(code, detail, None, now, now + MISCONFIGURED_COOLDOWN, 1, None, settings_digest, rule=rule)


def failure_to_store(failure: Failure, previous: Failure | None) -> Failure:
    """What to keep of a new failure beside the stored one.

    A new failure never shortens a cooldown of the same secret and settings. An outage or a missing consent does not
    clear a refusal: it stays, and the next attempt is at least as far away as after a long outage. A failure of our own
    services does not know the secret's version, which counts as the same.
    """
    if previous is None or failure.refused or (failure.consent_required and not previous.refused):
        return failure
    same_secret = failure.secret_version in (None, previous.secret_version)
    same_input = same_secret and previous.settings_digest == failure.settings_digest
    if not same_input and not failure.rate_limited:
        return failure
    retry_at = max(previous.retry_at, failure.retry_at)
    if not previous.needs_change:
        return replace(failure, retry_at=retry_at)
    return replace(previous, retry_at=max(retry_at, failure.at + TRANSIENT_COOLDOWNS[-1]))


def cooldown(exchange_failure: ExchangeFailure, count: int) -> timedelta:
    """How long the provider is not asked after the `count`-th failure of a kind in a row.

    As long as the provider asks for (60 s by default, 1 h at most), a fixed time of the rule, or a growing one: 2 s,
    30 s, doubling to 5 min; after a refusal 15 min, 1 h, 4 h, then 24 h (see also ONE_MORE_TRY_COOLDOWN). Without a
    person's consent nobody is asked; 15 min later somebody looks again.
    """
    if exchange_failure.kind is FailureKind.CONSENT_REQUIRED:
        return CONSENT_COOLDOWN
    if exchange_failure.kind is FailureKind.RATE_LIMITED:
        return min(exchange_failure.retry_after or DEFAULT_RATE_LIMIT_COOLDOWN, MAX_RATE_LIMIT_COOLDOWN)
    refused_repeatedly = exchange_failure.kind is FailureKind.REFUSED and exchange_failure.rule == UNKNOWN_ERROR
    if exchange_failure.rule in FIXED_COOLDOWNS and not refused_repeatedly:
        return FIXED_COOLDOWNS[exchange_failure.rule]
    steps = REFUSED_COOLDOWNS if exchange_failure.kind is FailureKind.REFUSED else TRANSIENT_COOLDOWNS
    return steps[min(count, len(steps)) - 1]

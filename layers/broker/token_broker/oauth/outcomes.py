"""What a provider's response means: an ordered table of named failure rules. The first rule that applies counts.

When the provider may be asked again is decided in `token_broker.core.failures`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from token_broker.core.failures import (
    CREDENTIALS_DOUBTED,
    CREDENTIALS_REFUSED,
    UNKNOWN_ERROR,
    UNRESOLVED_LOGINS,
    ExchangeFailure,
    FailureKind,
    FailureLevel,
)

Step = Literal["connect", "token", "code", "refresh", "consent", "login"]
TransportFailure = Literal["unreachable", "bad_certificate", "private_address", "unknown", "unreadable"]

CLIENT_ERRORS = frozenset({"invalid_client", "unauthorized_client", "invalid_credentials"})
SCOPE_ERRORS = frozenset({"invalid_scope", "scope_invalid", "invalid_target"})
REQUEST_ERRORS = frozenset({"invalid_request", "unsupported_grant_type"})
TRANSIENT_ERRORS = frozenset({"server_error", "temporarily_unavailable", "invalid_token_reuse"})
# RFC 8628 section 3.5. A provider's file can map a vendor's code to it.
LIMIT_ERRORS = frozenset({"slow_down"})
TRANSIENT_CONNECT_ERRORS = frozenset({"server_error", "temporarily_unavailable"})


@dataclass(frozen=True, slots=True)
class ExchangeResult:
    """One exchange with a provider, reduced to what the rules look at.

    `step` consent: the refresh token of a person's consent was sent. `error`: a code of `providers.KNOWN_ERRORS`,
    `unrecognised` or None. `transport`: why there is no response. `wrong_redirect`: connect redirected to another
    address than redirect_uri. `worked_before`: the provider accepted these credentials before. `unusable`: why a 2xx
    response is not a token, None if it is one.
    """

    step: Step
    status: int = 0
    error: str | None = None
    transport: TransportFailure | None = None
    retry_after: timedelta | None = None
    has_retry_after: bool = False
    html: bool = False
    worked_before: bool = False
    wrong_redirect: bool = False
    unusable: str | None = None

    @property
    def connecting(self) -> bool:
        return self.step == "connect"

    @property
    def redirects(self) -> bool:
        return 300 <= self.status < 400


@dataclass(frozen=True, slots=True)
class Rule:
    """One failure rule: its name, when it applies, and what it means. `detail` is shown to callers and operators."""

    name: str
    applies: Callable[[ExchangeResult], bool]
    kind: FailureKind
    detail: str
    level: FailureLevel = FailureLevel.CONNECTION
    restart: bool = False
    outcome_unknown: bool = False

    def failure(self, result: ExchangeResult) -> ExchangeFailure:
        return ExchangeFailure(
            rule=self.name,
            kind=self.kind,
            level=self.level,
            detail=self.detail.format(reason=result.unusable or "an unexpected status"),
            provider_error=result.error,
            retry_after=result.retry_after,
            restart=self.restart,
            outcome_unknown=self.outcome_unknown,
        )


def classify(result: ExchangeResult) -> ExchangeFailure | None:
    """What an exchange means; None for a success."""
    rule = next((rule for rule in RULES if rule.applies(result)), None)
    return rule.failure(result) if rule is not None else None


def _redirects_elsewhere(result: ExchangeResult) -> bool:
    return result.wrong_redirect or (result.redirects and not result.connecting)


def _connect_error(result: ExchangeResult) -> str | None:
    """The error that connect put into its redirect."""
    return result.error if result.connecting and result.redirects else None


def _connect_without_code(result: ExchangeResult) -> bool:
    """Whether connect shows an error page instead of a redirect with a code it knows."""
    if not result.connecting or not (200 <= result.status < 300 or 400 <= result.status < 500):
        return False
    return result.error in (None, "unrecognised") and result.status not in (408, 425) and not _rate_limited(result)


def _rate_limited(result: ExchangeResult) -> bool:
    """RFC 6585 section 4; some servers and the firewalls before them send 503 or 403 with Retry-After instead."""
    if result.error in LIMIT_ERRORS:
        return True
    return result.status == 429 or (result.status in (403, 503) and result.has_retry_after)


def _credentials_doubted(result: ExchangeResult) -> bool:
    """An HTML page instead of an error code may come from a proxy in front of the provider."""
    if not result.worked_before:
        return False
    return result.error == "failed" or (result.status in (401, 403) and result.html)


RULES = (
    Rule(
        "certificate_not_trusted",
        lambda result: result.transport == "bad_certificate",
        FailureKind.TRANSIENT,
        "The provider's certificate is not trusted.",
    ),
    Rule(
        "address_not_public",
        lambda result: result.transport == "private_address",
        FailureKind.TRANSIENT,
        "The provider's address is not public. Private addresses need the setting private_network and the stack's "
        "parameter AllowPrivateNetworks.",
    ),
    Rule(
        "unreachable",
        lambda result: result.transport == "unreachable",
        FailureKind.TRANSIENT,
        "The provider cannot be reached.",
    ),
    Rule(
        "no_complete_response",
        lambda result: result.transport == "unknown",
        FailureKind.TRANSIENT,
        "The provider did not answer in time or in full.",
        outcome_unknown=True,
    ),
    Rule(
        "unreadable_response",
        lambda result: result.transport == "unreadable",
        FailureKind.INVALID,
        "The provider's response is not HTTP/1.1, or has more than 256 headers or 64 KiB of them.",
        outcome_unknown=True,
    ),
    Rule(
        "redirected_elsewhere",
        _redirects_elsewhere,
        FailureKind.INVALID,
        "The provider redirects to somewhere else.",
    ),
    Rule(
        "authorization_unavailable",
        lambda result: _connect_error(result) in TRANSIENT_CONNECT_ERRORS,
        FailureKind.TRANSIENT,
        "The provider cannot authorise at the moment.",
    ),
    Rule(
        "authorization_refused",
        lambda result: _connect_error(result) is not None,
        FailureKind.REFUSED,
        "The provider refused to authorise.",
    ),
    Rule(
        "redirect_uri_not_allowed",
        _connect_without_code,
        FailureKind.REFUSED,
        "The provider gave no code. Is redirect_uri on the store's whitelist?",
    ),
    Rule(
        "rate_limited",
        _rate_limited,
        FailureKind.RATE_LIMITED,
        "The provider asks for fewer requests.",
        level=FailureLevel.ENDPOINT,
    ),
    Rule(
        "client_refused",
        lambda result: result.error in CLIENT_ERRORS,
        FailureKind.REFUSED,
        "The provider refused the credentials.",
    ),
    Rule(
        "scope_refused",
        lambda result: result.error in SCOPE_ERRORS,
        FailureKind.REFUSED,
        "The provider refused the scope.",
        level=FailureLevel.KEY,
    ),
    Rule(
        "request_refused",
        lambda result: result.error in REQUEST_ERRORS,
        FailureKind.REFUSED,
        "The provider does not accept this kind of request.",
    ),
    Rule(
        "consent_refused",
        lambda result: result.error == "invalid_grant" and result.step == "consent",
        FailureKind.CONSENT_REQUIRED,
        "The provider no longer accepts the consent. A person must consent again.",
    ),
    Rule(
        "code_or_refresh_token_refused",
        lambda result: result.error == "invalid_grant" and result.step in ("refresh", "code"),
        FailureKind.TRANSIENT,
        "The provider refused the refresh token or code.",
        restart=True,
    ),
    Rule(
        "grant_refused",
        lambda result: result.error == "invalid_grant",
        FailureKind.REFUSED,
        "The provider refused the grant.",
    ),
    Rule(
        "temporary_error",
        lambda result: result.error in TRANSIENT_ERRORS,
        FailureKind.TRANSIENT,
        "The provider reports a temporary error.",
    ),
    Rule(
        CREDENTIALS_DOUBTED,
        _credentials_doubted,
        FailureKind.TRANSIENT,
        "The provider refused credentials that worked before.",
    ),
    Rule(
        CREDENTIALS_REFUSED,
        lambda result: result.error == "failed" or result.status in (401, 403),
        FailureKind.REFUSED,
        "The provider refused the credentials.",
    ),
    Rule(
        "request_unknown",
        lambda result: 400 <= result.status < 500 and result.status not in (408, 425),
        FailureKind.REFUSED,
        "The provider does not know this request. Are URL and encoding right?",
    ),
    Rule(
        "server_failed",
        lambda result: result.status in (408, 425) or result.status >= 500,
        FailureKind.TRANSIENT,
        "The provider failed.",
    ),
    Rule(
        UNKNOWN_ERROR,
        lambda result: result.unusable is not None and result.error == "unrecognised" and not result.connecting,
        FailureKind.INVALID,
        "The provider reports an error that the broker does not know.",
    ),
    Rule(
        "unusable_response",
        lambda result: result.unusable is not None or not 200 <= result.status < 400,
        FailureKind.INVALID,
        "The provider's response is not a usable token: {reason}.",
    ),
)


def unusable_response(reason: str) -> ExchangeFailure:
    """The failure of a complete 2xx response that is not a usable token."""
    return RULES[-1].failure(ExchangeResult("token", 200, unusable=reason))


def consent_missing(reason: str, detail: str, provider_error: str | None) -> ExchangeFailure:
    """The failure where no refresh token of a consent may be sent."""
    return ExchangeFailure(
        f"consent_{reason}", FailureKind.CONSENT_REQUIRED, FailureLevel.CONNECTION, detail, provider_error
    )


def too_many_unresolved_logins() -> ExchangeFailure:
    """The failure of a login that is not sent, because earlier ones had no known outcome."""
    return ExchangeFailure(
        UNRESOLVED_LOGINS,
        FailureKind.REFUSED,
        FailureLevel.CONNECTION,
        "The outcome of earlier logins is unknown. More logins could lock the account.",
    )

"""Results of exchanges with a provider, and what each one means."""

from __future__ import annotations

from datetime import timedelta

from token_broker.core.failures import ExchangeFailure, FailureKind, FailureLevel
from token_broker.oauth.outcomes import ExchangeResult, classify

TRANSIENT = FailureKind.TRANSIENT.code
INVALID = FailureKind.INVALID.code
RATE_LIMITED = FailureKind.RATE_LIMITED.code
REFUSED = FailureKind.REFUSED.code
CONSENT_REQUIRED = FailureKind.CONSENT_REQUIRED.code
CONNECTION = FailureLevel.CONNECTION
KEY = FailureLevel.KEY
ENDPOINT = FailureLevel.ENDPOINT
UNUSABLE = "access_token is missing"

# The error code and the level of the cause, by failure rule.
MEANINGS: dict[str, tuple[str, FailureLevel]] = {
    "unreachable": (TRANSIENT, CONNECTION),
    "certificate_not_trusted": (TRANSIENT, CONNECTION),
    "address_not_public": (TRANSIENT, CONNECTION),
    "no_complete_response": (TRANSIENT, CONNECTION),
    "unreadable_response": (INVALID, CONNECTION),
    "redirected_elsewhere": (INVALID, CONNECTION),
    "authorization_unavailable": (TRANSIENT, CONNECTION),
    "authorization_refused": (REFUSED, CONNECTION),
    "redirect_uri_not_allowed": (REFUSED, CONNECTION),
    "rate_limited": (RATE_LIMITED, ENDPOINT),
    "client_refused": (REFUSED, CONNECTION),
    "scope_refused": (REFUSED, KEY),
    "request_refused": (REFUSED, CONNECTION),
    "consent_refused": (CONSENT_REQUIRED, CONNECTION),
    "code_or_refresh_token_refused": (TRANSIENT, CONNECTION),
    "grant_refused": (REFUSED, CONNECTION),
    "temporary_error": (TRANSIENT, CONNECTION),
    "credentials_doubted": (TRANSIENT, CONNECTION),
    "credentials_refused": (REFUSED, CONNECTION),
    "request_unknown": (REFUSED, CONNECTION),
    "server_failed": (TRANSIENT, CONNECTION),
    "unusable_response": (INVALID, CONNECTION),
    "unknown_error": (INVALID, CONNECTION),
}
# The failure rule, and the result that it applies to.
OUTCOMES: list[tuple[str, ExchangeResult]] = [
    ("unreachable", ExchangeResult("token", transport="unreachable")),
    ("unreachable", ExchangeResult("login", transport="unreachable", worked_before=True)),
    ("certificate_not_trusted", ExchangeResult("connect", transport="bad_certificate")),
    ("address_not_public", ExchangeResult("token", transport="private_address")),
    ("no_complete_response", ExchangeResult("refresh", transport="unknown")),
    ("no_complete_response", ExchangeResult("code", transport="unknown")),
    ("no_complete_response", ExchangeResult("login", transport="unknown")),
    ("unreadable_response", ExchangeResult("token", transport="unreadable")),
    ("redirected_elsewhere", ExchangeResult("token", 301)),
    ("redirected_elsewhere", ExchangeResult("login", 302)),
    ("redirected_elsewhere", ExchangeResult("refresh", 307)),
    ("redirected_elsewhere", ExchangeResult("code", 308, error="invalid_client")),
    ("redirected_elsewhere", ExchangeResult("connect", 302, wrong_redirect=True)),
    ("redirected_elsewhere", ExchangeResult("connect", 302, wrong_redirect=True, error="server_error")),
    ("authorization_unavailable", ExchangeResult("connect", 302, error="server_error")),
    ("authorization_unavailable", ExchangeResult("connect", 303, error="temporarily_unavailable")),
    ("authorization_refused", ExchangeResult("connect", 302, error="access_denied")),
    ("authorization_refused", ExchangeResult("connect", 302, error="invalid_scope")),
    ("authorization_refused", ExchangeResult("connect", 302, error="unrecognised")),
    ("redirect_uri_not_allowed", ExchangeResult("connect", 200)),
    ("redirect_uri_not_allowed", ExchangeResult("connect", 200, html=True, unusable="connect did not redirect")),
    ("redirect_uri_not_allowed", ExchangeResult("connect", 400, error="unrecognised")),
    ("redirect_uri_not_allowed", ExchangeResult("connect", 401)),
    ("redirect_uri_not_allowed", ExchangeResult("connect", 403, html=True, worked_before=True)),
    ("redirect_uri_not_allowed", ExchangeResult("connect", 404)),
    ("rate_limited", ExchangeResult("token", 429)),
    ("rate_limited", ExchangeResult("token", 429, error="invalid_client")),
    ("rate_limited", ExchangeResult("token", 429, html=True, worked_before=True)),
    ("rate_limited", ExchangeResult("connect", 429)),
    ("rate_limited", ExchangeResult("token", 429, retry_after=timedelta(seconds=7), has_retry_after=True)),
    ("rate_limited", ExchangeResult("login", 429, retry_after=timedelta(days=3), has_retry_after=True)),
    ("rate_limited", ExchangeResult("token", 503, retry_after=timedelta(seconds=90), has_retry_after=True)),
    ("rate_limited", ExchangeResult("token", 503, has_retry_after=True)),
    ("rate_limited", ExchangeResult("token", 429, retry_after=timedelta(seconds=0), has_retry_after=True)),
    ("rate_limited", ExchangeResult("token", 403, has_retry_after=True)),
    ("rate_limited", ExchangeResult("token", 403, error="invalid_client", has_retry_after=True)),
    ("rate_limited", ExchangeResult("connect", 403, html=True, has_retry_after=True)),
    ("client_refused", ExchangeResult("token", 401, error="invalid_client")),
    ("client_refused", ExchangeResult("token", 400, error="unauthorized_client")),
    ("client_refused", ExchangeResult("login", 200, error="invalid_credentials", unusable=UNUSABLE)),
    ("client_refused", ExchangeResult("token", 200, error="invalid_client")),
    ("client_refused", ExchangeResult("token", 500, error="invalid_client")),
    ("client_refused", ExchangeResult("refresh", 401, error="invalid_client", html=True, worked_before=True)),
    ("client_refused", ExchangeResult("connect", 400, error="unauthorized_client")),
    ("scope_refused", ExchangeResult("token", 400, error="invalid_scope")),
    ("scope_refused", ExchangeResult("token", 401, error="scope_invalid")),
    ("scope_refused", ExchangeResult("token", 200, error="invalid_target", unusable=UNUSABLE)),
    ("scope_refused", ExchangeResult("connect", 400, error="invalid_scope")),
    ("request_refused", ExchangeResult("token", 400, error="invalid_request")),
    ("request_refused", ExchangeResult("code", 401, error="unsupported_grant_type")),
    ("consent_refused", ExchangeResult("consent", 400, error="invalid_grant")),
    ("consent_refused", ExchangeResult("consent", 200, error="invalid_grant", unusable=UNUSABLE)),
    ("code_or_refresh_token_refused", ExchangeResult("refresh", 400, error="invalid_grant")),
    ("code_or_refresh_token_refused", ExchangeResult("code", 401, error="invalid_grant")),
    ("grant_refused", ExchangeResult("token", 400, error="invalid_grant")),
    ("grant_refused", ExchangeResult("login", 200, error="invalid_grant", unusable=UNUSABLE)),
    ("temporary_error", ExchangeResult("token", 400, error="server_error")),
    ("temporary_error", ExchangeResult("token", 401, error="temporarily_unavailable")),
    ("temporary_error", ExchangeResult("refresh", 400, error="invalid_token_reuse")),
    ("credentials_doubted", ExchangeResult("login", 200, error="failed", unusable=UNUSABLE, worked_before=True)),
    ("credentials_doubted", ExchangeResult("token", 401, html=True, worked_before=True)),
    ("credentials_doubted", ExchangeResult("token", 403, html=True, worked_before=True)),
    ("credentials_refused", ExchangeResult("login", 200, error="failed", unusable=UNUSABLE)),
    ("credentials_refused", ExchangeResult("token", 401)),
    ("credentials_refused", ExchangeResult("token", 401, worked_before=True)),
    ("credentials_refused", ExchangeResult("token", 403, html=True)),
    ("credentials_refused", ExchangeResult("token", 403, error="unrecognised")),
    ("request_unknown", ExchangeResult("token", 400)),
    ("request_unknown", ExchangeResult("token", 404, html=True, worked_before=True)),
    ("request_unknown", ExchangeResult("code", 415, error="unrecognised")),
    ("server_failed", ExchangeResult("token", 408)),
    ("server_failed", ExchangeResult("token", 425)),
    ("server_failed", ExchangeResult("connect", 408)),
    ("server_failed", ExchangeResult("token", 500)),
    ("server_failed", ExchangeResult("connect", 502, html=True)),
    ("server_failed", ExchangeResult("token", 503)),
    ("server_failed", ExchangeResult("code", 599, error="unrecognised")),
    ("unusable_response", ExchangeResult("token", 200, unusable=UNUSABLE)),
    ("unusable_response", ExchangeResult("refresh", 204, unusable="the response is not a JSON object")),
    ("unknown_error", ExchangeResult("token", 200, error="unrecognised", unusable=UNUSABLE)),
    ("unknown_error", ExchangeResult("login", 200, error="unrecognised", unusable=UNUSABLE)),
    ("unusable_response", ExchangeResult("connect", 302, unusable="the redirect carries no code")),
]


def failure_of(result: ExchangeResult) -> ExchangeFailure:
    failure = classify(result)
    assert failure is not None
    return failure

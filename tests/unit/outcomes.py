"""Results of exchanges with a provider, and what each one means."""

from __future__ import annotations

from datetime import timedelta

from token_broker.core.failures import ExchangeFailure, FailureKind, FailureLevel
from token_broker.oauth.outcomes import ExchangeResult, classify

TRANSIENT = FailureKind.TRANSIENT.code
INVALID = FailureKind.INVALID.code
RATE_LIMITED = FailureKind.RATE_LIMITED.code
REFUSED = FailureKind.REFUSED.code
CONNECTION = FailureLevel.CONNECTION
KEY = FailureLevel.KEY
ENDPOINT = FailureLevel.ENDPOINT
UNUSABLE = "access_token is missing"

# The failure rule, the result that it applies to, the error code, the level of the cause.
OUTCOMES: list[tuple[str, ExchangeResult, str, FailureLevel]] = [
    ("unreachable", ExchangeResult("token", transport="unreachable"), TRANSIENT, CONNECTION),
    ("unreachable", ExchangeResult("login", transport="unreachable", worked_before=True), TRANSIENT, CONNECTION),
    ("certificate_not_trusted", ExchangeResult("connect", transport="bad_certificate"), TRANSIENT, CONNECTION),
    ("address_not_public", ExchangeResult("token", transport="private_address"), TRANSIENT, CONNECTION),
    ("no_complete_response", ExchangeResult("refresh", transport="unknown"), TRANSIENT, CONNECTION),
    ("no_complete_response", ExchangeResult("code", transport="unknown"), TRANSIENT, CONNECTION),
    ("no_complete_response", ExchangeResult("login", transport="unknown"), TRANSIENT, CONNECTION),
    ("unreadable_response", ExchangeResult("token", transport="unreadable"), INVALID, CONNECTION),
    ("redirected_elsewhere", ExchangeResult("token", 301), INVALID, CONNECTION),
    ("redirected_elsewhere", ExchangeResult("login", 302), INVALID, CONNECTION),
    ("redirected_elsewhere", ExchangeResult("refresh", 307), INVALID, CONNECTION),
    ("redirected_elsewhere", ExchangeResult("code", 308, error="invalid_client"), INVALID, CONNECTION),
    ("redirected_elsewhere", ExchangeResult("connect", 302, wrong_redirect=True), INVALID, CONNECTION),
    (
        "redirected_elsewhere",
        ExchangeResult("connect", 302, wrong_redirect=True, error="server_error"),
        INVALID,
        CONNECTION,
    ),
    ("authorization_unavailable", ExchangeResult("connect", 302, error="server_error"), TRANSIENT, CONNECTION),
    (
        "authorization_unavailable",
        ExchangeResult("connect", 303, error="temporarily_unavailable"),
        TRANSIENT,
        CONNECTION,
    ),
    ("authorization_refused", ExchangeResult("connect", 302, error="access_denied"), REFUSED, CONNECTION),
    ("authorization_refused", ExchangeResult("connect", 302, error="invalid_scope"), REFUSED, CONNECTION),
    ("authorization_refused", ExchangeResult("connect", 302, error="unrecognised"), REFUSED, CONNECTION),
    ("redirect_uri_not_allowed", ExchangeResult("connect", 200), REFUSED, CONNECTION),
    (
        "redirect_uri_not_allowed",
        ExchangeResult("connect", 200, html=True, unusable="connect did not redirect"),
        REFUSED,
        CONNECTION,
    ),
    ("redirect_uri_not_allowed", ExchangeResult("connect", 400, error="unrecognised"), REFUSED, CONNECTION),
    ("redirect_uri_not_allowed", ExchangeResult("connect", 401), REFUSED, CONNECTION),
    ("redirect_uri_not_allowed", ExchangeResult("connect", 403, html=True, worked_before=True), REFUSED, CONNECTION),
    ("redirect_uri_not_allowed", ExchangeResult("connect", 404), REFUSED, CONNECTION),
    ("rate_limited", ExchangeResult("token", 429), RATE_LIMITED, ENDPOINT),
    ("rate_limited", ExchangeResult("token", 429, error="invalid_client"), RATE_LIMITED, ENDPOINT),
    ("rate_limited", ExchangeResult("token", 429, html=True, worked_before=True), RATE_LIMITED, ENDPOINT),
    ("rate_limited", ExchangeResult("connect", 429), RATE_LIMITED, ENDPOINT),
    ("rate_limited", ExchangeResult("token", 403, has_retry_after=True), RATE_LIMITED, ENDPOINT),
    (
        "rate_limited",
        ExchangeResult("token", 403, error="invalid_client", has_retry_after=True),
        RATE_LIMITED,
        ENDPOINT,
    ),
    ("rate_limited", ExchangeResult("connect", 403, html=True, has_retry_after=True), RATE_LIMITED, ENDPOINT),
    (
        "rate_limited",
        ExchangeResult("token", 429, retry_after=timedelta(seconds=7), has_retry_after=True),
        RATE_LIMITED,
        ENDPOINT,
    ),
    (
        "rate_limited",
        ExchangeResult("login", 429, retry_after=timedelta(days=3), has_retry_after=True),
        RATE_LIMITED,
        ENDPOINT,
    ),
    (
        "rate_limited",
        ExchangeResult("token", 503, retry_after=timedelta(seconds=90), has_retry_after=True),
        RATE_LIMITED,
        ENDPOINT,
    ),
    ("rate_limited", ExchangeResult("token", 503, has_retry_after=True), RATE_LIMITED, ENDPOINT),
    (
        "rate_limited",
        ExchangeResult("token", 429, retry_after=timedelta(seconds=0), has_retry_after=True),
        RATE_LIMITED,
        ENDPOINT,
    ),
    ("client_refused", ExchangeResult("token", 401, error="invalid_client"), REFUSED, CONNECTION),
    ("client_refused", ExchangeResult("token", 400, error="unauthorized_client"), REFUSED, CONNECTION),
    (
        "client_refused",
        ExchangeResult("login", 200, error="invalid_credentials", unusable=UNUSABLE),
        REFUSED,
        CONNECTION,
    ),
    ("client_refused", ExchangeResult("token", 200, error="invalid_client"), REFUSED, CONNECTION),
    ("client_refused", ExchangeResult("token", 500, error="invalid_client"), REFUSED, CONNECTION),
    (
        "client_refused",
        ExchangeResult("refresh", 401, error="invalid_client", html=True, worked_before=True),
        REFUSED,
        CONNECTION,
    ),
    ("client_refused", ExchangeResult("connect", 400, error="unauthorized_client"), REFUSED, CONNECTION),
    ("scope_refused", ExchangeResult("token", 400, error="invalid_scope"), REFUSED, KEY),
    ("scope_refused", ExchangeResult("token", 401, error="scope_invalid"), REFUSED, KEY),
    ("scope_refused", ExchangeResult("token", 200, error="invalid_target", unusable=UNUSABLE), REFUSED, KEY),
    ("scope_refused", ExchangeResult("connect", 400, error="invalid_scope"), REFUSED, KEY),
    ("request_refused", ExchangeResult("token", 400, error="invalid_request"), REFUSED, CONNECTION),
    ("request_refused", ExchangeResult("code", 401, error="unsupported_grant_type"), REFUSED, CONNECTION),
    ("code_or_refresh_token_refused", ExchangeResult("refresh", 400, error="invalid_grant"), TRANSIENT, CONNECTION),
    ("code_or_refresh_token_refused", ExchangeResult("code", 401, error="invalid_grant"), TRANSIENT, CONNECTION),
    ("grant_refused", ExchangeResult("token", 400, error="invalid_grant"), REFUSED, CONNECTION),
    ("grant_refused", ExchangeResult("login", 200, error="invalid_grant", unusable=UNUSABLE), REFUSED, CONNECTION),
    ("temporary_error", ExchangeResult("token", 400, error="server_error"), TRANSIENT, CONNECTION),
    ("temporary_error", ExchangeResult("token", 401, error="temporarily_unavailable"), TRANSIENT, CONNECTION),
    ("temporary_error", ExchangeResult("refresh", 400, error="invalid_token_reuse"), TRANSIENT, CONNECTION),
    (
        "credentials_doubted",
        ExchangeResult("login", 200, error="failed", unusable=UNUSABLE, worked_before=True),
        TRANSIENT,
        CONNECTION,
    ),
    ("credentials_doubted", ExchangeResult("token", 401, html=True, worked_before=True), TRANSIENT, CONNECTION),
    ("credentials_doubted", ExchangeResult("token", 403, html=True, worked_before=True), TRANSIENT, CONNECTION),
    ("credentials_refused", ExchangeResult("login", 200, error="failed", unusable=UNUSABLE), REFUSED, CONNECTION),
    ("credentials_refused", ExchangeResult("token", 401), REFUSED, CONNECTION),
    ("credentials_refused", ExchangeResult("token", 401, worked_before=True), REFUSED, CONNECTION),
    ("credentials_refused", ExchangeResult("token", 403, html=True), REFUSED, CONNECTION),
    ("credentials_refused", ExchangeResult("token", 403, error="unrecognised"), REFUSED, CONNECTION),
    ("request_unknown", ExchangeResult("token", 400), REFUSED, CONNECTION),
    ("request_unknown", ExchangeResult("token", 404, html=True, worked_before=True), REFUSED, CONNECTION),
    ("request_unknown", ExchangeResult("code", 415, error="unrecognised"), REFUSED, CONNECTION),
    ("server_failed", ExchangeResult("token", 408), TRANSIENT, CONNECTION),
    ("server_failed", ExchangeResult("token", 425), TRANSIENT, CONNECTION),
    ("server_failed", ExchangeResult("connect", 408), TRANSIENT, CONNECTION),
    ("server_failed", ExchangeResult("token", 500), TRANSIENT, CONNECTION),
    ("server_failed", ExchangeResult("connect", 502, html=True), TRANSIENT, CONNECTION),
    ("server_failed", ExchangeResult("token", 503), TRANSIENT, CONNECTION),
    ("server_failed", ExchangeResult("code", 599, error="unrecognised"), TRANSIENT, CONNECTION),
    ("unusable_response", ExchangeResult("token", 200, unusable=UNUSABLE), INVALID, CONNECTION),
    (
        "unusable_response",
        ExchangeResult("refresh", 204, unusable="the response is not a JSON object"),
        INVALID,
        CONNECTION,
    ),
    ("unknown_error", ExchangeResult("token", 200, error="unrecognised", unusable=UNUSABLE), INVALID, CONNECTION),
    ("unknown_error", ExchangeResult("login", 200, error="unrecognised", unusable=UNUSABLE), INVALID, CONNECTION),
    ("unusable_response", ExchangeResult("connect", 302, unusable="the redirect carries no code"), INVALID, CONNECTION),
]


def failure_of(result: ExchangeResult) -> ExchangeFailure:
    failure = classify(result)
    assert failure is not None
    return failure

"""Errors as problem+json (RFC 9457) with a stable code, and the resolver that uses them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response

from token_broker.errors import (
    AcquisitionInProgress,
    BrokerError,
    BrokerUnavailable,
    CallerNotAllowed,
    ConnectionMisconfigured,
    ConnectionSuspended,
    ConsentRequired,
    InvalidRequest,
    NewAccount,
    ProviderInvalidResponse,
    ProviderRateLimited,
    ProviderRefused,
    ProviderUnavailable,
    ScopeNotAllowed,
    TooManyRejections,
    TooManyScopeSets,
    TooManyTrials,
    UnknownConnection,
    UnknownConsent,
    UnknownProvider,
    VersionConflict,
    WouldConsumeGrant,
    WouldRevoke,
    WrongConsentState,
)
from token_broker.http.audit import write_audit
from token_broker.http.responses import NO_STORE, faults_body
from token_broker.observability import count, count_internal_error, logger, unexpected

OUR_FAULT_RETRY = timedelta(seconds=5)

STATUS: Mapping[type[BrokerError], int] = {
    InvalidRequest: 400,
    CallerNotAllowed: 403,
    ScopeNotAllowed: 403,
    UnknownProvider: 404,
    UnknownConnection: 404,
    UnknownConsent: 404,
    ConnectionSuspended: 409,
    ConnectionMisconfigured: 409,
    WouldRevoke: 409,
    WouldConsumeGrant: 409,
    ConsentRequired: 409,
    TooManyScopeSets: 409,
    WrongConsentState: 409,
    NewAccount: 409,
    VersionConflict: 412,
    TooManyRejections: 429,
    TooManyTrials: 429,
    ProviderRefused: 502,
    ProviderInvalidResponse: 502,
    ProviderUnavailable: 503,
    ProviderRateLimited: 503,
    AcquisitionInProgress: 503,
    BrokerUnavailable: 503,
}


def new_resolver() -> APIGatewayRestResolver:
    """A resolver whose every error is problem+json."""
    app = APIGatewayRestResolver()

    @app.exception_handler(BrokerError)  # type: ignore[untyped-decorator]  # Powertools does not type it
    def known_error(error: BrokerError) -> Response[str]:
        return error_response(app, error)

    @app.exception_handler(Exception)  # type: ignore[untyped-decorator]  # as above
    def unknown_error(error: Exception) -> Response[str]:
        logger.error("internal_error", extra=unexpected(error))
        write_audit(app, "request_failed", decision="internal_error")
        count_internal_error()
        return problem(500, "internal_error", "The broker failed", "The log has the cause under this request's id.")

    @app.not_found
    def no_route(_error: Exception) -> Response[str]:
        return error_response(app, InvalidRequest("There is no such route."))

    return app


def problem(
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    retry_after: timedelta | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Response[str]:
    """A response of RFC 9457 with our `code`. `retry_after` is rounded up to whole seconds, at least one."""
    body = {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail, **(extra or {})}
    headers = dict(NO_STORE)
    if retry_after is not None:
        headers["Retry-After"] = str(max(math.ceil(retry_after.total_seconds()), 1))
    return Response(status, "application/problem+json", json.dumps(body), headers=headers)


def error_response(app: APIGatewayRestResolver, error: BrokerError) -> Response[str]:
    """The response to an error, which is also counted and written to the audit."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    extra: dict[str, Any] = {}
    if error.errors:
        extra["errors"] = faults_body(error.errors)
    if error.provider_error is not None:
        extra["provider_error"] = error.provider_error
    write_audit(
        app,
        "request_failed",
        decision=error.code,
        detail=error.detail,
        provider_error=error.provider_error,
        service_code=getattr(error, "service_code", None),
    )
    count("RequestErrors", code=error.code)
    retry_after = error.retry_after or (OUR_FAULT_RETRY if isinstance(error, BrokerUnavailable) else None)
    if isinstance(error, (ProviderRefused, ConsentRequired)):
        # Waiting does not help: somebody must change the secret or the settings, or consent.
        retry_after = None
    return problem(status, error.code, error.title, error.detail, retry_after=retry_after, extra=extra)

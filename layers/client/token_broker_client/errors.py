"""Why there is no token, as exceptions. Each knows its stable code and nothing secret.

    TokenBrokerError
    ├── ClientNotConfigured     no URL, region or AWS credentials: nobody was asked
    ├── BrokerUnreachable       nobody answered in time
    └── BrokerRefused           the broker's problem document (RFC 9457), or API Gateway's
        ├── InvalidRequest · AccessDenied · CallerNotAllowed · ScopeNotAllowed
        ├── UnknownProvider · UnknownConnection
        ├── ConnectionSuspended · ConnectionMisconfigured · TooManyScopeSets
        ├── ProviderRefused · ProviderInvalidResponse
        ├── TryLater            waiting helps: it was tried again until the deadline
        │   ├── ProviderUnavailable · ProviderRateLimited · AcquisitionInProgress
        │   └── BrokerUnavailable · GatewayTimeout · Throttled · TooManyRejections
        └── InternalError

A code without a class of its own is a plain BrokerRefused (TryLater for 429, 503 and 504). What to do about each code:
the broker's README.
"""

from collections.abc import Mapping
from typing import Any


class TokenBrokerError(Exception):
    """Root of the tree: no token could be had."""


class ClientNotConfigured(TokenBrokerError, ValueError):
    """The broker's URL, the region or AWS credentials are missing, or the URL would carry tokens in the clear."""


class BrokerUnreachable(TokenBrokerError):
    """No answer: no connection, a broken one, or the deadline came first."""


class BrokerRefused(TokenBrokerError):
    """The broker gave no token. `code` is stable ("unknown" where something in between answered).

    `detail` says it in words, `retry_after` is in seconds where waiting helps, `problem` is the document whole, with
    `errors` (of single fields) and `provider_error` (the provider's own code) where the broker gave them.
    """

    def __init__(self, status: int, problem: Mapping[str, Any], retry_after: float | None = None) -> None:
        super().__init__(status, problem, retry_after)
        self.status = status
        self.problem = problem
        self.retry_after = retry_after
        self.code = str(problem.get("code", "unknown"))
        self.detail = str(problem.get("detail", ""))
        self.provider_error: str | None = problem.get("provider_error")

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.detail}"


class InvalidRequest(BrokerRefused):
    """A name, scope, min_ttl or token_id is not well-formed."""


class AccessDenied(BrokerRefused):
    """API Gateway: not signed, signed wrongly, or without execute-api:Invoke on the path."""


class CallerNotAllowed(BrokerRefused):
    """The connection's lists do not admit this caller; `detail` names it as seen."""


class ScopeNotAllowed(BrokerRefused):
    """The connection does not allow a scope that was asked for."""


class UnknownProvider(BrokerRefused):
    """There is no such provider."""


class UnknownConnection(BrokerRefused):
    """There is no such connection."""


class ConnectionSuspended(BrokerRefused):
    """Somebody switched the connection off."""


class ConnectionMisconfigured(BrokerRefused):
    """The connection's secret is missing or lacks a field."""


class TooManyScopeSets(BrokerRefused):
    """The connection holds as many different scope sets as it may."""


class ProviderRefused(BrokerRefused):
    """The provider said no for good: credentials, scope or client."""


class ProviderInvalidResponse(BrokerRefused):
    """The provider's answer holds no usable token."""


class InternalError(BrokerRefused):
    """The broker failed; its log has the cause."""


class TryLater(BrokerRefused):
    """Waiting helps, for `retry_after` seconds where that is known."""


class ProviderUnavailable(TryLater):
    """The provider is down or slow."""


class ProviderRateLimited(TryLater):
    """The provider wants fewer token requests."""


class AcquisitionInProgress(TryLater):
    """Another caller is fetching this token."""


class BrokerUnavailable(TryLater):
    """An AWS service that the broker needs fails."""


class GatewayTimeout(TryLater):
    """API Gateway gave up waiting."""


class Throttled(TryLater):
    """API Gateway's rate limit."""


class TooManyRejections(TryLater):
    """Tokens of this connection were reported as refused too often: is the API's 401 about permissions?"""


_CLASSES: Mapping[str, type[BrokerRefused]] = {
    "invalid_request": InvalidRequest,
    "access_denied": AccessDenied,
    "caller_not_allowed": CallerNotAllowed,
    "scope_not_allowed": ScopeNotAllowed,
    "unknown_provider": UnknownProvider,
    "unknown_connection": UnknownConnection,
    "connection_suspended": ConnectionSuspended,
    "connection_misconfigured": ConnectionMisconfigured,
    "too_many_scope_sets": TooManyScopeSets,
    "provider_refused": ProviderRefused,
    "provider_invalid_response": ProviderInvalidResponse,
    "internal_error": InternalError,
    "provider_unavailable": ProviderUnavailable,
    "provider_rate_limited": ProviderRateLimited,
    "acquisition_in_progress": AcquisitionInProgress,
    "broker_unavailable": BrokerUnavailable,
    "gateway_timeout": GatewayTimeout,
    "throttled": Throttled,
    "too_many_rejections": TooManyRejections,
}


def refusal(status: int, problem: Mapping[str, Any], retry_after: float | None = None) -> BrokerRefused:
    """The exception of a problem document, by its code; without a known one, by the status."""
    unknown = TryLater if status in (429, 503, 504) else BrokerRefused
    return _CLASSES.get(str(problem.get("code")), unknown)(status, problem, retry_after)

"""The client's errors. Each has a stable code and holds nothing secret.

    TokenBrokerError
    ├── ClientNotConfigured     no URL, region or AWS credentials, or none now: no request was sent
    ├── BrokerUnreachable       no response in time
    └── BrokerRefused           a problem document (RFC 9457) of the broker or of API Gateway
        ├── InvalidRequest · AccessDenied · CallerNotAllowed · ScopeNotAllowed
        ├── UnknownProvider · UnknownConnection
        ├── ConnectionSuspended · ConnectionMisconfigured · TooManyScopeSets
        ├── ProviderRefused · ConsentRequired · ProviderInvalidResponse
        ├── TryLater            waiting helps: the client retried until the deadline
        │   ├── ProviderUnavailable · ProviderRateLimited · AcquisitionInProgress
        │   └── BrokerUnavailable · GatewayTimeout · Throttled · TooManyRejections
        └── InternalError

A code without a class of its own is a plain BrokerRefused (TryLater for 429, 503 and 504). docs/errors.md says what to
do about each code.
"""

from collections.abc import Mapping
from typing import Any


class TokenBrokerError(Exception):
    """Root of the tree: there is no token."""


class ClientNotConfigured(TokenBrokerError, ValueError):
    """The broker's URL or the region is missing, the URL would send tokens unencrypted, or boto3 gives no credentials.

    The last covers every failure of boto3's credential chain, such as expired credentials that cannot be refreshed.
    """


class BrokerUnreachable(TokenBrokerError):
    """No response: no connection, a broken one, or the deadline has passed."""


class BrokerRefused(TokenBrokerError):
    """The broker returned an error. `code` is stable ("unknown" if the response is not the broker's).

    `detail` explains it. `retry_after`: seconds, set where waiting helps. `problem`: the whole document, with `errors`
    (faults of single fields) and `provider_error` (the provider's error code) where the broker sends them.
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
    """The connection's lists do not admit this caller. `detail` names it."""


class ScopeNotAllowed(BrokerRefused):
    """The connection does not allow a requested scope."""


class UnknownProvider(BrokerRefused):
    """There is no such provider."""


class UnknownConnection(BrokerRefused):
    """There is no such connection."""


class ConnectionSuspended(BrokerRefused):
    """The connection is suspended."""


class ConnectionMisconfigured(BrokerRefused):
    """The connection's secret is missing or lacks a field."""


class TooManyScopeSets(BrokerRefused):
    """The connection holds as many different scope sets as it may."""


class ProviderRefused(BrokerRefused):
    """The provider refused the credentials, the scope or the client for good."""


class ConsentRequired(BrokerRefused):
    """A person must consent (again) to the connection's use of their account."""


class ProviderInvalidResponse(BrokerRefused):
    """The provider's response is not a usable token."""


class InternalError(BrokerRefused):
    """The broker failed. Its log has the cause."""


class TryLater(BrokerRefused):
    """Waiting helps: `retry_after` seconds, if that is known."""


class ProviderUnavailable(TryLater):
    """The provider is down or slow."""


class ProviderRateLimited(TryLater):
    """The provider asks for fewer token requests."""


class AcquisitionInProgress(TryLater):
    """Another instance of the broker is requesting this token."""


class BrokerUnavailable(TryLater):
    """An AWS service that the broker needs is failing."""


class GatewayTimeout(TryLater):
    """API Gateway stopped waiting for the broker."""


class Throttled(TryLater):
    """API Gateway's rate limit is reached."""


class TooManyRejections(TryLater):
    """Tokens of this connection are reported as rejected too often. Does the API's 401 mean "no permission"?"""


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
    "consent_required": ConsentRequired,
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


def error_for_problem(status: int, problem: Mapping[str, Any], retry_after: float | None = None) -> BrokerRefused:
    """The error for a problem document: by its code, or by the status if the code is unknown."""
    unknown = TryLater if status in (429, 503, 504) else BrokerRefused
    return _CLASSES.get(str(problem.get("code")), unknown)(status, problem, retry_after)

"""Every way in which the broker says no. Each error knows its stable code and nothing secret.

    BrokerError
    ├── RequestError            the caller can mend it
    │   ├── InvalidRequest · CallerNotAllowed · ScopeNotAllowed
    │   ├── UnknownProvider · UnknownConnection
    │   ├── ConnectionSuspended · ConnectionMisconfigured · WouldRevoke · TooManyScopeSets
    │   ├── VersionConflict
    │   └── TooManyRejections · TooManyTrials
    ├── ProviderError           the provider's answer, or its silence
    │   ├── ProviderRefused · ProviderInvalidResponse
    │   └── ProviderUnavailable · ProviderRateLimited
    ├── AcquisitionInProgress   somebody else is asking the provider, for longer than we wait
    └── BrokerUnavailable       our own DynamoDB, KMS, Secrets Manager or SQS

The HTTP status of each stands in one table at the edge (`token_broker.rest`). An error's text is shown to callers: it
names connections, fields and codes, never a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of one field of an input: `{"field": "scope", "reason": "is empty"}`."""

    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


class BrokerError(Exception):
    """Root of the tree. `retry_after` is set where waiting helps; `errors` where single fields are at fault."""

    code: ClassVar[str]
    title: ClassVar[str]

    def __init__(
        self,
        detail: str,
        *,
        retry_after: timedelta | None = None,
        errors: Sequence[FieldError] = (),
        provider_error: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        self.errors = tuple(errors)
        self.provider_error = provider_error


class RequestError(BrokerError):
    """What the caller asked for cannot be given; asking the same again gets the same answer."""


class InvalidRequest(RequestError):
    """The input is not well-formed. `errors` names every fault, not only the first."""

    code = "invalid_request"
    title = "The request is not well-formed"


class CallerNotAllowed(RequestError):
    """The connection's lists do not admit this caller."""

    code = "caller_not_allowed"
    title = "This caller may not use the connection"


class ScopeNotAllowed(RequestError):
    """A scope outside the connection's `allowed_scopes`."""

    code = "scope_not_allowed"
    title = "The connection does not allow this scope"


class UnknownProvider(RequestError):
    """No catalogue file has this name."""

    code = "unknown_provider"
    title = "Unknown provider"


class UnknownConnection(RequestError):
    """No settings are stored under this name."""

    code = "unknown_connection"
    title = "Unknown connection"


class ConnectionSuspended(RequestError):
    """Somebody switched the connection off in its settings."""

    code = "connection_suspended"
    title = "The connection is suspended"


class ConnectionMisconfigured(RequestError):
    """The secret is missing, no JSON object, or lacks a field; or the stored settings do not hold together."""

    code = "connection_misconfigured"
    title = "The connection is not complete"


class WouldRevoke(RequestError):
    """A trial would end the live token of a server whose every issue revokes the token before."""

    code = "would_revoke"
    title = "This would revoke the live token"


class TooManyScopeSets(RequestError):
    """The connection already holds as many different scope sets as it may."""

    code = "too_many_scope_sets"
    title = "Too many different scope sets on the connection"


class VersionConflict(RequestError):
    """`If-Match` or `If-None-Match` does not hold: somebody else changed the settings."""

    code = "version_conflict"
    title = "The settings have another version"


class TooManyRejections(RequestError):
    """Tokens of this key were reported as refused faster than a new one may be asked for."""

    code = "too_many_rejections"
    title = "Too many reports of refused tokens"


class TooManyTrials(RequestError):
    """A connection's credentials can be tried once in five minutes."""

    code = "too_many_trials"
    title = "Too many trials"


class ProviderError(BrokerError):
    """The token endpoint did not give a token. `in_a_row`: how often by now, 0 where it was not even asked."""

    def __init__(
        self,
        detail: str,
        *,
        retry_after: timedelta | None = None,
        provider_error: str | None = None,
        in_a_row: int = 0,
    ) -> None:
        super().__init__(detail, retry_after=retry_after, provider_error=provider_error)
        self.in_a_row = in_a_row


class ProviderRefused(ProviderError):
    """The provider said no for good: credentials, scope or client. Repeating it could lock the account."""

    code = "provider_refused"
    title = "The provider refused"


class ProviderInvalidResponse(ProviderError):
    """The provider's answer is no usable token."""

    code = "provider_invalid_response"
    title = "The provider's answer is no usable token"


class ProviderUnavailable(ProviderError):
    """The provider could not be reached, timed out, or failed on its side."""

    code = "provider_unavailable"
    title = "The provider is not available"


class ProviderRateLimited(ProviderError):
    """The provider's limit, or our own budget of half of it, is used up for now."""

    code = "provider_rate_limited"
    title = "The provider's request limit is reached"


class AcquisitionInProgress(BrokerError):
    """Another instance is asking the provider for this token and had no answer while we could wait."""

    code = "acquisition_in_progress"
    title = "The token is being acquired"


class BrokerUnavailable(BrokerError):
    """One of our own services fails. The log has the cause."""

    code = "broker_unavailable"
    title = "The broker is not available"


PROVIDER_ERRORS: dict[str, type[ProviderError]] = {
    error.code: error for error in (ProviderRefused, ProviderInvalidResponse, ProviderUnavailable, ProviderRateLimited)
}

"""All errors of the broker. Each has a stable code and holds nothing secret.

    BrokerError
    ├── RequestError            no provider was asked
    │   ├── InvalidRequest · CallerNotAllowed · ScopeNotAllowed
    │   ├── UnknownProvider · UnknownConnection
    │   ├── ConnectionSuspended · ConnectionMisconfigured · WouldRevoke
    │   ├── WouldConsumeGrant · TooManyScopeSets
    │   ├── UnknownConsent · WrongConsentState · NewAccount
    │   ├── VersionConflict
    │   └── TooManyRejections · TooManyTrials
    ├── ProviderError           the provider gave no usable token
    │   ├── ProviderRefused · ConsentRequired · ProviderInvalidResponse
    │   └── ProviderUnavailable · ProviderRateLimited
    ├── AcquisitionInProgress   no token within this request's time
    └── BrokerUnavailable       our own DynamoDB, KMS, Secrets Manager or SQS

The HTTP status of each is in one table in `token_broker.http.problems`. Callers see an error's text. It names
connections, fields and codes, never a value.
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
    """Root of the tree. `retry_after`: set where waiting helps. `errors`: the faults of single fields."""

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
    """No provider was asked. The caller or the connection's owner must act, or wait."""


class InvalidRequest(RequestError):
    """The input is not well-formed. `errors` names every fault."""

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
    """No connection has this name."""

    code = "unknown_connection"
    title = "Unknown connection"


class ConnectionSuspended(RequestError):
    """The settings suspend the connection."""

    code = "connection_suspended"
    title = "The connection is suspended"


class ConnectionMisconfigured(RequestError):
    """The secret is missing, is not a JSON object or lacks a field; or the stored settings are not valid."""

    code = "connection_misconfigured"
    title = "The connection is misconfigured"
    # Set on the error of a missing secret.
    secret_missing = False


class WouldRevoke(RequestError):
    """A trial would revoke the live token, because the provider revokes a token when it issues the next."""

    code = "would_revoke"
    title = "This would revoke the live token"


class WouldConsumeGrant(RequestError):
    """A trial of pending credentials would send the refresh token of the person's consent, which may work only once."""

    code = "would_consume_grant"
    title = "This would use up the consent's refresh token"


class TooManyScopeSets(RequestError):
    """The connection already holds as many different scope sets as it may."""

    code = "too_many_scope_sets"
    title = "Too many different scope sets on the connection"


class UnknownConsent(RequestError):
    """The connection has no consent session of this id, or it was deleted after its time."""

    code = "unknown_consent"
    title = "Unknown consent session"


class WrongConsentState(RequestError):
    """The consent session is in another state than this needs: expired, failed, or done already."""

    code = "wrong_consent_state"
    title = "The consent session is in another state"


class NewAccount(RequestError):
    """The new consent is, or may be, of another account than the connection's. Its confirmation has its own route."""

    code = "new_account"
    title = "The consent may be of another account"


class VersionConflict(RequestError):
    """`If-Match` or `If-None-Match` does not hold: somebody else changed the settings."""

    code = "version_conflict"
    title = "The settings have another version"


class TooManyRejections(RequestError):
    """Tokens of this key are reported as rejected faster than new ones may be requested."""

    code = "too_many_rejections"
    title = "Too many reports of rejected tokens"


class TooManyTrials(RequestError):
    """A connection can have five trials in 15 min, and one in 5 min with the same version of its secret."""

    code = "too_many_trials"
    title = "Too many trials"


class ProviderError(BrokerError):
    """The token endpoint gave no token. `consecutive_failures`: how often in a row; 0 if it was not asked."""

    def __init__(
        self,
        detail: str,
        *,
        retry_after: timedelta | None = None,
        provider_error: str | None = None,
        consecutive_failures: int = 0,
    ) -> None:
        super().__init__(detail, retry_after=retry_after, provider_error=provider_error)
        self.consecutive_failures = consecutive_failures


class ProviderRefused(ProviderError):
    """The provider refused credentials, scope or client. Repeating the request could lock the account."""

    code = "provider_refused"
    title = "The provider refused the credentials, the scope or the client"


class ConsentRequired(ProviderError):
    """A person must consent (again): there is no refresh token that may be sent."""

    code = "consent_required"
    title = "A person must consent"


class ProviderInvalidResponse(ProviderError):
    """The provider's response is not a usable token."""

    code = "provider_invalid_response"
    title = "The provider's response is not a usable token"


class ProviderUnavailable(ProviderError):
    """The provider could not be reached, timed out or failed."""

    code = "provider_unavailable"
    title = "The provider is not available"


class ProviderRateLimited(ProviderError):
    """The provider's limit, or the half of it that the broker uses, is reached; or the broker protects the account."""

    code = "provider_rate_limited"
    title = "The provider may not be asked now"


class AcquisitionInProgress(BrokerError):
    """The token could not be acquired within this request's time. Usually another instance is asking the provider."""

    code = "acquisition_in_progress"
    title = "The token could not be acquired within this request's time"


class BrokerUnavailable(BrokerError):
    """DynamoDB, KMS, Secrets Manager or SQS failed. The log has the cause."""

    remembered = False  # whether the token key's record holds this failure and its cooldown

    code = "broker_unavailable"
    title = "The broker is not available"


PROVIDER_ERRORS: dict[str, type[ProviderError]] = {
    error.code: error
    for error in (
        ProviderRefused,
        ConsentRequired,
        ProviderInvalidResponse,
        ProviderUnavailable,
        ProviderRateLimited,
    )
}

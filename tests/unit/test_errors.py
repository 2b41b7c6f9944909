"""The tree of errors and the one table from class to status."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from token_broker.core.failures import FailureKind
from token_broker.errors import (
    PROVIDER_ERRORS,
    BrokerError,
    BrokerUnavailable,
    FieldError,
    InvalidRequest,
    ProviderError,
)
from token_broker.http import problems

# Code and status of every error response that the broker makes itself.
CODES = {
    "invalid_request": 400,
    "caller_not_allowed": 403,
    "scope_not_allowed": 403,
    "unknown_provider": 404,
    "unknown_connection": 404,
    "connection_suspended": 409,
    "connection_misconfigured": 409,
    "would_revoke": 409,
    "too_many_scope_sets": 409,
    "would_consume_grant": 409,
    "consent_required": 409,
    "unknown_consent": 404,
    "wrong_consent_state": 409,
    "new_account": 409,
    "version_conflict": 412,
    "too_many_rejections": 429,
    "too_many_trials": 429,
    "provider_refused": 502,
    "provider_invalid_response": 502,
    "provider_unavailable": 503,
    "provider_rate_limited": 503,
    "acquisition_in_progress": 503,
    "broker_unavailable": 503,
}


def leaves(kind: type[BrokerError] = BrokerError) -> Iterator[type[BrokerError]]:
    """The errors that are raised: the classes of the tree without a subclass."""
    below = [sub for sub in kind.__subclasses__() if sub.__module__ == "token_broker.errors"]
    if not below:
        yield kind
    for sub in below:
        yield from leaves(sub)


def test_every_leaf_has_the_status_of_its_code() -> None:
    assert {kind.code: problems.STATUS[kind] for kind in leaves()} == CODES


def test_codes_and_titles_are_unique() -> None:
    kinds = list(leaves())
    assert len({kind.code for kind in kinds}) == len({kind.title for kind in kinds}) == len(kinds)


def test_the_table_holds_only_leaves() -> None:
    assert set(problems.STATUS) == set(leaves())


@pytest.mark.parametrize("kind", list(leaves()), ids=lambda kind: kind.__name__)
def test_every_leaf_says_when_it_is_raised(kind: type[BrokerError]) -> None:
    assert kind.__doc__
    assert kind.title[0].isupper()


def test_every_failure_kind_of_a_provider_has_its_error() -> None:
    assert set(PROVIDER_ERRORS) == {kind.code for kind in FailureKind} - {BrokerUnavailable.code}
    assert all(issubclass(error, ProviderError) for error in PROVIDER_ERRORS.values())
    assert all(error.code == code for code, error in PROVIDER_ERRORS.items())


def test_an_error_shows_its_detail_and_nothing_else() -> None:
    error = InvalidRequest("It is not.", retry_after=timedelta(seconds=2), errors=[FieldError("scope", "is empty")])
    assert str(error) == error.detail == "It is not."
    assert (error.errors, error.provider_error) == ((FieldError("scope", "is empty"),), None)
    assert str(error.errors[0]) == "scope: is empty"

"""Consent sessions: what each change and the time make of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_broker.core.consent_sessions import (
    OUTCOME_UNKNOWN,
    QUARANTINE,
    TIME_TO_APPROVE,
    TIME_TO_EXCHANGE,
    ConsentSession,
    SessionFailure,
    SessionState,
    needs_new_account,
)
from token_broker.core.consents import Consent, ConsentToken
from token_broker.core.names import ConnectionName

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NAME = ConnectionName("xero", "main")
TOKEN = ConsentToken("r" * 16, b"sealed refresh token")
MINUTE = timedelta(minutes=1)
PENDING = ConsentSession(
    "0" * 64,
    NAME,
    "arn:aws:sts::123456789012:assumed-role/ops/ann",
    "digest",
    "https://id.example/token",
    "client",
    "offline",
    NOW + TIME_TO_APPROVE,
    redirect_uri="https://shop.example/cb",
    sealed_verifier=b"sealed verifier",
)
DEVICE = replace(PENDING, redirect_uri="", poll_interval=timedelta(seconds=5), sealed_code=b"sealed device code")
RECEIVED = PENDING.code_received("c" * 16, b"sealed code", {"realmId": "1"}, NOW)
EXCHANGING = RECEIVED.exchange_begun(NOW)
QUARANTINED = EXCHANGING.granted(TOKEN, scope="offline", account="a-1", now=NOW)
CONFIRMED = QUARANTINED.confirmed()
FAILED = EXCHANGING.failed(SessionFailure("provider_refused", "invalid_grant"))


@pytest.mark.parametrize(
    ("session", "after", "state"),
    [
        (PENDING, TIME_TO_APPROVE - MINUTE, "pending"),
        (PENDING, TIME_TO_APPROVE, "expired"),
        (DEVICE, TIME_TO_APPROVE, "expired"),
        (RECEIVED, TIME_TO_APPROVE - MINUTE, "code_received"),
        (RECEIVED, TIME_TO_APPROVE, "expired"),
        (EXCHANGING, TIME_TO_EXCHANGE - timedelta(seconds=1), "exchanging"),
        (EXCHANGING, TIME_TO_EXCHANGE, "failed"),
        (EXCHANGING, TIME_TO_APPROVE, "failed"),
        (EXCHANGING.not_sent(), TIME_TO_EXCHANGE, "code_received"),
        (QUARANTINED, QUARANTINE - MINUTE, "quarantined"),
        (QUARANTINED, QUARANTINE, "expired"),
        (CONFIRMED, QUARANTINE, "confirmed"),
        (FAILED, QUARANTINE, "failed"),
    ],
)
def test_time_alone_changes_the_state(session: ConsentSession, after: timedelta, state: str) -> None:
    assert session.state_at(NOW + after) == state
    assert session.delete_at > NOW + after


def test_an_exchange_that_nobody_finished_has_an_unknown_outcome() -> None:
    assert EXCHANGING.failure_at(NOW) is None
    assert EXCHANGING.failure_at(NOW + TIME_TO_EXCHANGE) == SessionFailure(OUTCOME_UNKNOWN)
    assert FAILED.failure_at(NOW) == SessionFailure("provider_refused", "invalid_grant")


@pytest.mark.parametrize(
    ("session", "code_id", "accepted", "handed"),
    [
        (PENDING, "c" * 16, True, False),
        (RECEIVED, "c" * 16, True, False),
        (RECEIVED, "d" * 16, False, False),
        (EXCHANGING, "c" * 16, False, True),
        (EXCHANGING, "d" * 16, False, False),
        (QUARANTINED, "c" * 16, False, True),
        (CONFIRMED, "c" * 16, False, True),
        (CONFIRMED, None, False, False),
        (FAILED, "c" * 16, False, False),
        (DEVICE, "c" * 16, False, False),
        (DEVICE.granted(TOKEN, scope=None, account=None, now=NOW), None, False, False),
    ],
)
def test_one_code_is_accepted_and_only_until_it_is_sent(
    session: ConsentSession, code_id: str | None, accepted: bool, handed: bool
) -> None:
    assert session.accepts_code(code_id, NOW) is accepted
    assert session.was_handed(code_id, NOW) is handed
    assert not session.accepts_code(code_id, NOW + TIME_TO_APPROVE)


def test_the_granted_scope_replaces_the_requested_one_if_the_provider_says_it() -> None:
    assert QUARANTINED.scope == "offline"
    assert EXCHANGING.granted(TOKEN, scope="read", account=None, now=NOW).scope == "read"
    assert EXCHANGING.granted(TOKEN, scope=None, account=None, now=NOW).scope == "offline"


def test_a_device_is_polled_by_one_at_a_time_and_less_often_if_the_provider_asks_for_it() -> None:
    polling = DEVICE.poll_begun(NOW)
    assert polling.is_exchanging(NOW)
    assert polling.state_at(NOW) is SessionState.PENDING
    assert not polling.is_exchanging(NOW + TIME_TO_EXCHANGE)
    assert polling.polled() == DEVICE
    assert polling.polled(slow_down=True).poll_interval == timedelta(seconds=10)


CHANGES: list[Callable[[ConsentSession], ConsentSession]] = [
    lambda session: session.code_received("c" * 16, b"sealed code", {}, NOW),
    lambda session: session.exchange_begun(NOW),
    lambda session: session.not_sent(),
    lambda session: session.poll_begun(NOW),
    lambda session: session.polled(slow_down=True),
    lambda session: session.granted(TOKEN, scope=None, account="a-1", now=NOW),
    lambda session: session.confirmed(),
    lambda session: session.failed(SessionFailure(OUTCOME_UNKNOWN)),
]


@given(st.sampled_from([PENDING, DEVICE]), st.lists(st.sampled_from(CHANGES), max_size=8))
def test_no_change_touches_what_a_session_was_begun_with(
    session: ConsentSession, changes: list[Callable[[ConsentSession], ConsentSession]]
) -> None:
    begun = session
    for change in changes:
        session = change(session)
    fixed = ("consent_id", "name", "initiator", "settings_digest", "issuer", "client_id", "generation", "redirect_uri")
    for name in fixed:
        assert getattr(session, name) == getattr(begun, name)


@pytest.mark.parametrize(
    ("pinned", "account", "needed"),
    [("a-1", "a-1", False), ("a-1", "a-2", True), ("a-1", None, True), (None, "a-1", True), (None, None, True)],
)
def test_another_account_or_an_unknown_one_needs_its_own_permission(
    pinned: str | None, account: str | None, needed: bool
) -> None:
    assert not needs_new_account(Consent(NAME), account)
    begun = Consent(NAME).begun(
        TOKEN, issuer="https://id.example/token", client_id="client", seed_id=None, now=NOW, account=pinned
    )
    assert needs_new_account(begun, account) is needed
    assert not needs_new_account(begun.dropped(), account)


@pytest.mark.parametrize("session", [QUARANTINED, CONFIRMED, FAILED, QUARANTINED.failed(SessionFailure("x"))])
def test_a_session_holds_no_secret_longer_than_it_is_needed(session: ConsentSession) -> None:
    assert (session.sealed_verifier, session.sealed_code) == (None, None)
    assert session.token == (TOKEN if session.state is SessionState.QUARANTINED else None)

"""Consent sessions: the one conditional write, and the redirect that comes without a signature."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from tests.component.store_contracts.stores import NOW, Stores, after, new_key
from token_broker.core.consent_sessions import (
    TIME_TO_APPROVE,
    ConsentSession,
    SessionFailure,
    SessionState,
    consent_id_of,
)
from token_broker.core.consents import ConsentToken
from token_broker.ports import CodeReceipt

ISSUER = "https://login.example.com"
REFUSED = SessionFailure("provider_refused", "access_denied")


def a_session() -> ConsentSession:
    """A session that waits for its redirect."""
    return ConsentSession(
        consent_id_of(uuid4().hex),
        new_key().name,
        "arn:aws:sts::123456789012:assumed-role/ops/ann",
        "digest",
        "https://id.example/token",
        "client",
        "offline",
        NOW + TIME_TO_APPROVE,
        redirect_uri="https://shop.example/cb",
        expected_iss=ISSUER,
        sealed_verifier=b"sealed verifier",
        revision=uuid4().hex,
    )


def stored(stores: Stores, **changes: object) -> ConsentSession:
    session = replace(a_session(), **changes)  # type: ignore[arg-type]  # of any field
    assert stores.consent_sessions.save(None, session)
    return session


def a_receipt(session: ConsentSession, **changes: object) -> CodeReceipt:
    receipt = CodeReceipt(
        session.consent_id,
        session.name.provider,
        None,
        code_id="c" * 16,
        sealed_code=b"sealed code",
        kept={"realmId": "1"},
        revision=uuid4().hex,
    )
    return replace(receipt, **changes)  # type: ignore[arg-type]  # of any field


class ConsentSessionStoreContract:
    """ConsentSessionStore."""

    def test_there_is_no_session_that_nobody_began(self, stores: Stores) -> None:
        assert stores.consent_sessions.read(consent_id_of(uuid4().hex)) is None

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"poll_interval": timedelta(seconds=5), "sealed_code": b"device code", "sealed_verifier": None},
            {"state": SessionState.CODE_RECEIVED, "code_id": "c" * 16, "sealed_code": b"code", "kept": {"shop": "s"}},
            {"state": SessionState.EXCHANGING, "exchange_until": after(40)},
            {"state": SessionState.QUARANTINED, "token": ConsentToken("r" * 16, b"token", after(9)), "account": "a"},
            {"state": SessionState.FAILED, "failure": REFUSED},
            {"state": SessionState.FAILED, "failure": SessionFailure("outcome_unknown")},
            {"state": SessionState.CONFIRMED, "scope": "", "generation": 3},
        ],
    )
    def test_every_field_of_a_session_comes_back(self, stores: Stores, changes: dict[str, object]) -> None:
        session = stored(stores, **changes)
        assert stores.consent_sessions.read(session.consent_id) == session

    def test_of_two_that_read_the_same_session_one_saves(self, stores: Stores) -> None:
        first = stored(stores)
        winner = replace(first.exchange_begun(NOW), revision=uuid4().hex)
        assert stores.consent_sessions.save(first, winner)
        assert stores.consent_sessions.save(first, winner)  # a repeat
        assert not stores.consent_sessions.save(first, replace(first, revision=uuid4().hex))
        assert not stores.consent_sessions.save(None, replace(first, revision=uuid4().hex))
        assert stores.consent_sessions.read(first.consent_id) == winner

    def test_what_a_change_drops_is_gone(self, stores: Stores) -> None:
        first = stored(stores)
        failed = replace(first.failed(REFUSED), revision=uuid4().hex)
        assert stores.consent_sessions.save(first, failed)
        assert stores.consent_sessions.read(first.consent_id) == failed

    @pytest.mark.parametrize("iss", [None, ISSUER, f"{ISSUER}/realms/a", "https://LOGIN.example.com"])
    def test_a_redirect_with_a_code_is_received(self, stores: Stores, iss: str | None) -> None:
        session = stored(stores)
        receipt = a_receipt(session, iss=iss)
        assert stores.consent_sessions.receive(receipt, after(1))
        expected = session.code_received("c" * 16, b"sealed code", {"realmId": "1"}, after(1))
        assert stores.consent_sessions.read(session.consent_id) == replace(expected, revision=receipt.revision)

    def test_the_same_code_is_received_again_and_another_one_is_not(self, stores: Stores) -> None:
        session = stored(stores)
        assert stores.consent_sessions.receive(a_receipt(session), after(1))
        again = a_receipt(session, sealed_code=b"sealed again")
        assert stores.consent_sessions.receive(again, after(2))
        assert not stores.consent_sessions.receive(a_receipt(session, code_id="d" * 16), after(3))
        found = stores.consent_sessions.read(session.consent_id)
        assert found is not None
        assert (found.sealed_code, found.revision) == (b"sealed again", again.revision)

    def test_a_redirect_with_an_error_ends_the_session(self, stores: Stores) -> None:
        session = stored(stores)
        receipt = a_receipt(session, code_id=None, sealed_code=None, kept={}, failure=REFUSED)
        assert stores.consent_sessions.receive(receipt, after(1))
        expected = replace(session.failed(REFUSED), revision=receipt.revision)
        assert stores.consent_sessions.read(session.consent_id) == expected
        assert not stores.consent_sessions.receive(a_receipt(session), after(2))

    @pytest.mark.parametrize(
        ("session_changes", "receipt_changes", "at"),
        [
            ({}, {"consent_id": consent_id_of("nobody began it")}, after(1)),
            ({}, {"provider": "another"}, after(1)),
            ({}, {"iss": "https://evil.example"}, after(1)),
            ({}, {"iss": ""}, after(1)),
            ({}, {"iss": "https://["}, after(1)),
            ({"expected_iss": f"{ISSUER}/realms/a"}, {"iss": f"{ISSUER}/realms/b"}, after(1)),
            ({"expected_iss": ""}, {"iss": ""}, after(1)),
            ({}, {}, NOW + TIME_TO_APPROVE),
            ({"poll_interval": timedelta(seconds=5)}, {}, after(1)),
            ({"state": SessionState.EXCHANGING, "code_id": "c" * 16, "exchange_until": after(40)}, {}, after(1)),
            ({"state": SessionState.QUARANTINED, "code_id": "c" * 16}, {}, after(1)),
            ({"state": SessionState.CONFIRMED, "code_id": "c" * 16}, {}, after(1)),
            ({"state": SessionState.FAILED, "failure": REFUSED}, {}, after(1)),
            (
                {"state": SessionState.CODE_RECEIVED, "code_id": "c" * 16},
                {"failure": REFUSED, "code_id": None, "sealed_code": None},
                after(1),
            ),
        ],
    )
    def test_any_other_redirect_changes_and_creates_nothing(
        self,
        stores: Stores,
        session_changes: dict[str, object],
        receipt_changes: dict[str, object],
        at: datetime,
    ) -> None:
        session = stored(stores, **session_changes)
        receipt = a_receipt(session, **receipt_changes)
        assert not stores.consent_sessions.receive(receipt, at)
        assert stores.consent_sessions.read(session.consent_id) == session
        if receipt.consent_id != session.consent_id:
            assert stores.consent_sessions.read(receipt.consent_id) is None

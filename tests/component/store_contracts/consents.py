"""Consents, the one conditional write, and which consents are due."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import uuid4

from tests.component.store_contracts.stores import NOW, Stores, a_consent, after, new_key
from token_broker.core.consents import Consent
from token_broker.core.names import ConnectionName
from token_broker.ports import DueConsent


def new_name() -> ConnectionName:
    return new_key().name


def stored(stores: Stores, name: ConnectionName, due_at: datetime | None = None) -> Consent:
    """A saved consent."""
    consent = replace(a_consent(name), due_at=due_at)
    assert stores.consents.save(Consent(name), consent) is None
    return consent


def due_of(stores: Stores, name: ConnectionName, until: datetime) -> list[DueConsent]:
    return [due for due in stores.consents.due(until=until) if due.name == name]


class ConsentStoreContract:
    """ConsentStore."""

    def test_a_connection_without_an_item_has_an_empty_consent(self, stores: Stores) -> None:
        name = new_name()
        assert stores.consents.read(name) == Consent(name)

    def test_every_field_of_a_consent_comes_back(self, stores: Stores) -> None:
        name = new_name()
        consent = stored(stores, name, due_at=after(100))
        assert stores.consents.read(name) == consent

    def test_a_removed_field_of_a_consent_is_gone(self, stores: Stores) -> None:
        name = new_name()
        consent = stored(stores, name, due_at=after(100))
        dropped = replace(consent.dropped(), seed_id=None, past_seeds=(), revision=uuid4().hex)
        assert stores.consents.save(consent, dropped) is None
        assert stores.consents.read(name) == dropped
        assert due_of(stores, name, after(1000)) == []

    def test_of_two_that_read_the_same_consent_one_saves(self, stores: Stores) -> None:
        name = new_name()
        first = stored(stores, name)
        winner = replace(first, sent_at=after(1), revision=uuid4().hex)
        assert stores.consents.save(first, winner) is None
        assert stores.consents.save(first, replace(first, sent_at=after(2), revision=uuid4().hex)) == winner
        assert stores.consents.save(Consent(name), replace(first, revision=uuid4().hex)) == winner
        assert stores.consents.read(name) == winner

    def test_a_repeat_of_a_consent_s_write_succeeds(self, stores: Stores) -> None:
        name = new_name()
        consent = stored(stores, name)
        assert stores.consents.save(Consent(name), consent) is None

    def test_a_consent_is_due_from_its_time_on(self, stores: Stores) -> None:
        name = new_name()
        stored(stores, name, due_at=after(100))
        assert due_of(stores, name, after(99)) == []
        assert due_of(stores, name, after(100)) == [DueConsent(name, after(100))]

    def test_of_two_that_claim_a_consent_one_gets_it(self, stores: Stores) -> None:
        name = new_name()
        stored(stores, name, due_at=after(100))
        due = DueConsent(name, after(100))
        assert stores.consents.claim(due, until=after(200))
        assert not stores.consents.claim(due, until=after(300))
        assert due_of(stores, name, after(1000)) == [DueConsent(name, after(200))]

    def test_a_claim_stays_if_a_save_does_not_change_the_due_time_of_a_consent(self, stores: Stores) -> None:
        name = new_name()
        consent = stored(stores, name, due_at=after(10))
        assert stores.consents.claim(DueConsent(name, after(10)), until=after(200))
        assert stores.consents.save(consent, replace(consent, refused="invalid_grant", revision=uuid4().hex)) is None
        assert stores.consents.read(name).due_at == after(200)

    def test_a_claim_on_a_missing_consent_makes_none(self, stores: Stores) -> None:
        name = new_name()
        assert not stores.consents.claim(DueConsent(name, NOW), until=after(1))
        assert stores.consents.read(name) == Consent(name)

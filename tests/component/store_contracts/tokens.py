"""Records, retired tokens, and the one conditional write."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

from tests.component.store_contracts.stores import (
    NOW,
    SETTINGS,
    Stores,
    a_retired,
    a_token,
    after,
    full_record,
    new_key,
    read,
    saved,
    some_health,
)
from token_broker.core.names import TokenKey
from token_broker.core.records import TokenRecord
from token_broker.ports import DueKey


class TokenStoreContract:
    """TokenStore."""

    def test_a_key_without_an_item_is_an_empty_record(self, stores: Stores) -> None:
        key = new_key()
        assert stores.tokens.read(key) == (None, TokenRecord(key))
        assert stores.tokens.read_due(key.name, key.scope_id) == (None, None)

    def test_every_field_comes_back_as_it_was_saved(self, stores: Stores) -> None:
        key = new_key()
        record = full_record(key)
        assert stores.tokens.save(TokenRecord(key), record) is None
        assert read(stores, key) == record
        assert stores.tokens.read_due(key.name, key.scope_id) == (None, record)

    def test_a_removed_field_is_gone(self, stores: Stores) -> None:
        key = new_key()
        record = full_record(key)
        stores.tokens.save(TokenRecord(key), record)
        empty = TokenRecord(key, revision=uuid4().hex)
        assert stores.tokens.save(record, empty) is None
        assert read(stores, key) == empty

    def test_settings_token_and_health_come_in_one_read(self, stores: Stores) -> None:
        key, health = new_key(), some_health()
        stores.connections.put(key.name, SETTINGS, version="s1", expected=None, absent=True)
        stores.health.save(key.name, TokenRecord(key).health, health)
        record = saved(stores, TokenRecord(key), token=a_token())
        settings, found = stores.tokens.read(key)
        assert settings is not None
        assert (settings.settings, settings.version) == (SETTINGS, "s1")
        assert found == replace(record, health=health)

    def test_of_two_that_read_the_same_one_saves(self, stores: Stores) -> None:
        key = new_key()
        first = saved(stores, TokenRecord(key), stale_at=NOW)
        winner = saved(stores, first, stale_at=after(1))
        assert stores.tokens.save(first, replace(first, stale_at=after(2), revision=uuid4().hex)) == winner
        assert read(stores, key) == winner

    def test_of_two_that_found_no_item_one_saves(self, stores: Stores) -> None:
        key = new_key()
        winner = saved(stores, TokenRecord(key), stale_at=NOW)
        assert stores.tokens.save(TokenRecord(key), TokenRecord(key, revision=uuid4().hex)) == winner

    def test_an_item_that_is_gone_is_told_as_an_empty_record(self, stores: Stores) -> None:
        key = new_key()
        before = TokenRecord(key, revision=uuid4().hex)
        assert stores.tokens.save(before, replace(before, stale_at=NOW, revision=uuid4().hex)) == TokenRecord(key)

    def test_a_repeat_of_a_write_that_took_effect_succeeds(self, stores: Stores) -> None:
        key = new_key()
        record = full_record(key)
        assert stores.tokens.save(TokenRecord(key), record) is None
        assert stores.tokens.save(TokenRecord(key), record) is None

    def test_the_record_that_stands_has_the_health_that_was_read(self, stores: Stores) -> None:
        key, health = new_key(), some_health()
        saved(stores, TokenRecord(key), stale_at=NOW)
        found = stores.tokens.save(TokenRecord(key, health=health), TokenRecord(key, revision=uuid4().hex))
        assert found is not None
        assert found.health == health

    def test_a_claim_stays_if_a_save_does_not_change_the_due_time(self, stores: Stores) -> None:
        key = new_key()
        record = saved(stores, TokenRecord(key), due_at=after(10), delete_at=after(200_000))
        assert stores.due_index.claim(DueKey(key.name, key.scope_id, after(10)), until=after(200))
        saved(stores, record, last_used_at=after(5))
        assert read(stores, key).due_at == after(200)

    def test_all_items_of_a_connection_come_back(self, stores: Stores) -> None:
        key, health = new_key(), some_health()
        other = TokenKey(key.name, "c")
        stores.health.save(key.name, TokenRecord(key).health, health)
        records = [saved(stores, TokenRecord(found), stale_at=NOW) for found in (key, other)]
        retired = a_retired(key)
        stores.tokens.put_retired(retired)
        items = stores.tokens.items(key.name)
        assert {record.key: record for record in items.records} == {
            record.key: replace(record, health=health) for record in records
        }
        assert items.retired == [retired]

    def test_a_retired_token_can_be_replaced_and_deleted(self, stores: Stores) -> None:
        key = new_key()
        retired, again = a_retired(key), a_retired(key, due_at=after(60))
        stores.tokens.put_retired(retired)
        assert stores.tokens.read_retired(key.name, key.scope_id, retired.token_id) == (
            None,
            TokenRecord(key),
            retired,
        )
        stores.tokens.put_retired(again)
        assert stores.tokens.read_retired(key.name, key.scope_id, retired.token_id)[2] == again
        stores.tokens.delete_retired(again)
        stores.tokens.delete_retired(again)
        assert stores.tokens.read_retired(key.name, key.scope_id, retired.token_id) == (None, None, None)

    def test_a_superseded_token_replaces_none_that_must_be_revoked(self, stores: Stores) -> None:
        """A purge marked it meanwhile."""
        key = new_key()
        marked = a_retired(key, due_at=after(60))
        stores.tokens.put_retired(marked)
        stores.tokens.put_retired(replace(marked, revoke=False, settings=None, due_at=None))
        assert stores.tokens.read_retired(key.name, key.scope_id, marked.token_id)[2] == marked

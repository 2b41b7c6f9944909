"""The index of due keys."""

from __future__ import annotations

from datetime import datetime

from tests.component.token_store_contract.records import (
    NOW,
    SETTINGS,
    a_commit,
    a_failure,
    after,
    lease,
    new_key,
    read,
    stored,
)
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.schedule import SHARDS
from token_broker.ports import DueKey, TokenStore


def due_keys(store: TokenStore, name: ConnectionName, *, until: datetime) -> list[DueKey]:
    """The due keys of one connection. Other tests use the same index."""
    return [due for shard in range(SHARDS) for due in store.due(shard, until=until) if due.name == name]


class DueIndex:
    """P3: a key is due from its due time on, and is claimed once."""

    def test_a_key_is_due_from_its_time_on(self, store: TokenStore) -> None:
        key = new_key()
        stored(store, key, a_commit(due_at=after(100)))
        assert due_keys(store, key.name, until=after(99)) == []
        assert due_keys(store, key.name, until=after(100)) == [DueKey(key.name, key.scope_id, after(100))]

    def test_each_key_stands_in_one_shard_and_many_keys_in_all_of_them(self, store: TokenStore) -> None:
        """Also keys of one scope: most connections of a provider have the same."""
        keys = [new_key() for _ in range(200)]
        for number, key in enumerate(keys):
            store.make_due(key, after(number))
        names = {key.name for key in keys}
        by_shard = [
            [due.name for due in store.due(shard, until=after(1000)) if due.name in names] for shard in range(SHARDS)
        ]
        assert all(by_shard)
        assert sorted(str(name) for shard in by_shard for name in shard) == sorted(str(name) for name in names)

    def test_a_shard_returns_its_most_urgent_key_first(self, store: TokenStore) -> None:
        name = new_key().name
        for number in range(12):
            store.make_due(TokenKey(name, f"scope-{number}"), after(-number))
        for shard in range(SHARDS):
            moments = [due.due_at for due in store.due(shard, until=NOW)]
            assert moments == sorted(moments)

    def test_a_due_key_is_claimed_once(self, store: TokenStore) -> None:
        key = new_key()
        stored(store, key, a_commit(due_at=after(100)))
        due = DueKey(key.name, key.scope_id, after(100))
        assert store.claim_due(due, until=after(300))
        assert not store.claim_due(due, until=after(300))
        assert read(store, key).due_at == after(300)
        assert due_keys(store, key.name, until=after(299)) == []

    def test_a_missing_key_or_one_off_the_index_cannot_be_claimed(self, store: TokenStore) -> None:
        key = new_key()
        assert not store.claim_due(DueKey(key.name, key.scope_id, NOW), until=after(300))
        assert not read(store, key).exists
        stored(store, key, a_commit(due_at=None))
        assert not store.claim_due(DueKey(key.name, key.scope_id, NOW), until=after(300))

    def test_a_key_leaves_the_index_and_comes_back(self, store: TokenStore) -> None:
        key = new_key()
        stored(store, key)
        store.put_off(read(store, key), None)
        assert read(store, key).due_at is None
        assert due_keys(store, key.name, until=after(10_000)) == []
        store.put_off(read(store, key), after(50))
        assert due_keys(store, key.name, until=after(50)) == [DueKey(key.name, key.scope_id, after(50))]

    def test_a_missing_item_is_not_created_by_an_update(self, store: TokenStore) -> None:
        key = new_key()
        store.put_off(read(store, key), NOW)
        store.put_off(read(store, key), None)
        store.note_use(key, now=NOW, due_at=after(60))
        store.forget_retired(key, ["0" * 16])
        assert not read(store, key).exists
        assert store.records(key.name) == []

    def test_a_key_that_nobody_used_can_be_made_due(self, store: TokenStore) -> None:
        """For keep_warm always. The worker finds its scope."""
        key = new_key("a b")
        store.make_due(key, NOW)
        _, record = store.read_due(key.name, key.scope_id)
        assert record is not None
        assert (record.key, record.token, record.due_at) == (key, None, NOW)

    def test_making_a_stored_key_due_leaves_its_token_alone(self, store: TokenStore) -> None:
        key = new_key()
        before = stored(store, key)
        store.make_due(key, after(5))
        record = read(store, key)
        assert record.token == before.token
        assert record.due_at == after(5)

    def test_use_is_noted_and_puts_a_key_back_on_the_index(self, store: TokenStore) -> None:
        key = new_key()
        stored(store, key, a_commit(due_at=None))
        store.note_use(key, now=after(90), due_at=after(500))
        record = read(store, key)
        assert (record.last_used_at, record.due_at) == (after(90), after(500))
        store.note_use(key, now=after(95), due_at=None)
        record = read(store, key)
        assert (record.last_used_at, record.due_at) == (after(95), after(500))

    def test_use_of_a_purged_key_is_not_noted(self, store: TokenStore) -> None:
        key = new_key()
        record = stored(store, key)
        store.purge(record, SETTINGS, after(60))
        due_at = read(store, key).due_at
        store.note_use(key, now=after(61), due_at=after(2880))
        purged = read(store, key)
        assert (purged.token, purged.due_at) == (None, due_at)

    def test_a_changed_secret_makes_every_key_of_the_connection_due(self, store: TokenStore) -> None:
        one = new_key("a")
        two = TokenKey(one.name, "b")
        stored(store, one)
        assert lease(store, two, "x")
        store.release(read(store, two), "x", now=NOW, failure=a_failure("provider_refused"))
        assert store.mark_stale(one.name, after(60)) == 2
        for key in (one, two):
            record = read(store, key)
            assert (record.stale_at, record.due_at) == (after(60), after(60))
        assert len(due_keys(store, one.name, until=after(60))) == 2

    def test_a_changed_secret_of_a_connection_without_keys_changes_nothing(self, store: TokenStore) -> None:
        name = new_key().name
        store.put_health(name, a_failure(), settled=True)
        assert store.mark_stale(name, NOW) == 0

    def test_keys_that_are_due_at_one_moment_are_claimed_one_by_one(self, store: TokenStore) -> None:
        name = new_key().name
        keys = [TokenKey(name, "a"), TokenKey(name, "b")]
        for key in keys:
            store.make_due(key, NOW)
        assert store.claim_due(DueKey(keys[0].name, keys[0].scope_id, NOW), until=after(60))
        assert [due.scope_id for due in due_keys(store, name, until=NOW)] == [keys[1].scope_id]

    def test_a_due_time_that_changed_meanwhile_is_not_moved(self, store: TokenStore) -> None:
        """The secret changed while the worker found the token not due."""
        key = new_key()
        before = stored(store, key)
        store.mark_stale(key.name, after(60))
        store.put_off(before, after(3000))
        assert read(store, key).due_at == after(60)
        store.put_off(before, None)
        assert read(store, key).due_at == after(60)

    def test_a_change_of_the_secret_during_a_request_that_failed_keeps_the_key_due(self, store: TokenStore) -> None:
        key = new_key()
        before = stored(store, key)
        assert lease(store, key, "b", at=after(60))
        store.mark_stale(key.name, after(61))
        store.release(before, "b", now=after(62), failure=a_failure("provider_refused"), due_at=None)
        record = read(store, key)
        assert (record.due_at, record.stale_at, record.lease) == (after(62), after(61), None)
        assert record.failure is not None

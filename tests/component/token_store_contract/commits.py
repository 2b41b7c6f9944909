"""Storing a token: only the lease owner can."""

from __future__ import annotations

import pytest

from tests.component.token_store_contract.records import (
    LEASE,
    SETTINGS,
    a_commit,
    a_failure,
    a_refresh,
    a_retired,
    a_token,
    after,
    lease,
    new_key,
    read,
    stored,
)
from token_broker.core.records import Lease
from token_broker.ports import ConnectionStore, TokenStore


class Commits:
    """P1: a late commit never overwrites a token. P9: a change of the secret meanwhile keeps the key due."""

    def test_a_commit_stores_all_of_the_token_and_ends_the_lease(self, store: TokenStore) -> None:
        key = new_key()
        refresh = a_refresh(expires_at=after(9000))
        retired = (a_retired(), a_retired("2" * 16))
        record = stored(store, key, a_commit(refresh=refresh, retired=retired))
        assert record.token == a_token()
        assert record.refresh_token == refresh
        assert record.retired == retired
        assert (record.lease, record.due_at, record.last_used_at) == (None, after(2880), after(1))

    def test_settings_token_and_connection_health_come_in_one_read(
        self, store: TokenStore, connections: ConnectionStore
    ) -> None:
        key = new_key()
        connections.put(key.name, SETTINGS, version="s1", expected=None, absent=True)
        stored(store, key)
        store.begin_login(key.name, "a", "v1")
        settings, record = store.read(key)
        assert settings is not None
        assert (settings.name, dict(settings.settings), settings.version) == (key.name, SETTINGS, "s1")
        assert record.token == a_token()
        assert record.health.unresolved_logins == 1
        assert store.read_due(key.name, key.scope_id) == (settings, record)

    def test_a_missing_item_reads_as_an_empty_record(self, store: TokenStore) -> None:
        key = new_key()
        settings, record = store.read(key)
        assert settings is None
        assert (record.token, record.exists) == (None, False)
        assert store.read_due(key.name, key.scope_id) == (None, None)
        assert store.records(key.name) == []

    def test_every_key_of_a_connection_is_found_with_its_health(self, store: TokenStore) -> None:
        one = new_key("a")
        two = type(one)(one.name, "b")
        for key in (one, two):
            stored(store, key)
        store.put_health(one.name, a_failure(), settled=True)
        found = {record.key: record for record in store.records(one.name)}
        assert set(found) == {one, two}
        assert all(record.health.failure == a_failure() for record in found.values())

    def test_a_late_commit_is_rejected_and_returns_the_stored_record(self, store: TokenStore) -> None:
        key = new_key()
        assert lease(store, key, "late")
        assert lease(store, key, "b", at=after(60))
        assert store.commit(key, "b", a_commit(a_token("b" * 16), now=after(61))) is None
        current = store.commit(key, "late", a_commit(a_token("a" * 16)))
        assert current is not None
        assert current.token is not None
        assert current.token.token_id == "b" * 16
        assert read(store, key).token == current.token

    def test_a_late_commit_is_rejected_while_another_holds_the_lease(self, store: TokenStore) -> None:
        key = new_key()
        assert lease(store, key, "late")
        assert lease(store, key, "b", at=after(60))
        assert store.commit(key, "late", a_commit()) is not None
        record = read(store, key)
        assert record.token is None
        assert record.lease == Lease("b", after(60) + LEASE)

    def test_a_repeated_commit_succeeds(self, store: TokenStore) -> None:
        key = new_key()
        record = stored(store, key)
        assert store.commit(key, "owner", a_commit()) is None
        assert read(store, key) == record

    def test_a_commit_after_a_purge_is_rejected(self, store: TokenStore) -> None:
        key = new_key()
        assert lease(store, key, "a")
        store.purge(read(store, key), SETTINGS, after(2))
        current = store.commit(key, "a", a_commit(now=after(3)))
        assert current is not None
        assert current.token is None
        assert read(store, key).token is None

    def test_a_commit_without_an_item_is_rejected(self, store: TokenStore) -> None:
        key = new_key()
        current = store.commit(key, "nobody", a_commit())
        assert current is not None
        assert not current.exists
        assert read(store, key).token is None

    def test_a_commit_replaces_the_refresh_token_with_its_mark(self, store: TokenStore) -> None:
        key = new_key()
        stored(store, key, a_commit(refresh=a_refresh("1" * 16)))
        assert lease(store, key, "b", at=after(60), mark=True)
        assert store.commit(key, "b", a_commit(refresh=a_refresh("2" * 16))) is None
        assert read(store, key).refresh_token == a_refresh("2" * 16)

    def test_a_commit_without_refresh_token_drops_the_old_one(self, store: TokenStore) -> None:
        key = new_key()
        stored(store, key, a_commit(refresh=a_refresh()))
        assert lease(store, key, "b", at=after(60), mark=True)
        assert store.commit(key, "b", a_commit(refresh=None)) is None
        assert read(store, key).refresh_token is None

    def test_a_commit_forgets_the_failure_of_its_key(self, store: TokenStore) -> None:
        key = new_key()
        assert lease(store, key, "a")
        store.release(read(store, key), "a", now=after(1), failure=a_failure())
        assert lease(store, key, "b", at=after(60))
        assert store.commit(key, "b", a_commit()) is None
        assert read(store, key).failure is None

    @pytest.mark.parametrize("keep", [True, False])
    def test_a_commit_keeps_the_count_of_reports_only_if_it_says_so(self, store: TokenStore, *, keep: bool) -> None:
        key = new_key()
        stored(store, key)
        assert lease(store, key, "b", at=after(60))
        store.note_report(key, "b", count=3, until=after(180))
        assert store.commit(key, "b", a_commit(keep_rejections=keep)) is None
        record = read(store, key)
        assert (record.rejections, record.rejected_until) == ((3, after(180)) if keep else (0, None))

    def test_a_renewal_does_not_count_as_use(self, store: TokenStore) -> None:
        key = new_key()
        stored(store, key, a_commit(now=after(1), used=True))
        assert lease(store, key, "b", at=after(60))
        assert store.commit(key, "b", a_commit(now=after(61), used=False)) is None
        assert read(store, key).last_used_at == after(1)

    def test_a_commit_without_due_time_takes_the_key_off_the_index(self, store: TokenStore) -> None:
        key = new_key()
        stored(store, key)
        assert lease(store, key, "b", at=after(60))
        assert store.commit(key, "b", a_commit(due_at=None)) is None
        assert read(store, key).due_at is None

    def test_a_change_of_the_secret_after_it_was_read_keeps_the_key_due(self, store: TokenStore) -> None:
        key = new_key()
        assert lease(store, key, "a")
        assert store.mark_stale(key.name, after(2)) == 1
        assert store.commit(key, "a", a_commit(now=after(3))) is None
        record = read(store, key)
        assert record.token == a_token()
        assert (record.due_at, record.stale_at, record.lease) == (after(3), after(2), None)

    def test_a_commit_with_the_changed_secret_ends_its_being_stale(self, store: TokenStore) -> None:
        key = new_key()
        stored(store, key)
        store.mark_stale(key.name, after(2))
        assert lease(store, key, "b", at=after(60))
        assert store.commit(key, "b", a_commit(read_as=read(store, key), now=after(62), due_at=after(3000))) is None
        record = read(store, key)
        assert (record.due_at, record.stale_at) == (after(3000), None)

    def test_a_token_retired_during_the_request_stays_retired(self, store: TokenStore) -> None:
        key = new_key()
        assert lease(store, key, "a")
        store.retire(key, a_retired("9" * 16), SETTINGS, after(60))
        assert store.commit(key, "a", a_commit(retired=(a_retired("8" * 16),))) is None
        assert {item.token_id for item in read(store, key).retired} == {"9" * 16, "8" * 16}

"""Dropping tokens, and keeping those that must still be revoked."""

from __future__ import annotations

from dataclasses import replace

from tests.component.token_store_contract.due_index import due_keys
from tests.component.token_store_contract.records import (
    NOW,
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
from token_broker.ports import TokenStore


class Purges:
    """DELETE: usable tokens are dropped at once. Tokens that are still valid stay sealed until they are revoked."""

    def test_a_purge_drops_token_refresh_token_lease_and_failure(self, store: TokenStore) -> None:
        key = new_key()
        stored(store, key, a_commit(refresh=a_refresh()))
        assert lease(store, key, "b", at=after(60), mark=True)
        store.release(read(store, key), "b", now=NOW, failure=a_failure(at=after(61)), due_at=after(90))
        assert lease(store, key, "c", at=after(100))
        store.note_report(key, "c", count=3, until=after(500))
        store.mark_stale(key.name, after(101))
        store.purge(read(store, key), SETTINGS, after(102))
        record = read(store, key)
        assert (record.token, record.refresh_token, record.lease, record.failure) == (None, None, None, None)
        assert (record.rejections, record.rejected_until, record.stale_at) == (0, None, None)

    def test_a_purge_returns_the_record_as_it_was(self, store: TokenStore) -> None:
        key = new_key()
        before = stored(store, key, a_commit(refresh=a_refresh()))
        assert store.purge(before, SETTINGS, after(60)) == before

    def test_live_tokens_stay_sealed_with_their_settings_and_due_soon(self, store: TokenStore) -> None:
        key = new_key()
        superseded = a_retired("2" * 16, revoke=False)
        expired = a_retired("3" * 16, expires_at=after(30))
        record = stored(store, key, a_commit(retired=(superseded, expired)))
        store.purge(record, SETTINGS, after(60))
        purged = read(store, key)
        assert purged.retired == (
            replace(superseded, revoke=True),
            a_retired(a_token().token_id, expires_at=a_token().expires_at),
        )
        assert purged.revocation_settings == SETTINGS
        assert purged.due_at is not None
        assert len(due_keys(store, key.name, until=after(180))) == 1

    def test_a_purge_drops_a_token_that_was_committed_meanwhile(self, store: TokenStore) -> None:
        key = new_key()
        before = stored(store, key, a_commit(a_token("a" * 16)))
        assert lease(store, key, "b", at=after(60))
        newer = a_token("b" * 16)
        assert store.commit(key, "b", a_commit(newer, retired=(a_retired("a" * 16, revoke=False),))) is None
        assert store.purge(before, SETTINGS, after(61)).token == newer
        assert {item.token_id for item in read(store, key).retired} == {"a" * 16, "b" * 16}

    def test_a_purge_drops_a_first_token_that_was_committed_meanwhile(self, store: TokenStore) -> None:
        key = new_key()
        assert lease(store, key, "a")
        before = read(store, key)
        assert store.commit(key, "a", a_commit()) is None
        assert store.purge(before, SETTINGS, after(5)).token == a_token()
        assert read(store, key).token is None

    def test_a_purge_keeps_a_token_that_was_retired_meanwhile(self, store: TokenStore) -> None:
        """A late lease holder could not revoke its token and left it to the worker."""
        key = new_key()
        before = stored(store, key)
        store.retire(key, a_retired("9" * 16), SETTINGS, after(120))
        store.purge(before, SETTINGS, after(60))
        assert {item.token_id for item in read(store, key).retired} == {a_token().token_id, "9" * 16}

    def test_a_repeated_purge_keeps_the_tokens_to_revoke(self, store: TokenStore) -> None:
        key = new_key()
        record = stored(store, key)
        store.purge(record, SETTINGS, after(60))
        store.purge(read(store, key), SETTINGS, after(61))
        assert [item.token_id for item in read(store, key).retired] == [a_token().token_id]

    def test_a_purged_key_counts_as_unused(self, store: TokenStore) -> None:
        """The next GET acquires a token, not the sweep."""
        key = new_key()
        store.purge(stored(store, key), SETTINGS, after(60))
        assert read(store, key).last_used_at is None

    def test_a_purge_of_a_missing_key_creates_no_item(self, store: TokenStore) -> None:
        key = new_key()
        record = store.purge(read(store, key), SETTINGS, NOW)
        assert not record.exists
        assert store.records(key.name) == []

    def test_one_more_token_can_be_kept_to_be_revoked(self, store: TokenStore) -> None:
        key = new_key()
        stored(store, key, a_commit(retired=(a_retired("2" * 16, revoke=False),)))
        store.retire(key, a_retired("3" * 16), SETTINGS, after(70))
        record = read(store, key)
        assert record.retired == (a_retired("2" * 16, revoke=False), a_retired("3" * 16))
        assert (record.revocation_settings, record.due_at) == (SETTINGS, after(70))

    def test_the_first_revocation_settings_stay(self, store: TokenStore) -> None:
        key = new_key()
        store.purge(stored(store, key), SETTINGS, after(60))
        store.retire(key, a_retired("3" * 16), {"token_url": "https://other.example/token"}, after(70))
        assert read(store, key).revocation_settings == SETTINGS

    def test_revoked_tokens_are_forgotten_and_the_others_stay(self, store: TokenStore) -> None:
        key = new_key()
        store.purge(stored(store, key, a_commit(retired=(a_retired("2" * 16),))), SETTINGS, after(60))
        store.forget_retired(key, ["2" * 16])
        record = read(store, key)
        assert [item.token_id for item in record.retired] == [a_token().token_id]
        assert record.revocation_settings == SETTINGS
        store.forget_retired(key, [a_token().token_id])
        record = read(store, key)
        assert (record.retired, record.revocation_settings) == ((), None)

    def test_forgetting_leaves_a_new_token_alone(self, store: TokenStore) -> None:
        key = new_key()
        store.purge(stored(store, key), SETTINGS, after(60))
        assert lease(store, key, "b", at=after(70))
        newer = a_token("b" * 16)
        retired = read(store, key).retired
        assert store.commit(key, "b", a_commit(newer, retired=retired)) is None
        store.forget_retired(key, [a_token().token_id])
        record = read(store, key)
        assert (record.token, record.retired) == (newer, ())

"""Taking, keeping and ending the lease on a key."""

from __future__ import annotations

from datetime import timedelta

from tests.component.token_store_contract.records import (
    LEASE,
    NOW,
    a_commit,
    a_failure,
    a_refresh,
    after,
    lease,
    new_key,
    read,
    stored,
)
from token_broker.core.records import Lease, TokenRecord
from token_broker.ports import TokenStore


class Leases:
    """P1: one holder at a time, and a dead one is replaced. P6: a refresh token is marked before it is sent."""

    def test_the_lease_of_a_cold_key_is_taken_and_the_record_is_empty(self, store: TokenStore) -> None:
        key = new_key()
        taken, record = store.take_lease(store.read(key)[1], "a", now=NOW, until=NOW + LEASE, mark_refresh=True)
        assert taken
        assert record == TokenRecord(key)
        assert read(store, key).lease == Lease("a", NOW + LEASE)
        assert read(store, key).exists

    def test_a_held_lease_cannot_be_taken_and_its_holder_is_returned(self, store: TokenStore) -> None:
        key = new_key()
        assert lease(store, key, "a")
        taken, record = store.take_lease(store.read(key)[1], "b", now=after(5), until=after(22), mark_refresh=False)
        assert not taken
        assert record.lease == Lease("a", NOW + LEASE)
        assert read(store, key).lease == Lease("a", NOW + LEASE)

    def test_a_lease_is_taken_over_one_second_after_it_expired_and_not_before(self, store: TokenStore) -> None:
        key = new_key()
        assert lease(store, key, "dead")
        end = NOW + LEASE
        assert not lease(store, key, "b", at=end + timedelta(milliseconds=999))
        assert lease(store, key, "b", at=end + timedelta(milliseconds=1001))

    def test_store_and_decision_agree_on_the_moment_of_taking_over(self, store: TokenStore) -> None:
        """Otherwise a reader at that very moment would find the lease free and could not take it."""
        key = new_key()
        assert lease(store, key, "dead")
        moment = NOW + LEASE + timedelta(seconds=1)
        record = read(store, key)
        assert record.lease is not None
        assert not record.lease.holds(moment)
        assert lease(store, key, "b", at=moment)

    def test_the_lease_comes_with_the_record_as_it_was_before(self, store: TokenStore) -> None:
        key = new_key()
        before = stored(store, key, a_commit(refresh=a_refresh()))
        taken, record = store.take_lease(store.read(key)[1], "b", now=after(60), until=after(77), mark_refresh=True)
        assert taken
        assert record == before
        assert record.refresh_token is not None
        assert not record.refresh_token.sent

    def test_a_refresh_token_is_marked_as_sent_in_the_same_write(self, store: TokenStore) -> None:
        key = new_key()
        stored(store, key, a_commit(refresh=a_refresh(expires_at=after(86_400))))
        assert lease(store, key, "b", at=after(60), mark=True)
        refresh = read(store, key).refresh_token
        assert refresh is not None
        assert refresh.sent
        assert refresh.expires_at == after(86_400)

    def test_a_refresh_token_is_not_marked_if_it_will_not_be_sent(self, store: TokenStore) -> None:
        key = new_key()
        stored(store, key, a_commit(refresh=a_refresh()))
        assert lease(store, key, "b", at=after(60), mark=False)
        refresh = read(store, key).refresh_token
        assert refresh is not None
        assert not refresh.sent

    def test_marking_without_a_refresh_token_marks_nothing(self, store: TokenStore) -> None:
        key = new_key()
        stored(store, key)
        assert lease(store, key, "b", at=after(60), mark=True)
        assert read(store, key).refresh_token is None
        assert store.commit(key, "b", a_commit(refresh=a_refresh())) is None
        refresh = read(store, key).refresh_token
        assert refresh is not None
        assert not refresh.sent

    def test_a_repeated_lease_write_succeeds_and_finds_the_mark(self, store: TokenStore) -> None:
        key = new_key()
        stored(store, key, a_commit(refresh=a_refresh()))
        assert lease(store, key, "b", at=after(60), mark=True)
        taken, record = store.take_lease(store.read(key)[1], "b", now=after(60), until=after(77), mark_refresh=True)
        assert taken
        assert record.refresh_token is not None
        assert record.refresh_token.sent

    def test_a_release_ends_the_lease_and_remembers_the_failure(self, store: TokenStore) -> None:
        key = new_key()
        failure = a_failure()
        assert lease(store, key, "a")
        store.release(read(store, key), "a", now=NOW, failure=failure, due_at=after(30))
        record = read(store, key)
        assert (record.lease, record.failure, record.due_at) == (None, failure, after(30))
        assert lease(store, key, "b", at=after(1))

    def test_a_failure_without_optional_fields_is_read_as_written(self, store: TokenStore) -> None:
        key = new_key()
        failure = a_failure(provider_error=None, secret_version=None, rule="misconfigured")
        assert lease(store, key, "a")
        store.release(read(store, key), "a", now=NOW, failure=failure)
        assert read(store, key).failure == failure

    def test_a_release_without_failure_keeps_the_stored_one(self, store: TokenStore) -> None:
        key = new_key()
        failure = a_failure()
        assert lease(store, key, "a")
        store.release(read(store, key), "a", now=NOW, failure=failure)
        assert lease(store, key, "b", at=after(60))
        store.release(read(store, key), "b", now=NOW)
        assert read(store, key).failure == failure

    def test_a_release_without_due_time_takes_the_key_off_the_index(self, store: TokenStore) -> None:
        key = new_key()
        stored(store, key)
        assert lease(store, key, "b", at=after(60))
        store.release(read(store, key), "b", now=NOW, due_at=None)
        assert read(store, key).due_at is None

    def test_a_release_unmarks_a_refresh_token_that_was_not_sent(self, store: TokenStore) -> None:
        key = new_key()
        stored(store, key, a_commit(refresh=a_refresh()))
        assert lease(store, key, "b", at=after(60), mark=True)
        store.release(read(store, key), "b", now=NOW, unmark_refresh=True)
        refresh = read(store, key).refresh_token
        assert refresh is not None
        assert not refresh.sent

    def test_a_release_keeps_the_mark_by_default(self, store: TokenStore) -> None:
        key = new_key()
        stored(store, key, a_commit(refresh=a_refresh()))
        assert lease(store, key, "b", at=after(60), mark=True)
        store.release(read(store, key), "b", now=NOW, failure=a_failure())
        refresh = read(store, key).refresh_token
        assert refresh is not None
        assert refresh.sent

    def test_a_lease_of_another_owner_is_not_released(self, store: TokenStore) -> None:
        key = new_key()
        assert lease(store, key, "dead")
        assert lease(store, key, "b", at=after(60))
        store.release(read(store, key), "dead", now=NOW, failure=a_failure(), due_at=after(90))
        record = read(store, key)
        assert record.lease == Lease("b", after(60) + LEASE)
        assert (record.failure, record.due_at) == (None, None)

    def test_only_the_lease_owner_can_note_a_report(self, store: TokenStore) -> None:
        key = new_key()
        stored(store, key)
        assert lease(store, key, "b", at=after(60))
        store.note_report(key, "a", count=7, until=after(900))
        store.note_report(key, "b", count=2, until=after(120))
        record = read(store, key)
        assert (record.rejections, record.rejected_until) == (2, after(120))

"""Connection health: what is remembered of a whole connection."""

from __future__ import annotations

from tests.component.token_store_contract.records import NOW, a_failure, after, lease, new_key, read, stored
from token_broker.core.records import ConnectionHealth
from token_broker.ports import TokenStore


class ConnectionHealthItems:
    """P4: failures are remembered at the level of their cause, logins before they are sent."""

    def test_a_failure_of_the_connection_shows_at_every_key(self, store: TokenStore) -> None:
        key = new_key()
        store.put_health(key.name, a_failure("provider_refused"), settled=True)
        assert read(store, key).health.failure == a_failure("provider_refused")
        assert read(store, type(key)(key.name, "other")).health.failure == a_failure("provider_refused")

    def test_logins_are_counted_until_one_is_settled(self, store: TokenStore) -> None:
        name = new_key().name
        assert [store.begin_login(name, owner, "v1") for owner in ("a", "b", "b")] == [1, 2, 2]
        store.put_health(name, a_failure(), settled=False)
        assert store.begin_login(name, "c", "v1") == 3
        store.put_health(name, a_failure(), settled=True)
        assert store.begin_login(name, "d", "v1") == 1
        assert [store.begin_login(name, *login) for login in (("e", "v1"), ("f", "v2"), ("f", "v2"))] == [2, 1, 1]

    def test_only_the_failure_that_was_read_is_cleared(self, store: TokenStore) -> None:
        key = new_key()
        older = a_failure(at=NOW)
        newer = a_failure(at=after(5))
        store.put_health(key.name, newer, settled=True)
        store.clear_health(key.name, ConnectionHealth(older))
        assert read(store, key).health.failure == newer
        store.clear_health(key.name, ConnectionHealth(newer))
        assert read(store, key).health.failure is None

    def test_a_failure_does_not_shorten_a_longer_cooldown_that_it_does_not_replace(self, store: TokenStore) -> None:
        key = new_key()
        longer = a_failure("provider_refused", retry_at=after(900))
        shorter = a_failure(at=after(5))
        store.begin_login(key.name, "one", "v1")
        store.put_health(key.name, longer, settled=False)
        store.put_health(key.name, shorter, settled=True)
        health = read(store, key).health
        assert (health.failure, health.unresolved_logins) == (longer, 0)
        store.put_health(key.name, shorter, settled=True, replaced=longer)
        assert read(store, key).health.failure == shorter

    def test_a_rate_limit_is_stored_beside_a_refusal(self, store: TokenStore) -> None:
        key = new_key()
        refused = a_failure("provider_refused")
        limit = a_failure("provider_rate_limited", at=after(5))
        store.put_health(key.name, refused, settled=True)
        store.put_health(key.name, limit, settled=True)
        health = read(store, key).health
        assert (health.failure, health.rate_limit) == (refused, limit)
        store.clear_health(key.name, ConnectionHealth(rate_limit=limit))
        assert read(store, key).health == ConnectionHealth(refused)
        store.put_health(key.name, limit, settled=True)
        store.clear_health(key.name, health)
        assert read(store, key).health == ConnectionHealth()

    def test_clearing_a_failure_also_clears_logins_and_versions(self, store: TokenStore) -> None:
        key = new_key()
        failure = a_failure()
        store.begin_login(key.name, "a", "v1")
        store.note_version(key.name, [("v2", NOW)])
        store.put_health(key.name, failure, settled=False)
        store.clear_health(key.name, ConnectionHealth(failure))
        assert read(store, key).health == ConnectionHealth()

    def test_unresolved_logins_are_cleared_without_a_failure_too(self, store: TokenStore) -> None:
        key = new_key()
        store.begin_login(key.name, "a", "v1")
        store.clear_health(key.name, ConnectionHealth())
        assert read(store, key).health.unresolved_logins == 0

    def test_clearing_without_a_failure_writes_nothing(self, store: TokenStore) -> None:
        key = new_key()
        store.clear_health(key.name, ConnectionHealth())
        store.clear_health(key.name, ConnectionHealth(a_failure()))
        store.end_cooldowns(key.name)
        assert read(store, key).health == ConnectionHealth()

    def test_new_secret_versions_keep_their_order(self, store: TokenStore) -> None:
        key = new_key()
        versions = (("v2", NOW), ("v3", after(60)))
        store.note_version(key.name, versions)
        store.put_health(key.name, a_failure(), settled=True)
        assert read(store, key).health.new_versions == versions

    def test_a_trial_is_noted_once_in_its_spacing(self, store: TokenStore) -> None:
        key = new_key()
        assert store.begin_trial(key.name, now=NOW, not_after=after(-300))
        assert not store.begin_trial(key.name, now=after(299), not_after=after(-1))
        assert read(store, key).health.trial_at == NOW
        assert store.begin_trial(key.name, now=after(300), not_after=NOW)
        assert read(store, key).health.trial_at == after(300)

    def test_a_repeated_note_of_a_trial_succeeds(self, store: TokenStore) -> None:
        """The response was lost and the AWS client repeats the write."""
        name = new_key().name
        assert store.begin_trial(name, now=NOW, not_after=after(-300))
        assert store.begin_trial(name, now=NOW, not_after=after(-300))

    def test_ending_the_cooldowns_clears_the_failures_of_connection_and_keys(self, store: TokenStore) -> None:
        key = new_key()
        other = type(key)(key.name, "other")
        stored(store, other)
        assert lease(store, key, "a")
        store.release(read(store, key), "a", now=NOW, failure=a_failure("provider_refused"))
        store.put_health(key.name, a_failure(), settled=False)
        store.put_health(key.name, a_failure("provider_rate_limited"), settled=False)
        store.begin_login(key.name, "a", "v1")
        store.begin_trial(key.name, now=NOW, not_after=after(-300))
        store.end_cooldowns(key.name)
        record = read(store, key)
        assert record.failures() == ()
        assert (record.health.unresolved_logins, record.health.new_versions, record.health.trial_at) == (0, (), NOW)
        assert read(store, other).token is not None

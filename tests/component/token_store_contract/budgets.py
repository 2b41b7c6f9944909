"""The budget of an endpoint's host."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from tests.component.token_store_contract.records import after
from token_broker.ports import TokenStore

MINUTE = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NEXT = datetime(2026, 11, 22, 12, 1, tzinfo=UTC)


def new_host() -> str:
    return f"{uuid4().hex}.example:443"


class Budgets:
    """P4: how many requests all connections together may send to one host in a calendar minute."""

    def test_a_minute_has_as_many_requests_as_the_limit(self, store: TokenStore) -> None:
        host = new_host()
        assert [store.take_budget(host, now=after(number), limit=3) for number in range(4)] == [None, None, None, NEXT]

    def test_the_next_minute_has_a_new_budget(self, store: TokenStore) -> None:
        host = new_host()
        assert store.take_budget(host, now=after(0), limit=1) is None
        assert store.take_budget(host, now=after(1), limit=1) == NEXT
        assert store.take_budget(host, now=NEXT, limit=1) is None
        assert store.take_budget(host, now=NEXT, limit=1) is not None

    def test_a_lower_limit_leaves_part_of_the_budget_to_others(self, store: TokenStore) -> None:
        host = new_host()
        assert store.take_budget(host, now=after(0), limit=2) is None
        assert store.take_budget(host, now=after(0), limit=2) is None
        assert store.take_budget(host, now=after(0), limit=2) == NEXT
        assert store.take_budget(host, now=after(0), limit=3) is None

    def test_each_host_has_its_own_budget(self, store: TokenStore) -> None:
        assert store.take_budget(new_host(), now=after(0), limit=1) is None
        assert store.take_budget(new_host(), now=after(0), limit=1) is None

    def test_a_host_has_no_budget_until_its_cooldown_ends(self, store: TokenStore) -> None:
        host = new_host()
        store.cool_down_host(host, after(90))
        assert store.take_budget(host, now=after(0), limit=5) == after(90)
        assert store.take_budget(host, now=after(89), limit=5) == after(90)
        assert store.take_budget(host, now=after(90), limit=5) is None

    def test_a_cooldown_within_a_minute_counts_too(self, store: TokenStore) -> None:
        host = new_host()
        assert store.take_budget(host, now=after(0), limit=5) is None
        store.cool_down_host(host, after(10))
        assert store.take_budget(host, now=after(1), limit=5) == after(10)
        assert store.take_budget(host, now=after(10), limit=2) is None
        assert store.take_budget(host, now=after(10), limit=2) == NEXT

    def test_the_longest_cooldown_counts(self, store: TokenStore) -> None:
        host = new_host()
        store.cool_down_host(host, after(90))
        store.cool_down_host(host, after(30))
        assert store.take_budget(host, now=after(60), limit=5) == after(90)

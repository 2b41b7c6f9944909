"""The budget of an endpoint's host."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from tests.component.store_contracts.stores import Stores, after

MINUTE = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NEXT = datetime(2026, 11, 22, 12, 1, tzinfo=UTC)
TOMORROW = datetime(2026, 11, 23, tzinfo=UTC)


def new_host() -> str:
    return f"{uuid4().hex}.example:443"


class BudgetsContract:
    """P4: how many requests all connections together may send to one host in a calendar minute."""

    def test_a_minute_has_as_many_requests_as_the_limit(self, stores: Stores) -> None:
        host = new_host()
        assert [stores.budgets.take(host, now=after(number), limit=3) for number in range(4)] == [
            None,
            None,
            None,
            NEXT,
        ]

    def test_the_next_minute_has_a_new_budget(self, stores: Stores) -> None:
        host = new_host()
        assert stores.budgets.take(host, now=after(0), limit=1) is None
        assert stores.budgets.take(host, now=after(1), limit=1) == NEXT
        assert stores.budgets.take(host, now=NEXT, limit=1) is None
        assert stores.budgets.take(host, now=NEXT, limit=1) is not None

    @pytest.mark.parametrize(
        ("period", "next_period"), [(timedelta(hours=1), MINUTE + timedelta(hours=1)), (timedelta(days=1), TOMORROW)]
    )
    def test_a_budget_can_be_that_of_an_hour_or_a_day(
        self, stores: Stores, period: timedelta, next_period: datetime
    ) -> None:
        host = new_host()
        assert stores.budgets.take(host, now=NEXT, limit=1, period=period) is None
        assert stores.budgets.busy_until(host, now=NEXT, limit=1, period=period) == next_period
        assert stores.budgets.take(host, now=next_period - timedelta(seconds=1), limit=1, period=period) == next_period
        assert stores.budgets.take(host, now=next_period, limit=1, period=period) is None

    def test_a_lower_limit_leaves_part_of_the_budget_to_others(self, stores: Stores) -> None:
        host = new_host()
        assert stores.budgets.take(host, now=after(0), limit=2) is None
        assert stores.budgets.take(host, now=after(0), limit=2) is None
        assert stores.budgets.take(host, now=after(0), limit=2) == NEXT
        assert stores.budgets.take(host, now=after(0), limit=3) is None

    def test_each_host_has_its_own_budget(self, stores: Stores) -> None:
        assert stores.budgets.take(new_host(), now=after(0), limit=1) is None
        assert stores.budgets.take(new_host(), now=after(0), limit=1) is None

    def test_a_host_has_no_budget_until_its_cooldown_ends(self, stores: Stores) -> None:
        host = new_host()
        stores.budgets.cool_down(host, after(90))
        assert stores.budgets.take(host, now=after(0), limit=5) == after(90)
        assert stores.budgets.take(host, now=after(89), limit=5) == after(90)
        assert stores.budgets.take(host, now=after(90), limit=5) is None

    def test_a_cooldown_within_a_minute_counts_too(self, stores: Stores) -> None:
        host = new_host()
        assert stores.budgets.take(host, now=after(0), limit=5) is None
        stores.budgets.cool_down(host, after(10))
        assert stores.budgets.take(host, now=after(1), limit=5) == after(10)
        assert stores.budgets.take(host, now=after(10), limit=2) is None
        assert stores.budgets.take(host, now=after(10), limit=2) == NEXT

    def test_the_longest_cooldown_counts(self, stores: Stores) -> None:
        host = new_host()
        stores.budgets.cool_down(host, after(90))
        stores.budgets.cool_down(host, after(30))
        assert stores.budgets.take(host, now=after(60), limit=5) == after(90)

    def test_asking_when_it_is_free_takes_nothing(self, stores: Stores) -> None:
        host = new_host()
        assert stores.budgets.busy_until(host, now=after(0), limit=1) is None
        assert stores.budgets.take(host, now=after(0), limit=1) is None
        assert stores.budgets.busy_until(host, now=after(1), limit=1) == NEXT
        assert stores.budgets.busy_until(host, now=NEXT, limit=1) is None
        stores.budgets.cool_down(host, after(90))
        assert stores.budgets.busy_until(host, now=NEXT, limit=1) == after(90)

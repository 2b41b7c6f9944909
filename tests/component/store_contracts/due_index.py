"""The due index: which keys are due, and who claims them."""

from __future__ import annotations

from datetime import datetime

from tests.component.store_contracts.stores import Stores, a_retired, after, new_key, read, saved
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import TokenRecord
from token_broker.core.schedule import KEEP, SHARDS
from token_broker.ports import DueKey


def due_keys(stores: Stores, name: ConnectionName, until: datetime) -> list[DueKey]:
    found = [due for shard in range(SHARDS) for due in stores.due_index.due(shard, until=until)]
    return [due for due in found if due.name == name]


class DueIndexContract:
    """DueIndex."""

    def test_a_key_is_due_from_its_time_on(self, stores: Stores) -> None:
        key = new_key()
        saved(stores, TokenRecord(key), due_at=after(100), delete_at=after(200_000))
        assert due_keys(stores, key.name, after(99)) == []
        assert due_keys(stores, key.name, after(100)) == [
            DueKey(key.name, key.scope_id, after(100), delete_at=after(200_000))
        ]

    def test_a_key_without_a_due_time_is_not_in_the_index(self, stores: Stores) -> None:
        key = new_key()
        record = saved(stores, TokenRecord(key), due_at=after(100))
        saved(stores, record, due_at=None)
        assert due_keys(stores, key.name, after(1000)) == []

    def test_a_shard_gives_the_most_urgent_first(self, stores: Stores) -> None:
        keys = [new_key() for _ in range(20)]
        for number, key in enumerate(keys):
            saved(stores, TokenRecord(key), due_at=after(100 - number))
        names = {key.name for key in keys}
        for shard in range(SHARDS):
            times = [due.due_at for due in stores.due_index.due(shard, until=after(1000)) if due.name in names]
            assert times == sorted(times)

    def test_of_two_that_claim_one_gets_the_key(self, stores: Stores) -> None:
        key = new_key()
        saved(stores, TokenRecord(key), due_at=after(100))
        due = DueKey(key.name, key.scope_id, after(100))
        assert stores.due_index.claim(due, until=after(200))
        assert not stores.due_index.claim(due, until=after(300))
        assert read(stores, key).due_at == after(200)

    def test_a_claim_on_a_missing_item_makes_none(self, stores: Stores) -> None:
        key = new_key()
        assert not stores.due_index.claim(DueKey(key.name, key.scope_id, after(1)), until=after(2))
        assert not stores.due_index.claim(DueKey(key.name, key.scope_id, after(1), "00112233445566aa"), until=after(2))
        assert stores.tokens.items(key.name).records == []

    def test_a_claim_keeps_the_item_two_days_beyond_the_new_time(self, stores: Stores) -> None:
        key = new_key()
        saved(stores, TokenRecord(key), due_at=after(100), delete_at=after(200))
        (due,) = due_keys(stores, key.name, after(100))
        assert stores.due_index.claim(due, until=after(300))
        assert read(stores, key).delete_at == after(300) + KEEP

    def test_a_claim_never_shortens_the_life_of_an_item(self, stores: Stores) -> None:
        key, far = new_key(), after(90 * 86_400)
        saved(stores, TokenRecord(key), due_at=after(100), delete_at=far)
        (due,) = due_keys(stores, key.name, after(100))
        assert stores.due_index.claim(due, until=after(300))
        assert read(stores, key).delete_at == far

    def test_a_retired_token_is_due_and_claimed_by_itself(self, stores: Stores) -> None:
        key = new_key()
        saved(stores, TokenRecord(key), due_at=after(100))
        retired = a_retired(key, due_at=after(50))
        stores.tokens.put_retired(retired)
        stores.tokens.put_retired(a_retired(TokenKey(key.name, "other"), "ffeeddccbbaa0011"))
        (due,) = due_keys(stores, key.name, after(60))
        assert (due.scope_id, due.token_id, due.due_at) == (key.scope_id, retired.token_id, after(50))
        assert stores.due_index.claim(due, until=after(500))
        assert due_keys(stores, key.name, after(60)) == []
        stores.tokens.delete_retired(retired)
        assert [found.token_id for found in due_keys(stores, key.name, after(1000))] == [None]

"""docs/cost.md agrees with the handlers and with prices.toml."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import unified_diff

import pytest

from local.aws import AwsServer
from local.providers import start_providers
from local.resources import LocalStack
from tests.cost.counting import index_units, item_size, read_units, write_units
from tests.cost.courses import Bench, Counted, count_all
from tests.cost.money import Tariff, steadied
from tests.cost.page import PAGE, render


@pytest.fixture(scope="module")
def counted(aws: AwsServer, stack: LocalStack) -> Iterator[Counted]:
    with start_providers() as providers, pytest.MonkeyPatch.context() as monkeypatch:
        yield steadied(count_all(Bench.over(aws, stack, providers, monkeypatch)))


def test_the_page_is_up_to_date(counted: Counted) -> None:
    page = PAGE.read_text(encoding="utf-8")
    rendered = render(counted, Tariff.read())
    assert list(unified_diff(page.splitlines(), rendered.splitlines(), "docs/cost.md", "make cost", n=0)) == []


def test_hits_are_cheap(counted: Counted) -> None:
    courses = counted.courses
    assert courses["memory"].calls == {}
    assert courses["table_opened"].calls == {"dynamodb:BatchGetItem": 1}
    assert courses["table_unopened"].calls == {"dynamodb:BatchGetItem": 1, "kms:Decrypt": 1}


def test_an_empty_minute_writes_nothing(counted: Counted) -> None:
    use = counted.courses["sweep_empty"]
    assert (set(use.calls), use.write_units) == ({"dynamodb:Query"}, 0)


def test_every_price_has_a_page_and_every_page_a_price() -> None:
    document = Tariff.read().document
    served = {name: [price for price in document["prices"] if price.startswith(name)] for name in document["sources"]}
    assert all(served.values())
    assert sorted(price for prices in served.values() for price in prices) == sorted(document["prices"])


def test_the_mix_is_a_whole() -> None:
    estimates = Tariff.read().document["estimates"]
    assert sum(share for name, share in estimates.items() if name.startswith("mix_")) == pytest.approx(1)


@pytest.mark.parametrize(("size", "read", "write"), [(0, 1, 1), (1024, 1, 1), (1025, 1, 2), (4096, 1, 4), (4097, 2, 5)])
def test_units_are_rounded_up(size: int, read: int, write: int) -> None:
    assert (read_units(size, strong=True), read_units(size, strong=False), write_units(size)) == (read, read / 2, write)


def test_an_items_size_is_that_of_its_names_and_values() -> None:
    item = {
        "pk": {"S": "é"},  # 2 + 2
        "n": {"N": "1795361575313"},  # 1 + 7 + 1
        "b": {"B": b"12345"},  # 1 + 5
        "t": {"BOOL": True},  # 1 + 1
        "l": {"L": [{"M": {"a": {"S": "x"}}}]},  # 1 + 3 + 1 + 3 + 1 + 1 + 1
    }
    assert item_size(item) == 4 + 9 + 6 + 2 + 11


def test_a_moved_due_time_is_an_index_entry_deleted_and_one_put() -> None:
    none = {"pk": {"S": "C#a/b"}}
    early, late = ({**none, "due_shard": {"N": "1"}, "due_at": {"N": at}} for at in ("1", "2"))
    moves = [(early, late), (none, early), (early, none), (early, early), (none, none)]
    assert [index_units(before, after) for before, after in moves] == [2, 1, 1, 0, 0]


def test_a_changed_ttl_is_an_index_entry_updated() -> None:
    item = {"pk": {"S": "C#a/b"}, "due_shard": {"N": "1"}, "due_at": {"N": "1"}, "ttl": {"N": "1"}}
    later, used = {**item, "ttl": {"N": "2"}}, {**item, "last_used_at": {"N": "2"}}
    off_the_index = [{"pk": {"S": "C#a/b"}, "ttl": {"N": number}} for number in ("1", "2")]
    moves = [(item, later), (item, used), (off_the_index[0], off_the_index[1])]
    assert [index_units(before, after) for before, after in moves] == [1, 0, 0]

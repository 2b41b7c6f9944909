"""The budget and cooldown of an endpoint over DynamoDB: one item per host, client or connection."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from token_broker.adapters.aws import aws_errors
from token_broker.adapters.dynamodb.item_table import DYNAMODB, ItemTable, item_key
from token_broker.adapters.dynamodb.items import FORMAT, Item, moment, number, read_moment, seconds
from token_broker.adapters.dynamodb.keys import endpoint_key
from token_broker.core.providers import MINUTE, start_of_period
from token_broker.core.schedule import KEEP

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MAX_TRIES = 5
NAMES = {"#period_began": "period_began", "#taken": "taken", "#cooldown_until": "cooldown_until"}
NOT_COOLING_DOWN = "(attribute_not_exists(#cooldown_until) OR #cooldown_until <= :now)"


class DynamoBudgets:
    """Budgets (see ports). Remembers the period of the last host: the first `take` of a period is then one call."""

    def __init__(self, client: DynamoDBClient, *, token_table: str) -> None:
        self._table = ItemTable(client, token_table)
        self._last_read: tuple[str, datetime | None] | None = None

    def busy_until(self, host: str, *, now: datetime, limit: int, period: timedelta = MINUTE) -> datetime | None:
        with aws_errors(DYNAMODB):
            response = self._table.client.get_item(TableName=self._table.name, Key=item_key(endpoint_key(host)))
        item: Item = response.get("Item") or {}
        self._last_read = host, read_moment(item, "period_began")
        return _free_at(item, now, limit, period)

    def take(self, host: str, *, now: datetime, limit: int, period: timedelta = MINUTE) -> datetime | None:
        period_began = start_of_period(now, period)
        began_at: datetime | None = period_began
        if self._last_read is not None and self._last_read[0] == host:
            began_at = self._last_read[1]
        for _ in range(MAX_TRIES):
            if began_at is None or began_at < period_began:
                taken, item = self._take_first(host, period_began, now)
            else:
                taken, item = self._take_another(host, period_began, now, limit)
            if taken:
                return None
            busy_until = _free_at(item or {}, now, limit, period)
            if busy_until is not None:
                return busy_until
            began_at = read_moment(item or {}, "period_began")
        return period_began + period

    def _take_another(self, host: str, period_began: datetime, now: datetime, limit: int) -> tuple[bool, Item | None]:
        """Takes one more request of this period. Returns whether it could; if not, the item as it is."""
        return self._table.update(
            endpoint_key(host),
            "ADD #taken :one",
            {":period": moment(period_began), ":one": number(1), ":now": moment(now), ":limit": number(limit)},
            condition=f"#period_began = :period AND #taken < :limit AND {NOT_COOLING_DOWN}",
            names=NAMES,
        )

    def _take_first(self, host: str, period_began: datetime, now: datetime) -> tuple[bool, Item | None]:
        """Begins this period's budget with one request. Returns whether it could; if not, the item as it is."""
        return self._table.update(
            endpoint_key(host),
            "SET #period_began = :period, #taken = :one, #format = :format, #ttl = :ttl",
            {
                ":period": moment(period_began),
                ":one": number(1),
                ":now": moment(now),
                ":format": number(FORMAT),
                ":ttl": seconds(now + KEEP),
            },
            condition=f"(attribute_not_exists(#period_began) OR #period_began < :period) AND {NOT_COOLING_DOWN}",
            names=NAMES | {"#format": "format", "#ttl": "ttl"},
        )

    def cool_down(self, host: str, until: datetime) -> None:
        self._table.update(
            endpoint_key(host),
            "SET #cooldown_until = :until, #format = :format, #ttl = :ttl",
            {":until": moment(until), ":format": number(FORMAT), ":ttl": seconds(until + KEEP)},
            condition="attribute_not_exists(#cooldown_until) OR #cooldown_until < :until",
            names={"#cooldown_until": "cooldown_until", "#format": "format", "#ttl": "ttl"},
        )


def _free_at(item: Item, now: datetime, limit: int, period: timedelta) -> datetime | None:
    """When the next request may be taken: after the cooldown, or in the next period if the budget is used up."""
    cooldown_until = read_moment(item, "cooldown_until")
    if cooldown_until is not None and cooldown_until > now:
        return cooldown_until
    period_began = start_of_period(now, period)
    began_at = read_moment(item, "period_began")
    if began_at is None or began_at < period_began:
        return None
    used_up = began_at > period_began or int(item["taken"]["N"]) >= limit
    return period_began + period if used_up else None

"""The budget of an endpoint: one item per host, `H#{host}`, with the minute's count and a rest."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from token_broker.adapters.items import BUDGET, FORMAT, moment, number, read_moment, seconds
from token_broker.adapters.token_table import KEEP, MAX_TRIES, TokenTable


class Budgets:
    """The budget's part of TokenStore (see ports)."""

    _table: TokenTable

    def take_budget(self, host: str, *, now: datetime, limit: int) -> datetime | None:
        minute = now.replace(second=0, microsecond=0)
        values: dict[str, Any] = {":minute": moment(minute), ":one": number(1), ":now": moment(now)}
        awake = "(attribute_not_exists(rest_until) OR rest_until <= :now)"
        for _ in range(MAX_TRIES):
            taken, item = self._table.update(
                f"H#{host}",
                BUDGET,
                "ADD taken :one",
                values | {":limit": number(limit)},
                condition=f"minute_at = :minute AND taken < :limit AND {awake}",
            )
            if taken:
                return None
            rest_until = read_moment(item or {}, "rest_until")
            if rest_until is not None and rest_until > now:
                return rest_until
            if item is not None and read_moment(item, "minute_at") == minute:
                return minute + timedelta(minutes=1)
            begun, _item = self._table.update(
                f"H#{host}",
                BUDGET,
                "SET minute_at = :minute, taken = :one, #format = :format, #ttl = :ttl",
                {
                    ":minute": moment(minute),
                    ":one": number(1),
                    ":now": moment(now),
                    ":format": number(FORMAT),
                    ":ttl": seconds(now + KEEP),
                },
                condition=f"(attribute_not_exists(minute_at) OR minute_at < :minute) AND {awake}",
                names={"#format": "format", "#ttl": "ttl"},
            )
            if begun:
                return None
        return minute + timedelta(minutes=1)

    def rest_host(self, host: str, until: datetime) -> None:
        self._table.update(
            f"H#{host}",
            BUDGET,
            "SET rest_until = :until, #format = :format, #ttl = :ttl",
            {":until": moment(until), ":format": number(FORMAT), ":ttl": seconds(until + KEEP)},
            condition="attribute_not_exists(rest_until) OR rest_until < :until",
            names={"#format": "format", "#ttl": "ttl"},
        )

"""The budget and cooldown of an endpoint: one item per host."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from token_broker.adapters.dynamodb.items import FORMAT, moment, number, read_moment, seconds
from token_broker.adapters.dynamodb.keys import endpoint_key
from token_broker.adapters.dynamodb.token_table import KEEP, MAX_TRIES, TokenTable


class Budgets:
    """The part of TokenStore about budgets (see ports)."""

    _table: TokenTable

    def take_budget(self, host: str, *, now: datetime, limit: int) -> datetime | None:
        minute = now.replace(second=0, microsecond=0)
        values: dict[str, Any] = {":minute": moment(minute), ":one": number(1), ":now": moment(now)}
        not_cooling_down = "(attribute_not_exists(cooldown_until) OR cooldown_until <= :now)"
        for _ in range(MAX_TRIES):
            taken, item = self._table.update(
                endpoint_key(host),
                "ADD taken :one",
                values | {":limit": number(limit)},
                condition=f"minute_at = :minute AND taken < :limit AND {not_cooling_down}",
            )
            if taken:
                return None
            cooldown_until = read_moment(item or {}, "cooldown_until")
            if cooldown_until is not None and cooldown_until > now:
                return cooldown_until
            if item is not None and read_moment(item, "minute_at") == minute:
                return minute + timedelta(minutes=1)
            begun, _item = self._table.update(
                endpoint_key(host),
                "SET minute_at = :minute, taken = :one, #format = :format, #ttl = :ttl",
                {
                    ":minute": moment(minute),
                    ":one": number(1),
                    ":now": moment(now),
                    ":format": number(FORMAT),
                    ":ttl": seconds(now + KEEP),
                },
                condition=f"(attribute_not_exists(minute_at) OR minute_at < :minute) AND {not_cooling_down}",
                names={"#format": "format", "#ttl": "ttl"},
            )
            if begun:
                return None
        return minute + timedelta(minutes=1)

    def cool_down_host(self, host: str, until: datetime) -> None:
        self._table.update(
            endpoint_key(host),
            "SET cooldown_until = :until, #format = :format, #ttl = :ttl",
            {":until": moment(until), ":format": number(FORMAT), ":ttl": seconds(until + KEEP)},
            condition="attribute_not_exists(cooldown_until) OR cooldown_until < :until",
            names={"#format": "format", "#ttl": "ttl"},
        )

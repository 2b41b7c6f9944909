"""What rests on a whole connection: refused credentials, open logins, trials. One item, `GUARD`, per connection."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from token_broker.adapters.items import FORMAT, GUARD, failure_map, moment, number, read_string, seconds, string
from token_broker.adapters.token_table import KEEP, MAX_TRIES, TokenTable
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName
from token_broker.core.tokens import Guard
from token_broker.errors import BrokerUnavailable


class Guards:
    """The guard's part of TokenStore (see ports)."""

    _table: TokenTable

    def put_guard(self, name: ConnectionName, failure: Failure, *, settled: bool, seen: Failure | None = None) -> None:
        attribute = "rate_limit" if failure.limited else "failure"
        values = {
            ":failure": failure_map(failure),
            ":format": number(FORMAT),
            ":ttl": seconds(failure.retry_at + KEEP),
            ":retry_at": moment(failure.retry_at),
        }
        if seen is not None:
            values[":seen"] = moment(seen.at)
        put, _ = self._table.update(
            name.pk,
            GUARD,
            f"SET {attribute} = :failure, #format = :format, #ttl = :ttl{' REMOVE unresolved' if settled else ''}",
            values,
            condition=f"attribute_not_exists({attribute}) OR {attribute}.retry_at <= :retry_at"
            + (f" OR {attribute}.#at = :seen" if seen is not None else ""),
            names={"#format": "format", "#ttl": "ttl"} | ({"#at": "at"} if seen is not None else {}),
        )
        if settled and not put:
            self.clear_guard(name, Guard())

    def clear_guard(self, name: ConnectionName, seen: Guard) -> None:
        """A newer failure than the one seen is somebody else's news and stays."""
        if seen.failure is None and seen.limited is None:
            self._table.update(name.pk, GUARD, "REMOVE unresolved", {}, condition="attribute_exists(pk)")
        for attribute, failure in (("failure", seen.failure), ("rate_limit", seen.limited)):
            if failure is not None:
                self._table.update(
                    name.pk,
                    GUARD,
                    f"REMOVE {attribute}, unresolved, tried",
                    {":at": moment(failure.at)},
                    condition=f"{attribute}.#at = :at",
                    names={"#at": "at"},
                )

    def begin_attempt(self, name: ConnectionName, owner: str, version: str) -> int:
        values = {
            ":one": number(1),
            ":owner": string(owner),
            ":version": string(version),
            ":format": number(FORMAT),
        }
        for _ in range(MAX_TRIES):
            # A repeat of this write, whose answer was lost, finds itself and counts nothing.
            begun, item = self._table.update(
                name.pk,
                GUARD,
                "SET unresolved = if_not_exists(unresolved, :none) + :one, attempt_by = :owner, #format = :format",
                values | {":none": number(0)},
                condition="attempt_version = :version AND attempt_by <> :owner",
                names={"#format": "format"},
            )
            unresolved = int((item or {}).get("unresolved", number(0))["N"])
            if begun or (item is not None and read_string(item, "attempt_by") == owner):
                return unresolved + begun
            begun, _item = self._table.update(
                name.pk,
                GUARD,
                "SET unresolved = :one, attempt_by = :owner, attempt_version = :version, #format = :format",
                values,
                condition="attribute_not_exists(attempt_version) OR attempt_version <> :version",
                names={"#format": "format"},
            )
            if begun:
                return 1
        raise BrokerUnavailable("The connection's item changes faster than it can be written.")

    def settle_attempt(self, name: ConnectionName) -> None:
        self._table.update(
            name.pk,
            GUARD,
            "ADD unresolved :minus",
            {":minus": number(-1), ":none": number(0)},
            condition="unresolved > :none",
        )

    def note_version(self, name: ConnectionName, tried: Sequence[tuple[str, datetime]]) -> None:
        entries = [{"M": {"version": string(version), "at": moment(at)}} for version, at in tried]
        self._table.update(name.pk, GUARD, "SET tried = :tried", {":tried": {"L": entries}})

    def begin_trial(self, name: ConnectionName, *, now: datetime, not_after: datetime) -> bool:
        begun, _ = self._table.update(
            name.pk,
            GUARD,
            "SET trial_at = :now, #format = :format, #ttl = if_not_exists(#ttl, :kept)",
            {
                ":now": moment(now),
                ":not_after": moment(not_after),
                ":format": number(FORMAT),
                ":kept": seconds(now + KEEP),
            },
            # The last: a repeat of this write, whose answer was lost.
            condition="attribute_not_exists(trial_at) OR trial_at <= :not_after OR trial_at = :now",
            names={"#format": "format", "#ttl": "ttl"},
        )
        return begun

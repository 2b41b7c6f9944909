"""Connection health: failures of the credentials, unresolved logins, trials. One item per connection."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from token_broker.adapters.dynamodb.items import FORMAT, failure_map, moment, number, read_string, seconds, string
from token_broker.adapters.dynamodb.keys import health_key
from token_broker.adapters.dynamodb.token_table import KEEP, MAX_TRIES, TokenTable
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName
from token_broker.core.records import ConnectionHealth
from token_broker.errors import BrokerUnavailable


class ConnectionHealthItems:
    """The part of TokenStore about connection health (see ports)."""

    _table: TokenTable

    def put_health(
        self, name: ConnectionName, failure: Failure, *, settled: bool, replaced: Failure | None = None
    ) -> None:
        attribute = "rate_limit" if failure.rate_limited else "failure"
        values = {
            ":failure": failure_map(failure),
            ":format": number(FORMAT),
            ":ttl": seconds(failure.retry_at + KEEP),
            ":retry_at": moment(failure.retry_at),
        }
        if replaced is not None:
            values[":replaced"] = moment(replaced.at)
        put, _ = self._table.update(
            health_key(name),
            f"SET {attribute} = :failure, #format = :format, #ttl = :ttl"
            + (" REMOVE unresolved_logins" if settled else ""),
            values,
            condition=f"attribute_not_exists({attribute}) OR {attribute}.retry_at <= :retry_at"
            + (f" OR {attribute}.#at = :replaced" if replaced is not None else ""),
            names={"#format": "format", "#ttl": "ttl"} | ({"#at": "at"} if replaced is not None else {}),
        )
        if settled and not put:
            self.clear_health(name, ConnectionHealth())

    def clear_health(self, name: ConnectionName, read_as: ConnectionHealth) -> None:
        """A failure that was stored since `read_as` was read stays."""
        if read_as.failure is None and read_as.rate_limit is None:
            self._table.update(health_key(name), "REMOVE unresolved_logins", {}, condition="attribute_exists(pk)")
        for attribute, failure in (("failure", read_as.failure), ("rate_limit", read_as.rate_limit)):
            if failure is not None:
                self._table.update(
                    health_key(name),
                    f"REMOVE {attribute}, unresolved_logins, new_versions",
                    {":at": moment(failure.at)},
                    condition=f"{attribute}.#at = :at",
                    names={"#at": "at"},
                )

    def begin_login(self, name: ConnectionName, owner: str, version: str) -> int:
        values = {
            ":one": number(1),
            ":owner": string(owner),
            ":version": string(version),
            ":format": number(FORMAT),
        }
        for _ in range(MAX_TRIES):
            # A repeat of this write whose response was lost finds its own owner and does not count again.
            begun, item = self._table.update(
                health_key(name),
                "SET unresolved_logins = if_not_exists(unresolved_logins, :none) + :one, "
                "login_by = :owner, #format = :format",
                values | {":none": number(0)},
                condition="login_version = :version AND login_by <> :owner",
                names={"#format": "format"},
            )
            unresolved_logins = int((item or {}).get("unresolved_logins", number(0))["N"])
            if begun or (item is not None and read_string(item, "login_by") == owner):
                return unresolved_logins + begun
            begun, _item = self._table.update(
                health_key(name),
                "SET unresolved_logins = :one, login_by = :owner, login_version = :version, #format = :format",
                values,
                condition="attribute_not_exists(login_version) OR login_version <> :version",
                names={"#format": "format"},
            )
            if begun:
                return 1
        raise BrokerUnavailable("The connection's item changes faster than it can be written.")

    def settle_login(self, name: ConnectionName) -> None:
        self._table.update(
            health_key(name),
            "ADD unresolved_logins :minus",
            {":minus": number(-1), ":none": number(0)},
            condition="unresolved_logins > :none",
        )

    def note_version(self, name: ConnectionName, new_versions: Sequence[tuple[str, datetime]]) -> None:
        entries = [{"M": {"version": string(version), "at": moment(at)}} for version, at in new_versions]
        self._table.update(health_key(name), "SET new_versions = :versions", {":versions": {"L": entries}})

    def begin_trial(self, name: ConnectionName, *, now: datetime, not_after: datetime) -> bool:
        begun, _ = self._table.update(
            health_key(name),
            "SET trial_at = :now, #format = :format, #ttl = if_not_exists(#ttl, :kept)",
            {
                ":now": moment(now),
                ":not_after": moment(not_after),
                ":format": number(FORMAT),
                ":kept": seconds(now + KEEP),
            },
            # The last alternative is a repeat of this write whose response was lost.
            condition="attribute_not_exists(trial_at) OR trial_at <= :not_after OR trial_at = :now",
            names={"#format": "format", "#ttl": "ttl"},
        )
        return begun

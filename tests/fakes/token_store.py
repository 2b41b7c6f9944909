"""The token table in memory, under the same contracts as the stores over DynamoDB."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from tests.fakes.connection_store import InMemoryConnectionStore
from token_broker.core.health import ConnectionHealth
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.providers import MINUTE, start_of_period
from token_broker.core.records import RetiredToken, TokenRecord
from token_broker.core.schedule import KEEP, SHARDS, shard_of
from token_broker.ports import ConnectionItems, ConnectionStore, DueKey, StoredSettings

# Due time, provider, connection, scope_id and token_id ("" for a token key): in the order of the index.
Entry = tuple[datetime, str, str, str, str]


@dataclass
class InMemoryTokenTable:
    """The items of the table. A simulated day asks millions of times: no call looks at more than it is about."""

    records: dict[TokenKey, TokenRecord] = field(default_factory=dict)
    keys: defaultdict[ConnectionName, dict[str, TokenKey]] = field(default_factory=lambda: defaultdict(dict))
    retired: defaultdict[ConnectionName, dict[tuple[str, str], RetiredToken]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    health: dict[ConnectionName, ConnectionHealth] = field(default_factory=dict)
    due: list[list[Entry]] = field(default_factory=lambda: [[] for _ in range(SHARDS)])

    def place(self, key: TokenKey, token_id: str, before: datetime | None, after: datetime | None) -> None:
        """Moves an item in the due index."""
        if before == after:
            return
        entries, place = self.due[shard_of(key)], (key.name.provider, key.name.connection, key.scope_id, token_id)
        if before is not None:
            del entries[bisect_left(entries, (before, *place))]
        if after is not None:
            insort(entries, (after, *place))


class InMemoryTokenStore:
    """TokenStore (see ports)."""

    def __init__(self, connections: ConnectionStore | None = None, table: InMemoryTokenTable | None = None) -> None:
        self._connections = connections or InMemoryConnectionStore()
        self.table = table or InMemoryTokenTable()

    def read(self, key: TokenKey) -> tuple[StoredSettings | None, TokenRecord]:
        return self._connections.get(key.name), self._record(key)

    def read_due(self, name: ConnectionName, scope_id: str) -> tuple[StoredSettings | None, TokenRecord | None]:
        key = self.table.keys[name].get(scope_id)
        return self._connections.get(name), self._record(key) if key is not None else None

    def read_retired(
        self, name: ConnectionName, scope_id: str, token_id: str
    ) -> tuple[StoredSettings | None, TokenRecord | None, RetiredToken | None]:
        retired = self.table.retired[name].get((scope_id, token_id))
        record = self._record(retired.key) if retired is not None else None
        return self._connections.get(name), record, retired

    def items(self, name: ConnectionName) -> ConnectionItems:
        records = [self._record(key) for key in self.table.keys[name].values()]
        return ConnectionItems(records, list(self.table.retired[name].values()))

    def items_of(self, names: Sequence[ConnectionName]) -> Sequence[ConnectionItems]:
        return [self.items(name) for name in names]

    def save(self, before: TokenRecord, after: TokenRecord) -> TokenRecord | None:
        key = after.key
        stored = self.table.records.get(key, TokenRecord(key))
        if stored.revision == after.revision:
            return None
        if stored.revision != before.revision:
            return replace(stored, health=before.health)
        # A claim of the sweep moves the due time and no revision: it stays unless this write changes it.
        due_at = stored.due_at if before.due_at == after.due_at else after.due_at
        delete_at = stored.delete_at if before.delete_at == after.delete_at else after.delete_at
        self.table.place(key, "", stored.due_at, due_at)
        self.table.records[key] = replace(after, due_at=due_at, delete_at=delete_at, health=ConnectionHealth())
        self.table.keys[key.name][key.scope_id] = key
        return None

    def put_retired(self, token: RetiredToken) -> None:
        tokens, place = self.table.retired[token.key.name], (token.key.scope_id, token.token_id)
        before = tokens.get(place)
        if before is not None and not token.revoke:
            return
        self.table.place(token.key, token.token_id, before.due_at if before is not None else None, token.due_at)
        tokens[place] = token

    def delete_retired(self, token: RetiredToken) -> None:
        found = self.table.retired[token.key.name].pop((token.key.scope_id, token.token_id), None)
        if found is not None:
            self.table.place(token.key, token.token_id, found.due_at, None)

    def _record(self, key: TokenKey) -> TokenRecord:
        record = self.table.records.get(key) or TokenRecord(key)
        health = self.table.health.get(key.name)
        return record if health is None else replace(record, health=health)


class InMemoryHealthStore:
    """HealthStore (see ports)."""

    def __init__(self, table: InMemoryTokenTable | None = None) -> None:
        self._table = table or InMemoryTokenTable()

    def save(self, name: ConnectionName, before: ConnectionHealth, after: ConnectionHealth) -> ConnectionHealth | None:
        stored = self._table.health.get(name, ConnectionHealth())
        if stored.revision == after.revision:
            return None
        if stored.revision != before.revision:
            return stored
        self._table.health[name] = after
        return None


class InMemoryDueIndex:
    """DueIndex (see ports)."""

    def __init__(self, table: InMemoryTokenTable | None = None) -> None:
        self._table = table or InMemoryTokenTable()

    def due(self, shard: int, *, until: datetime) -> Sequence[DueKey]:
        entries = self._table.due[shard]
        found = entries[: bisect_right(entries, until, key=lambda entry: entry[0])]
        return [self._due_key(entry) for entry in found]

    def claim(self, due: DueKey, *, until: datetime) -> bool:
        if due.token_id is not None:
            retired = self._table.retired[due.name].get((due.scope_id, due.token_id))
            if retired is None or retired.due_at != due.due_at:
                return False
            self._table.place(retired.key, retired.token_id, retired.due_at, until)
            self._table.retired[due.name][due.scope_id, due.token_id] = replace(retired, due_at=until)
            return True
        key = self._table.keys[due.name].get(due.scope_id)
        if key is None or self._table.records[key].due_at != due.due_at:
            return False
        record = self._table.records[key]
        delete_at = max(record.delete_at, until + KEEP) if record.delete_at is not None else None
        self._table.place(key, "", record.due_at, until)
        self._table.records[key] = replace(record, due_at=until, delete_at=delete_at)
        return True

    def _due_key(self, entry: Entry) -> DueKey:
        due_at, provider, connection, scope_id, token_id = entry
        name = ConnectionName(provider, connection)
        if token_id:
            delete_at = self._table.retired[name][scope_id, token_id].expires_at + KEEP
            return DueKey(name, scope_id, due_at, token_id, delete_at)
        return DueKey(name, scope_id, due_at, None, self._table.records[self._table.keys[name][scope_id]].delete_at)


@dataclass(slots=True)
class _Budget:
    began_at: datetime
    taken: int = 0
    cooldown_until: datetime | None = None


class InMemoryBudgets:
    """Budgets (see ports)."""

    def __init__(self) -> None:
        self._budgets: dict[str, _Budget] = {}

    @property
    def cooldowns(self) -> Mapping[str, datetime]:
        """The hosts that were cooled down, and until when."""
        return {host: budget.cooldown_until for host, budget in self._budgets.items() if budget.cooldown_until}

    def busy_until(self, host: str, *, now: datetime, limit: int, period: timedelta = MINUTE) -> datetime | None:
        budget, began_at = self._budgets.get(host), start_of_period(now, period)
        if budget is None:
            return None
        if budget.cooldown_until is not None and budget.cooldown_until > now:
            return budget.cooldown_until
        if budget.began_at < began_at:
            return None
        return began_at + period if budget.began_at > began_at or budget.taken >= limit else None

    def take(self, host: str, *, now: datetime, limit: int, period: timedelta = MINUTE) -> datetime | None:
        busy_until = self.busy_until(host, now=now, limit=limit, period=period)
        if busy_until is not None:
            return busy_until
        began_at = start_of_period(now, period)
        budget = self._budgets.setdefault(host, _Budget(began_at))
        if budget.began_at < began_at:
            budget.began_at = began_at
            budget.taken = 0
        budget.taken += 1
        return None

    def cool_down(self, host: str, until: datetime) -> None:
        budget = self._budgets.setdefault(host, _Budget(datetime.min.replace(tzinfo=until.tzinfo)))
        budget.cooldown_until = max(budget.cooldown_until or until, until)

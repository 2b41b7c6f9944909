"""What one instance remembers: opened tokens and settings, for as long as a purge may take to reach it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime

from token_broker.core.connections import Connection
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.tokens import TokenRecord

MAX_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Remembered:
    """A record with its token opened. `read_at`: before it was read."""

    record: TokenRecord
    access_token: str = field(repr=False)
    read_at: datetime = field()


class TokenMemory:
    """Least-recently-used tokens by key, and settings as last read. Only an instance's own; lost with it."""

    def __init__(self, limit: int = MAX_REMEMBERED) -> None:
        self._limit = limit
        self._entries: OrderedDict[TokenKey, Remembered] = OrderedDict()
        self._connections: OrderedDict[ConnectionName, Connection] = OrderedDict()

    def recall(self, key: TokenKey) -> Remembered | None:
        """The last that was seen of a key, however old."""
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def remember(self, entry: Remembered) -> None:
        self._keep(self._entries, entry.record.key, entry)

    def drop(self, key: TokenKey) -> None:
        self._entries.pop(key, None)

    def forget(self, name: ConnectionName) -> None:
        """All tokens of a connection, at once: they were dropped."""
        for key in [key for key in self._entries if key.name == name]:
            del self._entries[key]

    def own_scope(self, name: ConnectionName) -> str:
        """The scope of a request that names none, as last seen: a guess that saves a read and is checked after it."""
        connection = self.connection(name)
        return connection.scope if connection is not None else ""

    def connection(self, name: ConnectionName) -> Connection | None:
        """The settings as last read, for whichever of the connection's keys: no token outlives them."""
        return self._connections.get(name)

    def learn(self, connection: Connection) -> None:
        self._keep(self._connections, connection.name, connection)

    def _keep(self, entries: OrderedDict, key: object, value: object) -> None:  # type: ignore[type-arg]  # of either kind
        entries[key] = value
        entries.move_to_end(key)
        if len(entries) > self._limit:
            entries.popitem(last=False)

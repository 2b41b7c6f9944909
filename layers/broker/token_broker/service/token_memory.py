"""What one execution environment keeps in memory: opened tokens and checked settings."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

from token_broker.core.connections import Connection
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import OpenedToken, TokenRecord

MAX_ENTRIES = 1000


@dataclass(frozen=True, slots=True)
class CachedToken:
    """A record with its token opened. `read_at`: the moment before it was read."""

    record: TokenRecord
    opened: OpenedToken
    read_at: datetime


class TokenMemory:
    """The tokens and settings used last. `limit`: the most of each."""

    def __init__(self, limit: int = MAX_ENTRIES) -> None:
        self._limit = limit
        self._tokens: OrderedDict[TokenKey, CachedToken] = OrderedDict()
        self._connections: OrderedDict[ConnectionName, Connection] = OrderedDict()

    def get(self, key: TokenKey) -> CachedToken | None:
        """A key's token as last read, however old."""
        found = self._tokens.get(key)
        if found is not None:
            self._tokens.move_to_end(key)
        return found

    def put(self, entry: CachedToken) -> None:
        self._keep(self._tokens, entry.record.key, entry)

    def forget(self, key: TokenKey) -> None:
        self._tokens.pop(key, None)

    def forget_tokens_of(self, name: ConnectionName) -> None:
        for key in [key for key in self._tokens if key.name == name]:
            del self._tokens[key]

    def default_scope(self, name: ConnectionName) -> str:
        """The connection's own scope as last read, else the empty one. It may have changed: check it after reading."""
        connection = self.connection(name)
        return connection.scope if connection is not None else ""

    def connection(self, name: ConnectionName) -> Connection | None:
        """A connection's settings as last read."""
        return self._connections.get(name)

    def put_connection(self, connection: Connection) -> None:
        self._keep(self._connections, connection.name, connection)

    def _keep(self, entries: OrderedDict, key: object, value: object) -> None:  # type: ignore[type-arg]  # of either kind
        entries[key] = value
        entries.move_to_end(key)
        if len(entries) > self._limit:
            entries.popitem(last=False)

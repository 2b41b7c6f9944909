"""Settings in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from token_broker.core.names import ConnectionName
from token_broker.ports import ANY_VERSION, ConditionFailed, StoredSettings


class InMemoryConnectionStore:
    """ConnectionStore (see ports). A cursor is the last name of a page."""

    def __init__(self) -> None:
        self._stored: dict[ConnectionName, StoredSettings] = {}

    def get(self, name: ConnectionName) -> StoredSettings | None:
        return self._stored.get(name)

    def put(
        self, name: ConnectionName, settings: Mapping[str, Any], *, version: str, expected: str | None, absent: bool
    ) -> StoredSettings | None:
        before = self._stored.get(name)
        if (absent and before is not None) or (expected is not None and not _has_version(before, expected)):
            raise ConditionFailed
        self._stored[name] = StoredSettings(name, dict(settings), version)
        return before

    def delete(self, name: ConnectionName, *, expected: str | None) -> bool:
        before = self._stored.get(name)
        if expected is not None and not _has_version(before, expected):
            raise ConditionFailed
        return self._stored.pop(name, None) is not None

    def page(self, limit: int, cursor: str | None) -> tuple[list[StoredSettings], str | None]:
        names = sorted(self._stored, key=str)
        start = 0
        if cursor is not None:
            if "/" not in cursor:
                raise ValueError("not a cursor")
            start = sum(1 for name in names if str(name) <= cursor)
        found = names[start : start + limit]
        following = str(found[-1]) if found and start + limit < len(names) else None
        return [self._stored[name] for name in found], following


def _has_version(stored: StoredSettings | None, version: str) -> bool:
    return stored is not None and version in (ANY_VERSION, stored.version)

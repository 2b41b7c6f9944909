"""Settings in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from token_broker.core.names import ConnectionName
from token_broker.ports import ANY_VERSION, KEPT_VERSIONS, ConditionFailed, StoredSettings


class InMemoryConnectionStore:
    """ConnectionStore (see ports)."""

    def __init__(self) -> None:
        self._stored: dict[ConnectionName, StoredSettings] = {}
        self._earlier: defaultdict[ConnectionName, list[StoredSettings]] = defaultdict(list)

    def get(self, name: ConnectionName) -> StoredSettings | None:
        return self._stored.get(name)

    def put(
        self,
        name: ConnectionName,
        settings: Mapping[str, Any],
        *,
        version: str,
        expected: str | None,
        absent: bool,
        at: datetime | None = None,
        caller: str | None = None,
    ) -> StoredSettings | None:
        before = self._stored.get(name)
        if (absent and before is not None) or (expected is not None and not _has_version(before, expected)):
            raise ConditionFailed
        number = 1 if before is None else before.number
        if before is not None and before.settings != settings:
            self._earlier[name] = [before, *self._earlier[name]][: KEPT_VERSIONS - 1]
            number += 1
        self._stored[name] = StoredSettings(name, dict(settings), version, number, at, caller)
        return before

    def delete(self, name: ConnectionName, *, expected: str | None) -> bool:
        before = self._stored.get(name)
        if before is not None and expected is not None and not _has_version(before, expected):
            raise ConditionFailed
        self._earlier.pop(name, None)
        return self._stored.pop(name, None) is not None

    def history(self, name: ConnectionName) -> list[StoredSettings]:
        current = self._stored.get(name)
        return [] if current is None else [current, *self._earlier[name]]

    def page(
        self, limit: int, after: ConnectionName | None, provider: str | None = None
    ) -> tuple[list[StoredSettings], bool]:
        names = [name for name in sorted(self._stored, key=str) if provider in (None, name.provider)]
        following = [name for name in names if after is None or str(name) > str(after)]
        return [self._stored[name] for name in following[:limit]], len(following) > limit


def _has_version(stored: StoredSettings | None, version: str) -> bool:
    return stored is not None and version in (ANY_VERSION, stored.version)

"""The settings that each connection had, and from when to when."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from tests.component.state_machine.stage import Stage
from token_broker.core.names import ConnectionName
from token_broker.ports import StoredSettings

COMMERCE_LAYER = "https://auth.commercelayer.io/oauth/token"


def host_in(stored: StoredSettings) -> str:
    """The host of the token endpoint that the settings name."""
    settings = stored.settings
    return urlsplit(settings.get("token_url") or settings.get("base_url") or COMMERCE_LAYER).netloc


@dataclass(frozen=True)
class Change:
    """A change of the settings. `stored`: the new ones; None: the connection was deleted."""

    seq: int
    at: datetime
    stored: StoredSettings | None


class History:
    """Records every write of settings."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._changes: dict[ConnectionName, list[Change]] = defaultdict(list)

    def changed(self, name: ConnectionName, stored: StoredSettings | None) -> None:
        self._changes[name].append(Change(self._stage.next_seq(), self._stage.clock(), stored))

    def end_of(self, name: ConnectionName, version: str) -> Change | None:
        """The change that replaced a version; None while it is current. A repeated write counts once."""
        after: Change | None = None
        for change in reversed(self._changes[name]):
            if change.stored is not None and change.stored.version == version:
                return after
            after = change
        return after

    def has_left(self, name: ConnectionName, host: str, since: datetime) -> bool:
        """Whether the settings named another host at any time from `since` on."""
        changes = self._changes[name]
        ends = [change.at for change in changes[1:]] + [self._stage.clock()]
        stored_since = [change.stored for change, end in zip(changes, ends, strict=True) if end >= since]
        return any(stored is not None and host_in(stored) != host for stored in stored_since)

"""What every connection store must do. A test class inherits the tests and gives the fixture `connections`."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from token_broker.core.names import ConnectionName
from token_broker.ports import ConditionFailed, ConnectionStore, StoredSettings

SETTINGS: dict[str, Any] = {"allowed_callers": ["*"], "params": {"audience": "ünïcode"}, "lifetime_s": 60}


def new_name() -> ConnectionName:
    """A connection that no other test has: a DynamoDB table serves the whole session."""
    return ConnectionName("oauth2", f"c-{uuid4().hex}")


def put(
    connections: ConnectionStore,
    name: ConnectionName,
    version: str = "s1",
    *,
    expected: str | None = None,
    absent: bool = False,
) -> StoredSettings | None:
    return connections.put(name, SETTINGS, version=version, expected=expected, absent=absent)


class ConnectionStoreContract:
    """The source of truth: settings as they were PUT, with a version."""

    def test_settings_are_read_as_they_were_put(self, connections: ConnectionStore) -> None:
        name = new_name()
        assert connections.get(name) is None
        assert put(connections, name) is None
        assert connections.get(name) == StoredSettings(name, SETTINGS, "s1")

    def test_a_put_returns_what_it_replaced(self, connections: ConnectionStore) -> None:
        name = new_name()
        put(connections, name)
        assert put(connections, name, "s2") == StoredSettings(name, SETTINGS, "s1")

    def test_a_put_over_another_version_fails(self, connections: ConnectionStore) -> None:
        name = new_name()
        put(connections, name)
        with pytest.raises(ConditionFailed):
            put(connections, name, "s2", expected="s0")
        assert put(connections, name, "s2", expected="s1") is not None
        assert connections.get(name) == StoredSettings(name, SETTINGS, "s2")

    def test_a_put_over_a_version_fails_if_there_is_none(self, connections: ConnectionStore) -> None:
        name = new_name()
        with pytest.raises(ConditionFailed):
            put(connections, name, expected="s1")
        assert connections.get(name) is None

    def test_a_put_of_a_new_connection_fails_if_it_exists(self, connections: ConnectionStore) -> None:
        name = new_name()
        assert put(connections, name, absent=True) is None
        with pytest.raises(ConditionFailed):
            put(connections, name, "s2", absent=True)
        assert connections.get(name) == StoredSettings(name, SETTINGS, "s1")

    def test_a_delete_returns_whether_there_was_one(self, connections: ConnectionStore) -> None:
        name = new_name()
        assert not connections.delete(name, expected=None)
        put(connections, name)
        assert connections.delete(name, expected=None)
        assert connections.get(name) is None

    def test_a_delete_of_another_version_fails(self, connections: ConnectionStore) -> None:
        name = new_name()
        put(connections, name)
        with pytest.raises(ConditionFailed):
            connections.delete(name, expected="s0")
        assert connections.get(name) is not None
        assert connections.delete(name, expected="s1")

    def test_pages_list_every_connection_once(self, connections: ConnectionStore) -> None:
        names = [new_name() for _ in range(5)]
        for name in names:
            put(connections, name)
        found: list[ConnectionName] = []
        cursor: str | None = None
        while True:
            page, cursor = connections.page(2, cursor)
            assert len(page) <= 2
            found += [stored.name for stored in page]
            if cursor is None:
                break
        assert len(found) == len(set(found))
        assert set(names) <= set(found)

    @pytest.mark.parametrize("cursor", ["nonsense", "ÿ", "QyM", "eA"])
    def test_an_invalid_cursor_is_an_error(self, connections: ConnectionStore, cursor: str) -> None:
        with pytest.raises(ValueError, match=r".*"):
            connections.page(2, cursor)

"""What every connection store must do. A test class inherits the tests and gives the fixture `connections`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from token_broker.core.names import ConnectionName
from token_broker.ports import KEPT_VERSIONS, ConditionFailed, ConnectionStore, StoredSettings

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
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

    def test_the_last_versions_are_kept_the_current_one_first(self, connections: ConnectionStore) -> None:
        name = new_name()
        assert connections.history(name) == []
        for number in range(KEPT_VERSIONS + 5):
            settings = {**SETTINGS, "lifetime_s": number}
            connections.put(name, settings, version=f"s{number}", expected=None, absent=False, at=NOW, caller="arn:x")
        versions = connections.history(name)
        kept = range(KEPT_VERSIONS + 4, 4, -1)
        assert [(found.version, found.settings["lifetime_s"]) for found in versions] == [(f"s{n}", n) for n in kept]
        assert {(found.changed_at, found.changed_by) for found in versions} == {(NOW, "arn:x")}

    def test_equal_settings_are_no_new_version(self, connections: ConnectionStore) -> None:
        name = new_name()
        put(connections, name)
        put(connections, name, "s2")
        assert [found.version for found in connections.history(name)] == ["s2"]

    def test_a_put_that_fails_leaves_no_version(self, connections: ConnectionStore) -> None:
        name = new_name()
        put(connections, name)
        with pytest.raises(ConditionFailed):
            connections.put(name, {**SETTINGS, "lifetime_s": 1}, version="s2", expected="s0", absent=False)
        assert [found.version for found in connections.history(name)] == ["s1"]

    def test_a_deleted_connection_leaves_no_version(self, connections: ConnectionStore) -> None:
        name = new_name()
        for number in range(3):
            settings = {**SETTINGS, "lifetime_s": number}
            connections.put(name, settings, version=f"s{number}", expected=None, absent=False)
        connections.delete(name, expected=None)
        assert connections.history(name) == []
        put(connections, name, "s9")
        assert [found.version for found in connections.history(name)] == ["s9"]

    def test_pages_list_every_connection_once_by_name(self, connections: ConnectionStore) -> None:
        names = [new_name() for _ in range(5)]
        for name in names:
            put(connections, name)
        put(connections, names[0], "s2")
        found = listed(connections, 2)
        assert set(names) <= set(found)
        assert found == sorted(set(found), key=str)

    def test_a_page_can_be_of_one_provider(self, connections: ConnectionStore) -> None:
        oauth2, unidy = new_name(), ConnectionName("unidy", new_name().connection)
        for name in (oauth2, unidy):
            put(connections, name)
        found = listed(connections, 2, "unidy")
        assert unidy in found
        assert {name.provider for name in found} == {"unidy"}


def listed(connections: ConnectionStore, limit: int, provider: str | None = None) -> list[ConnectionName]:
    """The names on all pages."""
    found: list[ConnectionName] = []
    after: ConnectionName | None = None
    while True:
        page, has_more = connections.page(limit, after, provider)
        assert len(page) <= limit
        found += [stored.name for stored in page]
        if not has_more:
            return found
        after = page[-1].name

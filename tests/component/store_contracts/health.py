"""Connection health."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

from tests.component.store_contracts.stores import Stores, new_key, some_health
from token_broker.core.health import ConnectionHealth


class HealthStoreContract:
    """HealthStore."""

    def test_every_field_of_health_comes_back(self, stores: Stores) -> None:
        key, health = new_key(), some_health()
        assert stores.health.save(key.name, ConnectionHealth(), health) is None
        assert stores.tokens.read(key)[1].health == health

    def test_health_is_saved_only_over_what_was_read(self, stores: Stores) -> None:
        name, first = new_key().name, some_health()
        stores.health.save(name, ConnectionHealth(), first)
        second = replace(first, failure=None, revision=uuid4().hex)
        assert stores.health.save(name, first, second) is None
        assert stores.health.save(name, first, replace(first, revision=uuid4().hex)) == second
        assert stores.health.save(name, ConnectionHealth(), replace(first, revision=uuid4().hex)) == second

    def test_a_repeat_of_a_health_write_succeeds(self, stores: Stores) -> None:
        name, health = new_key().name, some_health()
        assert stores.health.save(name, ConnectionHealth(), health) is None
        assert stores.health.save(name, ConnectionHealth(), health) is None

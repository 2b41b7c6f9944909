"""The in-memory stores pass the contracts of the real ones."""

from __future__ import annotations

import pytest

from tests.component.store_contracts import StoreContracts, Stores
from tests.fakes import (
    InMemoryBudgets,
    InMemoryConnectionStore,
    InMemoryConsentSessionStore,
    InMemoryConsentStore,
    InMemoryDueIndex,
    InMemoryHealthStore,
    InMemoryTokenStore,
    InMemoryTokenTable,
)


class TestInMemoryStores(StoreContracts):
    """Over dictionaries."""

    @pytest.fixture
    def stores(self) -> Stores:
        connections, table = InMemoryConnectionStore(), InMemoryTokenTable()
        return Stores(
            InMemoryTokenStore(connections, table),
            InMemoryHealthStore(table),
            InMemoryDueIndex(table),
            InMemoryBudgets(),
            connections,
            InMemoryConsentStore(),
            InMemoryConsentSessionStore(),
        )

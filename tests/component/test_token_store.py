"""The in-memory token store passes the contract of the real one."""

from __future__ import annotations

import pytest

from tests.component.token_store_contract import TokenStoreContract
from tests.fakes import InMemoryConnectionStore, InMemoryTokenStore


class TestInMemoryTokenStore(TokenStoreContract):
    """Over a dictionary."""

    @pytest.fixture
    def connections(self) -> InMemoryConnectionStore:
        return InMemoryConnectionStore()

    @pytest.fixture
    def store(self, connections: InMemoryConnectionStore) -> InMemoryTokenStore:
        return InMemoryTokenStore(connections)

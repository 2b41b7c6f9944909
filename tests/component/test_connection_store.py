"""The in-memory connection store passes the contract of the real one."""

from __future__ import annotations

import pytest

from tests.component.connection_store_contract import ConnectionStoreContract
from tests.fakes import InMemoryConnectionStore


class TestInMemoryConnectionStore(ConnectionStoreContract):
    """Over a dictionary."""

    @pytest.fixture
    def connections(self) -> InMemoryConnectionStore:
        return InMemoryConnectionStore()

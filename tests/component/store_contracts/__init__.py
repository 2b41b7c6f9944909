"""What every store of the token table must do. A test class inherits these tests and gives `stores` as a fixture."""

from tests.component.store_contracts.budgets import BudgetsContract
from tests.component.store_contracts.due_index import DueIndexContract
from tests.component.store_contracts.health import HealthStoreContract
from tests.component.store_contracts.stores import Stores
from tests.component.store_contracts.tokens import TokenStoreContract


class StoreContracts(TokenStoreContract, HealthStoreContract, DueIndexContract, BudgetsContract):
    """All tests."""


__all__ = ["StoreContracts", "Stores"]

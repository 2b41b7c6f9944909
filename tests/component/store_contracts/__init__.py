"""What every store must do. A test class inherits these tests and gives `stores` as a fixture."""

from tests.component.store_contracts.budgets import BudgetsContract
from tests.component.store_contracts.consent_sessions import ConsentSessionStoreContract
from tests.component.store_contracts.consents import ConsentStoreContract
from tests.component.store_contracts.due_index import DueIndexContract
from tests.component.store_contracts.health import HealthStoreContract
from tests.component.store_contracts.stores import Stores
from tests.component.store_contracts.tokens import TokenStoreContract


class StoreContracts(
    TokenStoreContract,
    HealthStoreContract,
    DueIndexContract,
    BudgetsContract,
    ConsentStoreContract,
    ConsentSessionStoreContract,
):
    """All tests."""


__all__ = ["StoreContracts", "Stores"]

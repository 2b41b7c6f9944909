"""What every token store must do. A test class inherits these tests and gives its store in the fixture `store`."""

from tests.component.token_store_contract.budgets import Budgets
from tests.component.token_store_contract.commits import Commits
from tests.component.token_store_contract.connection_health import ConnectionHealthItems
from tests.component.token_store_contract.due_index import DueIndex
from tests.component.token_store_contract.leases import Leases
from tests.component.token_store_contract.purges import Purges


class TokenStoreContract(Leases, Commits, ConnectionHealthItems, DueIndex, Purges, Budgets):
    """All tests. The class that inherits them gives the fixtures `store` and `connections`."""


__all__ = ["TokenStoreContract"]

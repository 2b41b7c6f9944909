"""What every token store must do. A test module names its store in a fixture `store` and inherits these tests."""

from tests.component.token_store_contract.budgets import Budgets
from tests.component.token_store_contract.commits import Commits
from tests.component.token_store_contract.connection_health import ConnectionHealthItems
from tests.component.token_store_contract.due_index import DueIndex
from tests.component.token_store_contract.leases import Leases
from tests.component.token_store_contract.purges import Purges


class TokenStoreContract(Leases, Commits, ConnectionHealthItems, DueIndex, Purges, Budgets):
    """All of it. The class that inherits it gives the fixtures `store` and `connections`."""


__all__ = ["TokenStoreContract"]

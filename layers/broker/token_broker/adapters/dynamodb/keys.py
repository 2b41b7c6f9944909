"""Keys of the items. ConnectionTable: pk `C#{provider}/{connection}`.

TokenTable: the same pk with sk `T#{scope_id}` (a token key) or `HEALTH` (connection health); pk `H#{host}` with sk
`BUDGET` (an endpoint).
"""

from __future__ import annotations

from token_broker.core.names import SCOPE_ID, ConnectionName, TokenKey, is_name

HEALTH = "HEALTH"
BUDGET = "BUDGET"
Key = tuple[str, str]


def connection_pk(name: ConnectionName) -> str:
    return f"C#{name}"


def connection_of(pk: str) -> ConnectionName | None:
    """The connection of a pk; None for any other text."""
    kind, _, path = pk.partition("#")
    provider, _, connection = path.partition("/")
    if kind != "C" or not is_name(provider) or not is_name(connection):
        return None
    return ConnectionName(provider, connection)


def token_sk(scope_id: str) -> str:
    return f"T#{scope_id}"


def scope_id_of(sk: str) -> str | None:
    """The scope_id of a token key's sk; None for any other text."""
    scope_id = sk.removeprefix("T#")
    return scope_id if sk.startswith("T#") and SCOPE_ID.fullmatch(scope_id) else None


def token_key(key: TokenKey) -> Key:
    return connection_pk(key.name), token_sk(key.scope_id)


def health_key(name: ConnectionName) -> Key:
    return connection_pk(name), HEALTH


def endpoint_key(host: str) -> Key:
    return f"H#{host}", BUDGET

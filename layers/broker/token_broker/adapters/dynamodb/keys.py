"""Keys of the items. ConnectionTable: pk `C#{provider}/{connection}`, and `V#{provider}/{connection}#{slot}` for an
earlier version of its settings.

TokenTable: the same pk with sk `T#{scope_id}` (a token key), `R#{scope_id}#{token_id}` (a retired token of it) or
`HEALTH` (connection health); pk `H#{host}` with sk `BUDGET` (an endpoint). GrantTable: the same pk with sk `CONSENT`;
pk `S#{consent_id}` with sk `SESSION` (the way to a consent).
"""

from __future__ import annotations

import re

from token_broker.core.names import ConnectionName, is_name

Key = tuple[str, str]
HEALTH = "HEALTH"
BUDGET = "BUDGET"
CONSENT = "CONSENT"
SESSION = "SESSION"
_TOKEN_SK = re.compile(r"T#([0-9a-f]{64})")
_RETIRED_SK = re.compile(r"R#([0-9a-f]{64})#([0-9a-f]{16})")


def connection_pk(name: ConnectionName) -> str:
    return f"C#{name}"


def version_pk(name: ConnectionName, slot: int) -> str:
    return f"V#{name}#{slot}"


def connection_of(pk: str) -> ConnectionName | None:
    """The connection of a pk; None for any other text."""
    kind, _, path = pk.partition("#")
    provider, _, connection = path.partition("/")
    if kind != "C" or not is_name(provider) or not is_name(connection):
        return None
    return ConnectionName(provider, connection)


def token_item_key(name: ConnectionName, scope_id: str) -> Key:
    return connection_pk(name), f"T#{scope_id}"


def retired_key(name: ConnectionName, scope_id: str, token_id: str) -> Key:
    return connection_pk(name), f"R#{scope_id}#{token_id}"


def health_key(name: ConnectionName) -> Key:
    return connection_pk(name), HEALTH


def consent_key(name: ConnectionName) -> Key:
    return connection_pk(name), CONSENT


def session_key(consent_id: str) -> Key:
    return f"S#{consent_id}", SESSION


def endpoint_key(host: str) -> Key:
    return f"H#{host}", BUDGET


def is_token_sk(sk: str) -> bool:
    return _TOKEN_SK.fullmatch(sk) is not None


def is_retired_sk(sk: str) -> bool:
    return _RETIRED_SK.fullmatch(sk) is not None


def parse_due_sk(sk: str) -> tuple[str, str | None] | None:
    """The scope_id, and the token_id of a retired token; None for any other text."""
    if match := _TOKEN_SK.fullmatch(sk):
        return match[1], None
    if match := _RETIRED_SK.fullmatch(sk):
        return match[1], match[2]
    return None

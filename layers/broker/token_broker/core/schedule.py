"""The sweep's rhythm and the shards of its index."""

from __future__ import annotations

from datetime import timedelta
from zlib import crc32

from token_broker.core.names import TokenKey

SHARDS = 8
SWEEP_INTERVAL = timedelta(seconds=60)


def shard_of(key: TokenKey) -> int:
    """The shard of the due index that a key belongs to. The connection counts too: many keys share a scope."""
    return crc32(f"{key.name} {key.scope_id}".encode()) % SHARDS

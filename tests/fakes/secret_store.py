"""Secrets with versions and stages, as in Secrets Manager."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import count

from token_broker.core.credentials import Secret
from token_broker.core.names import ConnectionName

CURRENT = "AWSCURRENT"
PENDING = "AWSPENDING"


class FakeSecretStore:
    """SecretStore (see ports). Versions are named v1, v2, ... in order, over all secrets."""

    def __init__(self) -> None:
        self._stages: dict[ConnectionName, dict[str, Secret]] = {}
        self._versions = count(1)

    def put(self, name: ConnectionName, value: Mapping[str, object] | str, *, stage: str = CURRENT) -> str:
        """Stores a new version at a stage. Returns its name."""
        text = value if isinstance(value, str) else json.dumps(dict(value))
        secret = Secret(text, f"v{next(self._versions)}")
        self._stages.setdefault(name, {})[stage] = secret
        return secret.version

    def promote(self, name: ConnectionName) -> None:
        """Makes the pending version the current one. It keeps its pending label, as it can in AWS."""
        self._stages[name][CURRENT] = self._stages[name][PENDING]

    def delete(self, name: ConnectionName) -> None:
        self._stages.pop(name, None)

    def read(self, name: ConnectionName, stage: str = CURRENT) -> Secret | None:
        return self._stages.get(name, {}).get(stage)

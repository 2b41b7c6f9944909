"""Secrets with versions and stages, as Secrets Manager keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import count

from token_broker.core.credentials import Secret
from token_broker.core.names import ConnectionName

CURRENT, PENDING = "AWSCURRENT", "AWSPENDING"


class FakeSecretStore:
    """SecretVault (see ports). Versions are named v1, v2, ... in the order of their making, over all secrets."""

    def __init__(self) -> None:
        self._stages: dict[ConnectionName, dict[str, Secret]] = {}
        self._versions = count(1)

    def put(self, name: ConnectionName, value: Mapping[str, object] | str, *, stage: str = CURRENT) -> str:
        """A new version at a stage. Returns its name."""
        text = value if isinstance(value, str) else json.dumps(dict(value))
        secret = Secret(text, f"v{next(self._versions)}")
        self._stages.setdefault(name, {})[stage] = secret
        return secret.version

    def promote(self, name: ConnectionName) -> None:
        """The pending version becomes the current one; the pending label may stay on it, as in AWS."""
        self._stages[name][CURRENT] = self._stages[name][PENDING]

    def delete(self, name: ConnectionName) -> None:
        self._stages.pop(name, None)

    def read(self, name: ConnectionName, stage: str = CURRENT) -> Secret | None:
        return self._stages.get(name, {}).get(stage)

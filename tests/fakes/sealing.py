"""Sealing without KMS. A sealed value opens only for its token key and purpose. Seals can be broken, KMS denied."""

from __future__ import annotations

import json

from token_broker.core.names import TokenKey
from token_broker.errors import BrokerUnavailable
from token_broker.ports import SealBroken


class FakeSealer:
    """Sealer (see ports). `broken`: no value can be opened. `denied`: KMS denies every call."""

    def __init__(self) -> None:
        self.sealed = 0
        self.opened = 0
        self.broken = False
        self.denied = False

    def seal(self, value: str, key: TokenKey, purpose: str) -> bytes:
        self._call_kms()
        self.sealed += 1
        # Reversed, so that a search for the token does not find it. Numbered, because every ciphertext is unique.
        return json.dumps([self.sealed, f"{key.name}|{key.scope_id}", purpose, value[::-1]]).encode()

    def open(self, sealed: bytes, key: TokenKey, purpose: str) -> str:
        self._call_kms()
        self.opened += 1
        try:
            _number, token_key, sealed_for, value = json.loads(sealed)
        except ValueError:
            raise SealBroken from None
        if self.broken or (token_key, sealed_for) != (f"{key.name}|{key.scope_id}", purpose):
            raise SealBroken
        return str(value)[::-1]

    def _call_kms(self) -> None:
        if self.denied:
            raise BrokerUnavailable("KMS fails.")

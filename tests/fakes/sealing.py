"""Sealing without KMS: what is sealed opens only for the same key and purpose, and can be broken or denied."""

from __future__ import annotations

import json

from token_broker.core.names import TokenKey
from token_broker.errors import BrokerUnavailable
from token_broker.ports import SealBroken


class FakeSealer:
    """Sealer (see ports). `broken`: nothing opens any more, as after a move to another key. `denied`: KMS says no."""

    def __init__(self) -> None:
        self.sealed = 0
        self.opened = 0
        self.broken = False
        self.denied = False

    def seal(self, value: str, key: TokenKey, purpose: str) -> bytes:
        self._ask_kms()
        self.sealed += 1
        # Reversed, so that no test finds a token in the clear by mistake; unique, as every ciphertext is.
        return json.dumps([self.sealed, f"{key.pk}|{key.sk}", purpose, value[::-1]]).encode()

    def open(self, sealed: bytes, key: TokenKey, purpose: str) -> str:
        self._ask_kms()
        self.opened += 1
        try:
            _number, place, sealed_for, value = json.loads(sealed)
        except ValueError:
            raise SealBroken from None
        if self.broken or (place, sealed_for) != (f"{key.pk}|{key.sk}", purpose):
            raise SealBroken
        return str(value)[::-1]

    def _ask_kms(self) -> None:
        if self.denied:
            raise BrokerUnavailable("KMS does not answer as it should.")

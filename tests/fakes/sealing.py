"""Sealing without KMS. A sealed value opens only in its place and for its purpose. Seals can be broken, KMS denied."""

from __future__ import annotations

import json

from token_broker.core.names import Place
from token_broker.errors import BrokerUnavailable
from token_broker.ports import Seal, SealBroken


class FakeSealer:
    """Sealer (see ports). `broken`: no value can be opened. `denied`: KMS denies every call."""

    def __init__(self) -> None:
        self.sealed = 0
        self.opened = 0
        self.broken = False
        self.denied = False

    def prepare(self, place: Place, purpose: str) -> Seal:
        self._call_kms()
        self.sealed += 1
        number = self.sealed

        def seal(value: str) -> bytes:
            # Reversed, so that a search for the token does not find it. Numbered, because every ciphertext is unique.
            return json.dumps([number, str(place), purpose, value[::-1]]).encode()

        return seal

    def open(self, sealed: bytes, place: Place, purpose: str) -> str:
        self._call_kms()
        self.opened += 1
        try:
            _number, sealed_at, sealed_for, value = json.loads(sealed)
        except ValueError:
            raise SealBroken from None
        if self.broken or (sealed_at, sealed_for) != (str(place), purpose):
            raise SealBroken
        return str(value)[::-1]

    def _call_kms(self) -> None:
        if self.denied:
            raise BrokerUnavailable("KMS fails.")

"""Signing keys without KMS: each connection's key is a private key that the test gives."""

from __future__ import annotations

from token_broker.core.names import ConnectionName
from token_broker.errors import BrokerUnavailable, ConnectionMisconfigured
from token_broker.oauth.assertions import Sign, pem_signer


class FakeSigningKeys:
    """SigningKeys (see ports). `denied`: KMS denies every call from now on."""

    def __init__(self) -> None:
        self.pems: dict[ConnectionName, str] = {}
        self.signed = 0
        self.denied = False

    def signer(self, name: ConnectionName, algorithm: str) -> Sign:
        def sign(message: bytes) -> bytes:
            if self.denied:
                raise BrokerUnavailable("KMS fails.")
            if name not in self.pems:
                raise ConnectionMisconfigured(f"There is no KMS key for {name}.")
            self.signed += 1
            return pem_signer(self.pems[name], algorithm)(message)

        return sign

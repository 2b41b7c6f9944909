"""Key pairs for signed assertions, made once per test run, and a verifier that is not the broker's signer."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

CURVES: Final = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}


@cache
def private_key(kind: str) -> str:
    """A private key in PEM form: RSA of so many bits ("2048"), or EC on a curve ("P-256")."""
    key = ec.generate_private_key(CURVES[kind]) if kind in CURVES else rsa.generate_private_key(65537, int(kind))
    return pem(key)


def pem(key: Any, passphrase: bytes | None = None) -> str:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    text: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return text.decode()


def public_key(private: str) -> str:
    """The public key of a private one, both in PEM form."""
    key = serialization.load_pem_private_key(private.encode(), password=None).public_key()
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def verified(jwt: str, public: str, algorithm: str) -> tuple[dict[str, Any], bytes]:
    """Header and payload of a JWT. Raises JoseError if the signature is not that of the key and algorithm."""
    key = (ECKey if algorithm == "ES256" else RSAKey).import_key(public)
    found = jws.deserialize_compact(jwt, key, algorithms=[algorithm])
    return found.headers(), found.payload

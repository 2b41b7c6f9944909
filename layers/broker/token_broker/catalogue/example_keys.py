"""The keys and the certificate that the placeholders of examples stand for, made in this process."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import Any

CERTIFICATE_FROM = datetime(2020, 1, 1, tzinfo=UTC)
CERTIFICATE_UNTIL = datetime(2100, 1, 1, tzinfo=UTC)


class ExampleKeys:
    """One RSA key, one EC key and a certificate of the RSA key. Each is made at its first use."""

    def secret(self, secret: Mapping[str, Any]) -> dict[str, Any]:
        """The secret of an example with its placeholders filled in."""
        made = {
            "{rsa_key}": lambda: self.rsa_pem,
            "{ec_key}": lambda: self.ec_pem,
            "{certificate}": self.certificate_pem,
        }
        return {name: made[value]() if value in made else value for name, value in secret.items()}

    @cached_property
    def _rsa(self) -> Any:
        from cryptography.hazmat.primitives.asymmetric import rsa

        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @cached_property
    def _ec(self) -> Any:
        from cryptography.hazmat.primitives.asymmetric import ec

        return ec.generate_private_key(ec.SECP256R1())

    @property
    def rsa_pem(self) -> str:
        return _pem(self._rsa)

    @property
    def ec_pem(self) -> str:
        return _pem(self._ec)

    @cached_property
    def _certificate(self) -> Any:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "example")])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self._rsa.public_key())
        builder = builder.serial_number(1).not_valid_before(CERTIFICATE_FROM).not_valid_after(CERTIFICATE_UNTIL)
        return builder.sign(self._rsa, hashes.SHA256())

    def certificate_pem(self) -> str:
        from cryptography.hazmat.primitives.serialization import Encoding

        pem: bytes = self._certificate.public_bytes(Encoding.PEM)
        return pem.decode()

    @property
    def x5t_s256(self) -> str:
        """The certificate's thumbprint (RFC 7515 section 4.1.8)."""
        from cryptography.hazmat.primitives.serialization import Encoding

        digest = hashlib.sha256(self._certificate.public_bytes(Encoding.DER)).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def read_jwt(self, jwt: str) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
        """Header and claims of a JWT that one of the keys signed with RS256, PS256 or ES256; None for any other."""
        from cryptography.exceptions import InvalidSignature

        try:
            encoded_header, encoded_claims, encoded_signature = jwt.split(".")
            header = json.loads(_decoded(encoded_header))
            claims = json.loads(_decoded(encoded_claims))
            self._verify(header["alg"], f"{encoded_header}.{encoded_claims}".encode(), _decoded(encoded_signature))
        except (ValueError, KeyError, TypeError, InvalidSignature):
            return None
        return header, claims

    def _verify(self, algorithm: str, message: bytes, signature: bytes) -> None:
        """Raises InvalidSignature or ValueError."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, padding
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

        sha256 = hashes.SHA256()
        if algorithm == "RS256":
            self._rsa.public_key().verify(signature, message, padding.PKCS1v15(), sha256)
        elif algorithm == "PS256":
            pss = padding.PSS(padding.MGF1(sha256), padding.PSS.DIGEST_LENGTH)
            self._rsa.public_key().verify(signature, message, pss, sha256)
        elif algorithm == "ES256":
            numbers = (int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
            self._ec.public_key().verify(encode_dss_signature(*numbers), message, ec.ECDSA(sha256))
        else:
            raise ValueError("another algorithm")


@lru_cache(maxsize=1)
def example_keys() -> ExampleKeys:
    """This process's keys."""
    return ExampleKeys()


def _pem(key: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode()


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))

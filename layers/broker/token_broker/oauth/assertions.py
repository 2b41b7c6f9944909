"""Signed assertions: a JWT (RFC 7519) that a provider takes as a grant or as client authentication (RFC 7523).

The signature is made by a `Sign`: of a PEM in the secret (`pem_signer`), or of a KMS key (adapters.kms_signing_keys).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

# Signs bytes with one key and one algorithm. Returns the signature in the form of RFC 7518 section 3.
Sign = Callable[[bytes], bytes]
# Makes one assertion. Each call makes a new one, with a jti of its own. Raises ConnectionMisconfigured or
# BrokerUnavailable.
NewAssertion = Callable[[], str]

MIN_RSA_BITS = 2048  # RFC 7518 sections 3.3 and 3.5
ES256_NUMBER_BYTES = 32  # RFC 7518 section 3.4


class UnusableKey(Exception):
    """What is wrong with a key or certificate of a secret. `field`: its name in the secret. Never holds a value."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field} {reason}")
        self.field = field


def signed_jwt(
    algorithm: str,
    header: Mapping[str, Any],
    claims: Mapping[str, Any],
    *,
    now: datetime,
    lifetime_s: int,
    jti: str,
    sign: Sign,
) -> str:
    """A JWT in compact form (RFC 7515 section 3.1), valid from now on for `lifetime_s`.

    `header` and `claims` are added to alg and typ, and to iat, exp and jti. Raises what `sign` raises.
    """
    issued_at = int(now.timestamp())
    times = {"iat": issued_at, "exp": issued_at + lifetime_s, "jti": jti}
    parts = ({"alg": algorithm, "typ": "JWT", **header}, {**claims, **times})
    signing_input = ".".join(_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    return f"{signing_input}.{_base64url(sign(signing_input.encode()))}"


def pem_signer(pem: str, algorithm: str) -> Sign:
    """Signs with a private key in PEM form. Raises UnusableKey."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding

    sha256 = hashes.SHA256()
    if algorithm == "ES256":
        ec_key = _ec_key(pem)
        return lambda message: raw_ecdsa_signature(ec_key.sign(message, ec.ECDSA(sha256)))
    rsa_key = _rsa_key(pem, algorithm)
    if algorithm == "PS256":
        pss = padding.PSS(padding.MGF1(sha256), padding.PSS.DIGEST_LENGTH)
        return lambda message: rsa_key.sign(message, pss, sha256)
    return lambda message: rsa_key.sign(message, padding.PKCS1v15(), sha256)


def raw_ecdsa_signature(der: bytes) -> bytes:
    """The two numbers of an ECDSA signature, 32 bytes each, as ES256 wants them. KMS and OpenSSL write DER.

    Raises ValueError.
    """
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    return b"".join(number.to_bytes(ES256_NUMBER_BYTES, "big") for number in decode_dss_signature(der))


def certificate_thumbprint(pem: str, private_key: str | None) -> str:
    """The x5t#S256 of a certificate in PEM form (RFC 7515 section 4.1.8).

    `private_key`: must be the certificate's own key, where it is known. Raises UnusableKey.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        is_own = private_key is None or certificate.public_key() == _private_key(private_key).public_key()
        thumbprint = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
    except ValueError:
        raise UnusableKey("certificate", "is not a certificate in PEM form") from None
    if not is_own:
        raise UnusableKey("certificate", "does not belong to private_key")
    return _base64url(thumbprint)


def _rsa_key(pem: str, algorithm: str) -> rsa.RSAPrivateKey:
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = _private_key(pem)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise UnusableKey("private_key", f"must be an RSA key, as {algorithm} needs")
    if key.key_size < MIN_RSA_BITS:
        raise UnusableKey("private_key", f"has {key.key_size} bits, and {algorithm} needs at least {MIN_RSA_BITS}")
    return key


def _ec_key(pem: str) -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    key = _private_key(pem)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise UnusableKey("private_key", "must be an EC key on the curve P-256, as ES256 needs")
    return key


def _private_key(pem: str) -> Any:
    """cryptography's errors can hold parts of the text, so none of them is kept."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(pem.encode(), password=None)
    except TypeError:
        raise UnusableKey("private_key", "is encrypted; the secret must hold it without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableKey("private_key", "is not a private key in PEM form that can sign") from None


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")

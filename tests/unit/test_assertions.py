"""Signed assertions: what stands in them, their signatures, and which keys are refused."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import serialization
from joserfc.errors import JoseError

from tests.certificates import Certificate
from tests.signing_keys import pem, private_key, public_key, verified
from token_broker.oauth.assertions import UnusableKey, certificate_thumbprint, pem_signer, signed_jwt

NOW = datetime(2026, 11, 22, 12, 0, 0, 700_000, tzinfo=UTC)
KEY_KINDS = {"RS256": "2048", "PS256": "2048", "ES256": "P-256"}
# Made with OpenSSL for this test: the library that makes the other keys refuses so short a one.
RSA_512_BODY = (
    "MIIBVAIBADANBgkqhkiG9w0BAQEFAASCAT4wggE6AgEAAkEAry1LKnre0VNldHaf"  # pragma: allowlist secret
    "6WTrHvBAZRirxH4EGkGMBUMHNi6t+VxSS5irwrqjI+PP+9OfQl0mRQzwEbddfhHo"  # pragma: allowlist secret
    "mpvjbwIDAQABAkBBjzL1V/yx3IM4vfiE8abo8kM3Uq9eH0dLyEIt6fL1/I3OhyZ4"  # pragma: allowlist secret
    "rdg99mUzSk774kxcwC5v7O410jo+/nh1omNJAiEA1TIqcBPv61GM6v219Uy2L5e9"  # pragma: allowlist secret
    "KpKbPXUWe2Er/wqs10sCIQDSWQcZtxugnsihc26YVLvijSIlojsbuEXTdNOMUA7Z"  # pragma: allowlist secret
    "7QIgeszDfv0s45l8ltp+lYWTJwS69Cuv+Y1Y3sZQ5j3K4tMCIA7/nBsATG8Cg2nH"  # pragma: allowlist secret
    "sk4YVKFN0O6AB9jtJcVzIhZyKuztAiEAkgss1YM/AYwzqBMsU5IWeR/TsKo3Jr+4"  # pragma: allowlist secret
    "fhqCr1Peid0="  # pragma: allowlist secret
)
RSA_512 = f"-----BEGIN PRIVATE KEY-----\n{RSA_512_BODY}\n-----END PRIVATE KEY-----"  # pragma: allowlist secret


@pytest.mark.parametrize("algorithm", KEY_KINDS)
def test_another_library_verifies_the_signature(algorithm: str) -> None:
    private = private_key(KEY_KINDS[algorithm])
    jwt = signed_jwt(
        algorithm,
        {"kid": "k-1"},
        {"iss": "né", "scope": ["a", "b"]},
        now=NOW,
        lifetime_s=300,
        jti="one",
        sign=pem_signer(private, algorithm),
    )
    header, payload = verified(jwt, public_key(private), algorithm)
    issued_at = int(NOW.timestamp())
    assert header == {"alg": algorithm, "typ": "JWT", "kid": "k-1"}
    assert json.loads(payload) == {
        "iss": "né",
        "scope": ["a", "b"],
        "iat": issued_at,
        "exp": issued_at + 300,
        "jti": "one",
    }
    head, _, signature = jwt.rpartition(".")
    with pytest.raises(JoseError):
        verified(f"{head[:-4]}AAAA.{signature}", public_key(private), algorithm)


def test_numbers_of_an_ecdsa_signature_always_have_32_bytes() -> None:
    """A number that begins with zeros is shorter in DER. One signature in 128 has such a number."""
    private = private_key("P-256")
    sign = pem_signer(private, "ES256")
    for number in range(400):
        message = str(number).encode()
        assert len(sign(message)) == 64


@pytest.mark.parametrize(
    ("key", "algorithm", "reason"),
    [
        ("not a key", "RS256", "is not a private key in PEM form that can sign"),
        (Certificate().pem, "RS256", "is not a private key in PEM form that can sign"),
        (public_key(private_key("2048")), "RS256", "is not a private key in PEM form that can sign"),
        (private_key("2048").replace("\n", "\\n"), "RS256", "is not a private key in PEM form that can sign"),
        (private_key("2048")[:-200], "RS256", "is not a private key in PEM form that can sign"),
        (
            pem(serialization.load_pem_private_key(private_key("P-256").encode(), None), b"passphrase"),
            "ES256",
            "is encrypted; the secret must hold it without a passphrase",
        ),
        (private_key("P-256"), "RS256", "must be an RSA key, as RS256 needs"),
        (private_key("P-256"), "PS256", "must be an RSA key, as PS256 needs"),
        (private_key("2048"), "ES256", "must be an EC key on the curve P-256, as ES256 needs"),
        (private_key("P-384"), "ES256", "must be an EC key on the curve P-256, as ES256 needs"),
        (private_key("1024"), "PS256", "has 1024 bits, and PS256 needs at least 2048"),
        (RSA_512, "RS256", "has 512 bits, and RS256 needs at least 2048"),
    ],
)
def test_a_key_that_cannot_sign_is_refused_without_showing_it(key: str, algorithm: str, reason: str) -> None:
    with pytest.raises(UnusableKey) as caught:
        pem_signer(key, algorithm)
    assert str(caught.value) == f"private_key {reason}"
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_the_thumbprint_is_that_of_the_certificate() -> None:
    certificate = Certificate()
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.pem)).digest()
    expected = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert certificate_thumbprint(certificate.pem, certificate.key_pem) == expected
    assert certificate_thumbprint(certificate.pem, None) == expected


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        (Certificate().pem, "does not belong to private_key"),
        ("no certificate", "is not a certificate in PEM form"),
        (private_key("P-256"), "is not a certificate in PEM form"),
    ],
)
def test_a_wrong_certificate_is_refused_without_showing_it(certificate: str, reason: str) -> None:
    with pytest.raises(UnusableKey) as caught:
        certificate_thumbprint(certificate, private_key("P-256"))
    assert str(caught.value) == f"certificate {reason}"

"""Signatures of asymmetric KMS keys, found by the alias that the broker derives from the connection."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from tests.signing_keys import verified
from token_broker.adapters.kms_signing_keys import KMS_ALGORITHMS, KmsSigningKeys
from token_broker.core.names import ConnectionName
from token_broker.errors import BrokerUnavailable, ConnectionMisconfigured
from token_broker.oauth.assertions import signed_jwt

NAME = ConnectionName("google-service-account", "demo")
KEY_SPECS = {"RS256": "RSA_2048", "PS256": "RSA_3072", "ES256": "ECC_NIST_P256"}


@pytest.fixture
def kms(session: boto3.session.Session) -> Any:
    return session.client("kms")


def make_key(kms: Any, prefix: str, **details: str) -> str:
    """Creates the connection's key. Returns its id."""
    details = {"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY", **details}
    key_id: str = kms.create_key(**details)["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName=f"{prefix}/{NAME}", TargetKeyId=key_id)
    return key_id


@pytest.mark.parametrize("algorithm", KMS_ALGORITHMS)
def test_another_library_verifies_what_kms_signed(kms: Any, algorithm: str) -> None:
    prefix = f"alias/{uuid4().hex}"
    key_id = make_key(kms, prefix, KeySpec=KEY_SPECS[algorithm])
    sign = KmsSigningKeys(kms, prefix=prefix).signer(NAME, algorithm)
    public = load_der_public_key(kms.get_public_key(KeyId=key_id)["PublicKey"])
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for jti in ("one", "two"):
        jwt = signed_jwt(algorithm, {}, {}, now=datetime.now(UTC), lifetime_s=60, jti=jti, sign=sign)
        verified(jwt, pem, algorithm)


def test_a_missing_key_is_named_by_its_alias(kms: Any) -> None:
    prefix = f"alias/{uuid4().hex}"
    with pytest.raises(ConnectionMisconfigured) as caught:
        KmsSigningKeys(kms, prefix=prefix).signer(NAME, "RS256")(b"message")
    assert caught.value.detail == f"There is no KMS key with the alias {prefix}/{NAME}."


@pytest.mark.parametrize(
    ("error", "expected", "detail"),
    [
        ("AccessDeniedException", ConnectionMisconfigured, "may not sign"),
        ("InvalidKeyUsageException", ConnectionMisconfigured, "cannot sign with RS256"),
        ("DisabledException", ConnectionMisconfigured, "is disabled"),
        ("KMSInvalidStateException", ConnectionMisconfigured, "in its present state"),
        ("ThrottlingException", BrokerUnavailable, "KMS failed."),
        ("", BrokerUnavailable, "KMS failed."),
    ],
)
def test_what_kms_says_of_the_key_is_told_without_its_text(
    monkeypatch: pytest.MonkeyPatch, kms: Any, error: str, expected: type[Exception], detail: str
) -> None:
    def fail(**_: Any) -> Any:
        if error:
            raise ClientError({"Error": {"Code": error, "Message": "names the caller"}}, "Sign")
        raise ConnectTimeoutError(endpoint_url="https://kms.example")

    monkeypatch.setattr(kms, "sign", fail)
    with pytest.raises(expected) as caught:
        KmsSigningKeys(kms, prefix="alias/stack").signer(NAME, "RS256")(b"message")
    assert detail in str(caught.value)
    assert "names the caller" not in str(caught.value)

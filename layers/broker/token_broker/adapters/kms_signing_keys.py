"""Signs with an asymmetric KMS key. The private key never leaves KMS.

A connection's key is found by its alias, `alias/<stack>/<provider>/<connection>`. The broker derives it, so no secret
and no setting can point to another key.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from token_broker.adapters.aws import aws_errors, error_code
from token_broker.core.names import ConnectionName
from token_broker.errors import ConnectionMisconfigured
from token_broker.oauth.assertions import Sign, raw_ecdsa_signature

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_kms.literals import SigningAlgorithmSpecType

KMS = "KMS"
# Salt and mask of RSASSA_PSS_SHA_256 are those that PS256 needs (RFC 7518 section 3.5).
KMS_ALGORITHMS: dict[str, SigningAlgorithmSpecType] = {
    "RS256": "RSASSA_PKCS1_V1_5_SHA_256",
    "PS256": "RSASSA_PSS_SHA_256",
    "ES256": "ECDSA_SHA_256",
}
# What KMS says of a key, and what that means for the connection. Everything else is a failure of KMS.
_REASONS = {
    "NotFoundException": "There is no KMS key with the alias {alias}.",
    "AccessDeniedException": "The broker may not sign with the KMS key {alias}. The key's policy must allow it.",
    "InvalidKeyUsageException": "The KMS key {alias} cannot sign with {algorithm}.",
    "DisabledException": "The KMS key {alias} is disabled.",
    "KMSInvalidStateException": "The KMS key {alias} cannot be used in its present state.",
}


class KmsSigningKeys:
    """SigningKeys (see ports). `prefix`: of the aliases."""

    def __init__(self, client: KMSClient, *, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    def signer(self, name: ConnectionName, algorithm: str) -> Sign:
        alias = f"{self._prefix}/{name}"

        def sign(message: bytes) -> bytes:
            with aws_errors(KMS):
                try:
                    response = self._client.sign(
                        KeyId=alias,
                        Message=hashlib.sha256(message).digest(),
                        MessageType="DIGEST",
                        SigningAlgorithm=KMS_ALGORITHMS[algorithm],
                    )
                except ClientError as error:
                    reason = _REASONS.get(error_code(error))
                    if reason is None:
                        raise
                    raise ConnectionMisconfigured(reason.format(alias=alias, algorithm=algorithm)) from None
            signature = response["Signature"]
            return raw_ecdsa_signature(signature) if algorithm == "ES256" else signature

        return sign

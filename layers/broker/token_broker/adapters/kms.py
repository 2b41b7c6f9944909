"""Sealing with the AWS Encryption SDK: a value opens only in its own table and place, for its own purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import aws_encryption_sdk
from aws_encryption_sdk.exceptions import AWSEncryptionSDKClientError, DecryptKeyError
from aws_encryption_sdk.identifiers import Algorithm, CommitmentPolicy
from aws_encryption_sdk.key_providers.kms import KMSMasterKey
from aws_encryption_sdk.materials_managers import EncryptionMaterialsRequest
from aws_encryption_sdk.materials_managers.base import CryptoMaterialsManager
from aws_encryption_sdk.materials_managers.default import DefaultCryptoMaterialsManager
from botocore.exceptions import BotoCoreError, ClientError

from token_broker.adapters.aws import AwsServiceFailed, error_code
from token_broker.core.names import Place
from token_broker.ports import Seal, SealBroken

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

KMS = "KMS"
ALGORITHM = Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY
COMMITMENT = CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
FRAME_LENGTH = 4096
# KMS's codes for a ciphertext of another key or another encryption context.
BROKEN = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})


class _MasterKey(KMSMasterKey):  # type: ignore[misc]  # the SDK has no types
    """The only key that may decrypt (strict). Keeps KMS's error, which the SDK does not pass on."""

    kms_error: ClientError | None = None
    expected: Mapping[str, str] = {}

    def _decrypt_data_key(self, encrypted_data_key: Any, algorithm: Any, encryption_context: Any = None) -> Any:
        self.kms_error = None
        if not _is_of(encryption_context or {}, self.expected):
            # KMS would deny it too, by its key policy, and that would look like an outage.
            raise DecryptKeyError("sealed for another place or purpose")
        try:
            return super()._decrypt_data_key(encrypted_data_key, algorithm, encryption_context)
        except DecryptKeyError as error:
            cause = error.__cause__
            self.kms_error = cause if isinstance(cause, ClientError) else None
            raise


class _GivenDataKey(CryptoMaterialsManager):  # type: ignore[misc]  # the SDK has no types
    """Gives the data key that is there already."""

    def __init__(self, materials: Any) -> None:
        self._materials = materials

    def get_encryption_materials(self, request: Any) -> Any:  # noqa: ARG002  # the SDK's signature
        return self._materials

    def decrypt_materials(self, request: Any) -> Any:  # noqa: ARG002  # as above
        raise TypeError("it only encrypts")


class KmsSealer:
    """Sealer (see ports): a committing suite without signature, one key, every context pair compared."""

    def __init__(
        self, client: KMSClient, *, key_arn: str, table: str, on_broken: Callable[[Place, str], None] | None = None
    ) -> None:
        self._sdk = aws_encryption_sdk.EncryptionSDKClient(commitment_policy=COMMITMENT, max_encrypted_data_keys=1)
        self._master_key = _MasterKey(key_id=key_arn, client=client)
        self._table = table
        self._on_broken = on_broken

    def prepare(self, place: Place, purpose: str) -> Seal:
        """Asks KMS for a data key now, so that sealing cannot fail after a token was issued."""
        context = self._context(place, purpose)
        request = EncryptionMaterialsRequest(
            encryption_context=context,
            frame_length=FRAME_LENGTH,
            commitment_policy=COMMITMENT,
            algorithm=ALGORITHM,
        )
        try:
            materials = DefaultCryptoMaterialsManager(self._master_key).get_encryption_materials(request)
        except (AWSEncryptionSDKClientError, BotoCoreError) as error:
            cause = error.__cause__
            raise AwsServiceFailed(KMS, error_code(cause) if isinstance(cause, ClientError) else "") from None

        def seal(value: str) -> bytes:
            sealed, _header = self._sdk.encrypt(
                source=value.encode(),
                materials_manager=_GivenDataKey(materials),
                encryption_context=context,
                algorithm=ALGORITHM,
                frame_length=FRAME_LENGTH,
            )
            return bytes(sealed)

        return seal

    def open(self, sealed: bytes, place: Place, purpose: str) -> str:
        try:
            return self._open(sealed, place, purpose)
        except SealBroken:
            if self._on_broken is not None:
                self._on_broken(place, purpose)
            raise

    def _open(self, sealed: bytes, place: Place, purpose: str) -> str:
        expected = self._context(place, purpose)
        self._master_key.kms_error = None
        self._master_key.expected = expected
        try:
            plain, context = self._decrypt(sealed)
        except BotoCoreError as error:
            raise AwsServiceFailed(KMS, type(error).__name__) from None
        except Exception:  # noqa: BLE001  # the SDK's parser raises many kinds on a mangled message
            kms_error = self._master_key.kms_error
            if kms_error is not None and error_code(kms_error) not in BROKEN:
                raise AwsServiceFailed(KMS, error_code(kms_error)) from None
            raise SealBroken from None
        # The SDK returns the context and does not compare it.
        if not _is_of(context, expected):
            raise SealBroken
        return plain

    def _decrypt(self, sealed: bytes) -> tuple[str, Mapping[str, str]]:
        """The text and its encryption context.

        The SDK's own `decrypt` leaves a failed stream open, whose finalizer then prints a traceback (Python 3.13).
        """
        stream = self._sdk.stream(mode="decrypt", source=bytes(sealed), key_provider=self._master_key)
        try:
            return bytes(stream.read()).decode(), stream.header.encryption_context
        finally:
            if not hasattr(stream, "footer"):
                stream.footer = None
            stream.close()

    def _context(self, place: Place, purpose: str) -> dict[str, str]:
        return {"table": self._table, "key": str(place), "purpose": purpose}


def _is_of(context: Mapping[str, str], expected: Mapping[str, str]) -> bool:
    return all(context.get(name) == value for name, value in expected.items())

"""Credentials in Secrets Manager: `{prefix}/{provider}/{connection}`. Nothing is cached."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from token_broker.adapters.aws import aws_errors, error_code
from token_broker.core.credentials import Secret
from token_broker.core.names import ConnectionName, is_name
from token_broker.ports import SecretNotReadable

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_secretsmanager.type_defs import GetSecretValueResponseTypeDef

# No such secret or stage; a secret that is scheduled for deletion.
ABSENT = frozenset({"ResourceNotFoundException", "InvalidRequestException"})
# The role may not read the secret, or Secrets Manager may not decrypt it for the role.
NOT_READABLE = frozenset({"AccessDeniedException", "DecryptionFailure"})
# AWS adds so many random characters to the ARN of a secret.
ADDED_CHARACTERS = 6


class SecretsManagerStore:
    """SecretStore (see ports)."""

    def __init__(self, client: SecretsManagerClient, *, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    def read(self, name: ConnectionName, stage: str = "AWSCURRENT") -> Secret | None:
        with aws_errors("Secrets Manager"):
            try:
                response = self._client.get_secret_value(SecretId=f"{self._prefix}/{name}", VersionStage=stage)
            except ClientError as error:
                if error_code(error) in ABSENT:
                    return None
                if error_code(error) in NOT_READABLE:
                    raise SecretNotReadable from None
                raise
        return Secret(_text_of(response), response["VersionId"])


def _text_of(response: GetSecretValueResponseTypeDef) -> str:
    """The secret's text. SecretBinary that is no text in a Unicode encoding gives an empty one: it is misconfigured."""
    if "SecretString" in response:
        return response["SecretString"]
    binary = response.get("SecretBinary", b"")
    try:
        return binary.decode(json.detect_encoding(binary))
    except UnicodeDecodeError:
        return ""


def connections_of(secret_id: str, prefix: str, *, is_full_arn: bool = False) -> frozenset[ConnectionName]:
    """The connections whose secret this may be, by name or ARN.

    AWS adds a hyphen and six random characters to a secret's ARN, and accepts the ARN without them. `…/eu-market` is
    then the full ARN of `eu` or the partial one of `eu-market`, so both are named, unless `is_full_arn`.
    """
    is_arn = secret_id.startswith("arn:")
    name = secret_id.rpartition(":secret:")[2] if is_arn else secret_id
    if not name.startswith(prefix + "/"):
        return frozenset()
    provider, _, connection = name.removeprefix(prefix + "/").partition("/")
    names = {connection} if not is_full_arn else set()
    head, separator, suffix = connection.rpartition("-")
    if is_arn and separator and len(suffix) == ADDED_CHARACTERS and suffix.isalnum():
        names.add(head)
    return frozenset(ConnectionName(provider, found) for found in names if is_name(provider) and is_name(found))

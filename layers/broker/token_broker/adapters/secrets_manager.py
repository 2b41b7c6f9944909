"""Credentials in Secrets Manager: `{prefix}/{provider}/{connection}`. Nothing is cached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from token_broker.adapters.aws import aws_errors, error_code
from token_broker.core.credentials import Secret
from token_broker.core.names import ConnectionName, is_name
from token_broker.ports import SecretNotReadable

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

# No such secret or stage; a secret that is scheduled for deletion.
ABSENT = frozenset({"ResourceNotFoundException", "InvalidRequestException"})
# The role may not read the secret, or Secrets Manager may not decrypt it for the role.
NOT_READABLE = frozenset({"AccessDeniedException", "DecryptionFailure"})


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
        # A binary secret gives an empty text, which is misconfigured.
        return Secret(response.get("SecretString", ""), response["VersionId"])


def connection_of(secret_id: str, prefix: str) -> ConnectionName | None:
    """The connection whose secret this is, by name or ARN (with or without the six characters that AWS adds)."""
    name = secret_id.rpartition(":secret:")[2] if secret_id.startswith("arn:") else secret_id
    if not name.startswith(prefix + "/"):
        return None
    provider, _, connection = name.removeprefix(prefix + "/").partition("/")
    if not is_name(provider):
        return None
    if secret_id.startswith("arn:"):
        head, separator, suffix = connection.rpartition("-")
        if separator and len(suffix) == 6 and suffix.isalnum():
            connection = head
    return ConnectionName(provider, connection) if is_name(connection) else None

"""A connection's secret and its versions. One is current. Another can be pending until a trial."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from botocore.exceptions import ClientError

from token_broker_cli.problems import Problem

CURRENT: Final = "AWSCURRENT"
PENDING: Final = "AWSPENDING"


@dataclass(frozen=True)
class SecretVersion:
    """One version of a secret. The values have no repr."""

    version_id: str
    values: Mapping[str, Any] = field(repr=False)


def secret_values(response: Mapping[str, Any]) -> dict[str, Any] | None:
    """The JSON object in a response of GetSecretValue; None if there is none. A byte-order mark is ignored."""
    stored = response.get("SecretString") or response.get("SecretBinary") or b""
    try:
        # Bytes, because json.loads refuses a text that begins with a byte-order mark.
        values = json.loads(stored.encode() if isinstance(stored, str) else stored)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None


class ConnectionSecret:
    """The secret of one connection in Secrets Manager. Raises Problem and botocore's errors. None holds a value."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self.name = name

    def current(self) -> SecretVersion | None:
        """The current version; None if there is no secret."""
        try:
            response = self._client.get_secret_value(SecretId=self.name, VersionStage=CURRENT)
        except ClientError as error:
            if _code(error) == "ResourceNotFoundException":
                return None
            if _code(error) == "InvalidRequestException":
                todo = f"Restore it first: aws secretsmanager restore-secret --secret-id {self.name}"
                raise Problem(f"The secret {self.name} is being deleted.", todo) from None
            raise
        values = secret_values(response)
        if values is None:
            todo = "Correct it by hand. It must be an object such as {}, because the credentials are added to it."
            raise Problem(f"The secret {self.name} is not a JSON object.", todo)
        return SecretVersion(response["VersionId"], values)

    def pending(self) -> str | None:
        """The id of the version that is pending and not current; None if there is none."""
        stages = self._client.describe_secret(SecretId=self.name).get("VersionIdsToStages", {})
        return next(
            (version for version, labels in stages.items() if PENDING in labels and CURRENT not in labels), None
        )

    def create_empty(self) -> SecretVersion:
        """Creates the secret without credentials: Secrets Manager always makes the first version current."""
        response = self._client.create_secret(Name=self.name, SecretString="{}")
        return SecretVersion(response["VersionId"], {})

    def stage(self, values: Mapping[str, Any], version_id: str) -> None:
        """Stores a pending version under the caller's id (a UUID). An earlier pending version loses its label."""
        self._client.put_secret_value(
            SecretId=self.name,
            ClientRequestToken=version_id,
            SecretString=json.dumps(values, ensure_ascii=False),
            VersionStages=[PENDING],
        )

    def promote(self, pending: str, *, instead_of: str) -> None:
        """Makes the pending version current if `instead_of` still is. Else raises Problem.

        Secrets Manager compares: it moves the label only if `instead_of` has it.
        """
        changed = Problem(f"Somebody else has changed the secret {self.name}. Their change stays.", "Try again.")
        if self.pending() != pending:
            raise changed
        try:
            self._client.update_secret_version_stage(
                SecretId=self.name, VersionStage=CURRENT, RemoveFromVersionId=instead_of, MoveToVersionId=pending
            )
        except ClientError as error:
            if _code(error) == "InvalidParameterException":
                raise changed from None
            raise
        self._remove_pending_label(pending)

    def unstage(self, version_id: str) -> None:
        """Removes the pending label from this version only. Secrets Manager deletes a version without labels."""
        if self.pending() == version_id:
            self._remove_pending_label(version_id)

    def delete(self, recovery_days: int) -> None:
        """Schedules the deletion. Until then the secret can be restored, and its name cannot be used again."""
        self._client.delete_secret(SecretId=self.name, RecoveryWindowInDays=recovery_days)

    def delete_new(self) -> None:
        """Deletes a secret that this command created and that was never used, so that its name is free again."""
        self._client.delete_secret(SecretId=self.name, ForceDeleteWithoutRecovery=True)

    def _remove_pending_label(self, version_id: str) -> None:
        self._client.update_secret_version_stage(
            SecretId=self.name, VersionStage=PENDING, RemoveFromVersionId=version_id
        )


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])

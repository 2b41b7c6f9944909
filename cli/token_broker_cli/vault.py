"""A connection's secret and its versions: one is current, another can be pending until it has been tried."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from botocore.exceptions import ClientError

from token_broker_cli.problems import Problem

CURRENT: Final = "AWSCURRENT"
PENDING: Final = "AWSPENDING"


@dataclass(frozen=True)
class Version:
    """One version of a secret. The values have no repr."""

    version_id: str
    values: Mapping[str, Any] = field(repr=False)


class ConnectionSecret:
    """The secret of one connection in Secrets Manager. Raises Problem and botocore's errors; none holds a value."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self.name = name

    def current(self) -> Version | None:
        """The version that is in use, None where there is no secret."""
        try:
            answer = self._client.get_secret_value(SecretId=self.name, VersionStage=CURRENT)
        except ClientError as error:
            if _code(error) == "ResourceNotFoundException":
                return None
            if _code(error) == "InvalidRequestException":
                todo = f"Bring it back first: aws secretsmanager restore-secret --secret-id {self.name}"
                raise Problem(f"The secret {self.name} is being deleted.", todo) from None
            raise
        try:
            values = json.loads(answer.get("SecretString", ""))
        except ValueError:
            values = None
        if not isinstance(values, dict):
            todo = "Mend it by hand: it has to be an object such as {}, for the credentials are put into it."
            raise Problem(f"The secret {self.name} holds no JSON object.", todo)
        return Version(answer["VersionId"], values)

    def pending(self) -> str | None:
        """The version that is pending and not current, None where there is none."""
        stages = self._client.describe_secret(SecretId=self.name).get("VersionIdsToStages", {})
        return next((version for version, held in stages.items() if PENDING in held and CURRENT not in held), None)

    def create_empty(self) -> Version:
        """A new secret without credentials: the first version of a secret is current, whatever one asks for."""
        answer = self._client.create_secret(Name=self.name, SecretString="{}")
        return Version(answer["VersionId"], {})

    def stage(self, values: Mapping[str, Any], version_id: str) -> None:
        """Stores a pending version under an id of the caller's (a UUID). What was pending before is so no longer."""
        self._client.put_secret_value(
            SecretId=self.name,
            ClientRequestToken=version_id,
            SecretString=json.dumps(values, ensure_ascii=False),
            VersionStages=[PENDING],
        )

    def promote(self, pending: str, *, instead_of: str) -> None:
        """Makes the pending version current, if `instead_of` still is. Raises Problem where it is not.

        Secrets Manager compares: it moves the label only from the version that it is said to be on.
        """
        changed = Problem(f"Somebody else changed the secret {self.name} meanwhile: theirs stays.", "Try it again.")
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
        self._take_label(pending)

    def unstage(self, version_id: str) -> None:
        """Takes a pending version away: without a label Secrets Manager deletes it in time. Others' stay."""
        if self.pending() == version_id:
            self._take_label(version_id)

    def delete(self) -> None:
        """Deletes the secret at once, so that its name is free again."""
        self._client.delete_secret(SecretId=self.name, ForceDeleteWithoutRecovery=True)

    def _take_label(self, version_id: str) -> None:
        self._client.update_secret_version_stage(
            SecretId=self.name, VersionStage=PENDING, RemoveFromVersionId=version_id
        )


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])

"""A connection's credentials, as its secret holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from token_broker.core.names import ConnectionName, scope_items
from token_broker.core.providers import Provider
from token_broker.core.validation import is_encodable
from token_broker.errors import ConnectionMisconfigured


@dataclass(frozen=True, slots=True)
class Secret:
    """One version of a secret."""

    text: str = field(repr=False)
    version: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """The secret's fields that the grant uses. `version`: the secret's version."""

    values: Mapping[str, str] = field(repr=False)
    version: str

    @property
    def client_id(self) -> str:
        return self.values["client_id"]

    @property
    def client_secret(self) -> str | None:
        return self.values.get("client_secret")


def parse_credentials(name: ConnectionName, provider: Provider, secret: Secret) -> Credentials:
    """The credentials in a secret. Raises ConnectionMisconfigured that names the field at fault, never a value.

    Other fields of the secret are ignored.
    """
    try:
        data = json.loads(secret.text)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise ConnectionMisconfigured(f"The secret of {name} is not a JSON object.")
    values = {}
    for field_name in provider.credentials + provider.optional_credentials:
        value = data.get(field_name)
        if value is None or value == "":
            if field_name in provider.credentials:
                raise ConnectionMisconfigured(f"The secret of {name} lacks {field_name}.")
        elif not isinstance(value, str) or not is_encodable(value):
            raise ConnectionMisconfigured(f"In the secret of {name}, {field_name} is not a valid string.")
        else:
            values[field_name] = value
    return Credentials(values, secret.version)


def check_scope_without_secret(name: ConnectionName, provider: Provider, credentials: Credentials, scope: str) -> None:
    """A client without a secret must name its market in the scope. Raises ConnectionMisconfigured."""
    prefix = provider.scope.without_secret
    if prefix and credentials.client_secret is None and not any(i.startswith(prefix) for i in scope_items(scope)):
        raise ConnectionMisconfigured(
            f"The secret of {name} has no client_secret, so its scope needs an item that begins with {prefix}"
        )

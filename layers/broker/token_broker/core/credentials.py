"""A connection's credentials, as its secret holds them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from token_broker.core.assertions import PEM_FIELDS
from token_broker.core.names import ConnectionName, scope_items
from token_broker.core.providers import Provider
from token_broker.core.validation import is_encodable
from token_broker.errors import ConnectionMisconfigured

BYTE_ORDER_MARK = "\ufeff"
# RFC 6749 appendix A.1 and A.2 allow these only %x20-7E. Servers accept more, but none accepts a line break.
CLIENT_FIELDS = frozenset({"client_id", "client_secret"})
_NOT_IN_CLIENT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Appendix A.15 and A.16 allow a username and a password all characters, a tab too, but no other control character. What
# other fields may hold, no standard says.
_NOT_IN_OTHERS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Secret:
    """One version of a secret. `text`: as decoded, with a byte-order mark if it has one."""

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

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was probably not meant: a value that was copied with a space. It is sent as it is."""
        return tuple(
            f"{name} begins or ends with a space."
            for name, value in self.values.items()
            if value != value.strip() and name not in PEM_FIELDS
        )


def parse_credentials(name: ConnectionName, provider: Provider, secret: Secret) -> Credentials:
    """The credentials in a secret. Raises ConnectionMisconfigured that names the field at fault, never a value.

    Other fields of the secret are ignored.
    """
    try:
        data = json.loads(secret.text.removeprefix(BYTE_ORDER_MARK))
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
        elif _not_allowed(provider, field_name, value):
            raise ConnectionMisconfigured(
                f"In the secret of {name}, {field_name} has a line break or another control character."
            )
        else:
            values[field_name] = value
    return Credentials(values, secret.version)


def _not_allowed(provider: Provider, field_name: str, value: str) -> bool:
    """Whether a value has a character that its field cannot have. PEM has lines."""
    if provider.assertion is not None and field_name in PEM_FIELDS:
        return False
    pattern = _NOT_IN_CLIENT if field_name in CLIENT_FIELDS else _NOT_IN_OTHERS
    return pattern.search(value) is not None


def check_scope_without_secret(name: ConnectionName, provider: Provider, credentials: Credentials, scope: str) -> None:
    """A client without a secret must name its market in the scope. Raises ConnectionMisconfigured."""
    prefix = provider.scope.without_secret
    if prefix and credentials.client_secret is None and not any(i.startswith(prefix) for i in scope_items(scope)):
        raise ConnectionMisconfigured(
            f"The secret of {name} has no client_secret, so its scope needs an item that begins with {prefix}"
        )

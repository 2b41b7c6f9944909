"""Names, scope sets, token keys and token_ids: what identifies a token and is safe to log."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from token_broker.errors import FieldError, InvalidRequest

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
TOKEN_ID = re.compile(r"[0-9a-f]{16}")
SCOPE_ID = re.compile(r"[0-9a-f]{64}")
CONSENT_ID = re.compile(r"[0-9a-f]{64}")
# scope-token of RFC 6749 section 3.3: printable ASCII without space, quote and backslash.
SCOPE_ITEM = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
MAX_SCOPE_ITEMS = 50
MAX_SCOPE_CHARACTERS = 1000


def fingerprint(token: str) -> str:
    """The `token_id`: the first 16 hex digits of the token's SHA-256. Safe to log."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]


def is_name(text: object) -> bool:
    """Whether `text` can name a provider or a connection."""
    return isinstance(text, str) and NAME.fullmatch(text) is not None


def canonical_scope(text: str) -> str:
    """The scope set of a scope parameter: items deduplicated, sorted by their bytes, joined by single spaces.

    Scopes are case-sensitive (RFC 6749 section 3.3). Raises ValueError with the reason.
    """
    if not text:
        raise ValueError("is empty; leave it out to get the connection's own scope")
    if len(text) > MAX_SCOPE_CHARACTERS:
        raise ValueError(f"is longer than {MAX_SCOPE_CHARACTERS} characters")
    items = text.split(" ")
    if "" in items:
        raise ValueError("items must be separated by single spaces")
    if not all(SCOPE_ITEM.fullmatch(item) for item in items):
        raise ValueError("has a character that RFC 6749 does not allow in a scope")
    unique = sorted(set(items))
    if len(unique) > MAX_SCOPE_ITEMS:
        raise ValueError(f"has more than {MAX_SCOPE_ITEMS} items")
    return " ".join(unique)


def scope_items(scope: str) -> frozenset[str]:
    """The items of a canonical scope set; none for the empty one."""
    return frozenset(scope.split())


def split_scope(scope: str) -> frozenset[str]:
    """The items of a scope, whether spaces or commas separate them: some servers return the items with commas."""
    return frozenset(scope.replace(",", " ").split())


@dataclass(frozen=True, slots=True)
class ConnectionName:
    """One account at a provider, e.g. `unidy/eu-main`."""

    provider: str
    connection: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.connection}"

    @classmethod
    def of(cls, provider: str, connection: str) -> ConnectionName:
        """Checks both names. Raises InvalidRequest that names each fault."""
        faults = [
            FieldError(field, f"must match {NAME.pattern}")
            for field, value in (("provider", provider), ("connection", connection))
            if not is_name(value)
        ]
        if faults:
            raise InvalidRequest("The path does not name a connection.", errors=faults)
        return cls(provider, connection)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed value is stored: an item of a connection. As text: its name in the encryption context."""

    name: ConnectionName
    item: str

    def __str__(self) -> str:
        return f"{self.name} {self.item}"


@dataclass(frozen=True, slots=True)
class TokenKey:
    """What a token is stored under: provider, connection and scope set. One token request per key at a time."""

    name: ConnectionName
    scope: str

    @property
    def scope_id(self) -> str:
        """The SHA-256 of the scope set, as 64 hex digits: the scope set's name in keys and messages."""
        return hashlib.sha256(self.scope.encode()).hexdigest()

    @property
    def place(self) -> Place:
        """Where its tokens are sealed."""
        return Place(self.name, self.scope_id)

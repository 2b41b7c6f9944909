"""Reads untrusted objects field by field and collects every fault."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from token_broker.errors import FieldError

T = TypeVar("T")
MAX_TEXT = 2048
# Fields that the grant writes. A value from elsewhere would contradict or repeat it.
OAUTH_FIELDS = frozenset(
    "grant_type client_id client_secret scope code redirect_uri refresh_token response_type state username password"
    " assertion client_assertion client_assertion_type code_verifier".split()
)
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# What the names of credentials contain: a URL or setting is stored in clear and logged.
CREDENTIAL_NAME = re.compile(r"secret|passw|pwd|token|assertion|credential|signature|key$|^(code|sig|auth|username)$")
HALF_CHARACTER = re.compile(r"[\ud800-\udfff]")


@dataclass(slots=True)
class Fields:
    """An object under validation. Methods return the value or a default, and add what is wrong to `faults`."""

    data: Mapping[str, Any]
    prefix: str = ""
    faults: list[FieldError] = field(default_factory=list)
    known: set[str] = field(default_factory=set)

    def fault(self, name: str, reason: str) -> None:
        self.faults.append(FieldError(self.prefix + name, reason))

    def take(self, name: str, read: Callable[[Any], T], default: T, *, required: bool = False) -> T:
        """The field `name` as `read` returns it; `read` raises ValueError. Absent and null give the default."""
        self.known.add(name)
        value = self.data.get(name)
        if value is None:
            if required:
                self.fault(name, "is required")
            return default
        try:
            return read(value)
        except ValueError as error:
            self.fault(name, str(error))
            return default

    def section(self, name: str, *, required: bool = False) -> Fields:
        """A nested object. Its faults go into the same list, under dotted names."""
        empty: Mapping[str, Any] = {}
        data = self.take(name, mapping, empty, required=required)
        return Fields(data, f"{self.prefix}{name}.", self.faults)

    def fault_unknown_fields(self) -> None:
        """Adds a fault for each field that was not taken, so that a misspelt name is not ignored."""
        for name in sorted(set(self.data) - self.known, key=str):
            near = _nearest(str(name), self.known)
            self.fault(str(name)[:64], "is not a known field" + (f"; did you mean {near}?" if near else ""))


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a misspelt one is most like, if any is."""
    import difflib

    return next(iter(difflib.get_close_matches(name[:64], known, 1, 0.75)), None)


def text(value: Any) -> str:
    """A non-empty string without control characters, at most 2,048 characters."""
    if not isinstance(value, str):
        raise ValueError("must be a string")
    if not value:
        raise ValueError("must not be empty")
    if len(value) > MAX_TEXT:
        raise ValueError(f"is longer than {MAX_TEXT} characters")
    if CONTROL.search(value):
        raise ValueError("has a control character")
    if not is_encodable(value):
        raise ValueError("has half of a surrogate pair")
    return value


def is_encodable(value: str) -> bool:
    """Whether UTF-8 can encode it. JSON can hold half of a surrogate pair, which cannot be sent."""
    return HALF_CHARACTER.search(value) is None


def mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("must be an object")
    return value


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def whole(low: int, high: int) -> Callable[[Any], int]:
    """A reader of whole numbers from `low` to `high`."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("must be a whole number")
        if not low <= value <= high:
            raise ValueError(f"must be from {low} to {high}")
        return value

    return read


def one_of(options: Iterable[str]) -> Callable[[Any], str]:
    """A reader of one of a few words."""
    words = tuple(options)

    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return value

    return read


def texts(value: Any, *, limit: int = 200) -> tuple[str, ...]:
    """A list of strings without repeats."""
    if not isinstance(value, (list, tuple)):
        raise ValueError("must be a list of strings")
    if len(value) > limit:
        raise ValueError(f"has more than {limit} entries")
    return tuple(dict.fromkeys(text(item) for item in value))


def absolute_url(value: Any, *, insecure: bool = False, query: bool = False) -> str:
    """An https URL with a real host and without user info or fragment, as it was written.

    `insecure` admits http as well: the one setting of the local stack. `query` admits a query without credentials.
    """
    url = text(value)
    if not url.isascii() or any(character in url for character in ' "<>\\^`{|}'):
        raise ValueError("has a character that does not belong into a URL")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme != "https" and not (insecure and parts.scheme == "http"):
        raise ValueError("must start with https://")
    if not parts.hostname:
        raise ValueError("has no host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not carry user info")
    if "#" in url or ("?" in url and not query):
        raise ValueError("must have no fragment" if query else "must have no query and no fragment")
    if names_credential(name for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        raise ValueError("must have no query parameter that is named like a credential")
    if port == 0:
        raise ValueError("has no usable port")
    return url


def names_credential(names: Iterable[str]) -> bool:
    """Whether one of these parameters is named like a credential, or is one that OAuth defines."""
    plain = [name.lower().replace("-", "_") for name in names]
    return any(name in OAUTH_FIELDS or CREDENTIAL_NAME.search(name) for name in plain)

"""One HTTP exchange with a provider: a request, and a response or a transport error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

MAX_BODY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to a provider. `query`, `headers` and `body` can hold credentials, so they have no repr.

    `url` has no query. The sender percent-encodes the `query` pairs (a space as %20).
    """

    method: str
    url: str
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A provider's response. Header names are lower-case. The body has at most `MAX_BODY_BYTES` and is never logged."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


class TransportError(Exception):
    """There is no complete response. Never holds the underlying error: its text can hold a URL with a password."""


class Unreachable(TransportError):
    """Nothing was sent: no address, nobody listens, the address is not allowed, or TLS failed."""

    def __init__(self, reason: str, *, bad_certificate: bool = False, private_address: bool = False) -> None:
        super().__init__(reason)
        self.bad_certificate = bad_certificate
        self.private_address = private_address


class OutcomeUnknown(TransportError):
    """The request may have taken effect: a time-out or reset after sending, or a body that is cut or too long."""


class UnreadableResponse(OutcomeUnknown):
    """A response came, but it is not HTTP/1.1, or its headers are too many or too long."""


def quoted_query(query: tuple[tuple[str, str], ...]) -> str:
    """Percent-encoded pairs, a space as %20 and a plus as %2B. Every server reads these the same way."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)

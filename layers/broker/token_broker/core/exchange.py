"""One HTTP exchange with a provider, as the grants see it: a request out, a response or a transport error back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to a provider. `query`, `headers` and `body` can carry credentials and have no repr.

    `query` pairs are percent-encoded by the sender (a space as %20), `url` itself has no query.
    """

    method: str
    url: str
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A provider's answer. Header names are lower-case. The body is at most `MAX_BODY_BYTES` long and never logged."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Network:
    """How to dial a connection's hosts: the CA certificates to trust (PEM, else the system's) and private addresses."""

    ca_bundle: str | None = None
    private: bool = False


MAX_BODY_BYTES = 64 * 1024


class TransportError(Exception):
    """No complete answer. Never carries the underlying error, whose text can hold a URL with a password."""


class Unreachable(TransportError):
    """Nothing was sent: the name did not resolve, nobody listened, the address is not allowed, or TLS failed."""

    def __init__(self, reason: str, *, bad_certificate: bool = False, refused_address: bool = False) -> None:
        super().__init__(reason)
        self.bad_certificate = bad_certificate
        self.refused_address = refused_address


class OutcomeUnknown(TransportError):
    """The request may have taken effect: time-out or reset after sending, or a cut or over-long body."""


def quoted_query(query: tuple[tuple[str, str], ...]) -> str:
    """Percent-encoded pairs: a space as %20 and a plus as %2B, which every server reads alike."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)

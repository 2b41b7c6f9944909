"""The faults: what a provider does instead of its usual response, with error codes as each vendor writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from tests.integration.faults.stage import Stage

# The time at which every stage starts.
NOW: Final = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
# Free text of a provider. The broker must never show it.
FREE_TEXT: Final = "fake-free-text-4711"
PAGE: Final = f"<!DOCTYPE html><html><head><title>{FREE_TEXT}</title></head><body><h1>{FREE_TEXT}</h1></body></html>"
# How long the broker waits for a response that does not come. In production it waits 8 s.
EXCHANGE_LIMIT: Final = timedelta(milliseconds=150)
TOKEN_FIELD: Final = {"unicommerce": "accessToken"}


class ProviderFault(Protocol):
    """Makes a provider fail until `Stage.heal`. `on`: token or connect."""

    def __call__(self, stage: Stage, slug: str, on: str = "token") -> None: ...


@dataclass(frozen=True)
class RespondWith:
    """Responds with this. `code`: an error code, written as the vendor does. `date_in_s`: Retry-After as a date."""

    status: int
    body: object = None
    code: str | None = None
    html: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    date_in_s: int | None = None

    def __call__(self, stage: Stage, slug: str, on: str = "token") -> None:
        headers = dict(self.headers)
        if self.html:
            headers["Content-Type"] = "text/html; charset=utf-8"
        if self.date_in_s is not None:
            until = stage.clock() + timedelta(seconds=self.date_in_s)
            headers["Retry-After"] = format_datetime(until, usegmt=True)
        body = dialect(slug, self.code, self.status) if self.code else self.body
        stage.simulator(slug).fail("status", on=on, times=None, status=self.status, body=body, headers=headers)


@dataclass(frozen=True)
class Disrupt:
    """Breaks off, stalls or sends too much. `kind` and `details`: a fault of the simulators."""

    kind: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, stage: Stage, slug: str, on: str = "token") -> None:
        if self.kind in ("hang", "drip"):
            stage.exchange_limit = EXCHANGE_LIMIT
        stage.simulator(slug).fail(self.kind, on=on, times=None, **self.details)


@dataclass(frozen=True)
class AlterToken:
    """Issues a token and changes fields of the response. `fields`: set these. `without`: leave these out.

    The field `token` stands for the provider's token field.
    """

    fields: Mapping[str, object] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    def __call__(self, stage: Stage, slug: str, on: str = "token") -> None:
        assert on == "token"
        named = {
            TOKEN_FIELD.get(slug, "access_token") if name == "token" else name: value
            for name, value in self.fields.items()
        }
        stage.simulator(slug).configure(set_fields=named, omit_fields=self.without)


@dataclass(frozen=True)
class NotListening:
    """Nothing listens at the provider's address. The test arranges it, with a provider that it can stop."""


def dialect(slug: str, code: str, status: int) -> dict[str, object]:
    """An error code as the vendor writes it. Unicommerce has its own words for two; the others come from a gateway."""
    match slug:
        case "commerce-layer":
            return {"errors": [{"title": code, "detail": FREE_TEXT, "code": "BAD_REQUEST", "status": status}]}
        case "ucommerce":
            return {"errors": [{"error": code, "error-description": FREE_TEXT}]}
        case "unicommerce" if code in ("failed", "invalid_credentials"):
            return {"status": code.upper(), "message": FREE_TEXT}
        case _:
            return {"error": code, "error_description": FREE_TEXT}

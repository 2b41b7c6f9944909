"""A token as the broker returns it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Token:
    """A valid token of a connection. Send `headers` to the provider's API as they are.

    `token_id` is the first 16 hex digits of the token's SHA-256. It may be logged. The token itself has no repr. Times
    are aware UTC by the broker's clock. docs/service-developers.md explains the `warnings`.
    """

    access_token: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False, hash=False)
    token_id: str
    provider: str
    connection: str
    scope: str
    expires_at: datetime
    renew_at: datetime
    token_type: str
    api_base_url: str | None
    source: str
    warnings: tuple[str, ...]
    expires_assumed: bool = False

    @classmethod
    def from_response(cls, body: Mapping[str, Any]) -> "Token":
        """Reads the body of GET /v1/tokens/…. Ignores unknown fields. Raises KeyError or ValueError."""
        headers = body["headers"]
        if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
            raise ValueError("headers is not an object of strings")
        return cls(
            access_token=body["access_token"],
            headers=headers,
            token_id=body["token_id"],
            provider=body["provider"],
            connection=body["connection"],
            scope=body["scope"],
            expires_at=datetime.fromisoformat(body["expires_at"]),
            renew_at=datetime.fromisoformat(body["renew_at"]),
            token_type=body["token_type"],
            api_base_url=body.get("api_base_url"),
            source=body["source"],
            warnings=tuple(body.get("warnings", ())),
            expires_assumed=bool(body.get("expires_assumed", False)),
        )

    def response(self, expires_in: float) -> dict[str, Any]:
        """The body that `from_response` reads, with the seconds that are left now."""
        return {
            "access_token": self.access_token,
            "token_type": self.token_type,
            "expires_in": max(int(expires_in), 0),
            "expires_at": _timestamp(self.expires_at),
            "expires_assumed": self.expires_assumed,
            "renew_at": _timestamp(self.renew_at),
            "scope": self.scope,
            "token_id": self.token_id,
            "provider": self.provider,
            "connection": self.connection,
            "headers": dict(self.headers),
            "api_base_url": self.api_base_url,
            "source": self.source,
            "warnings": list(self.warnings),
        }


def _timestamp(moment: datetime) -> str:
    """As the broker writes it: in UTC, without fractions of a second."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"

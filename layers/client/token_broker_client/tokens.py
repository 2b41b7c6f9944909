"""A token as the broker returns it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
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
        )

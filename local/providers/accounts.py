"""The accounts that the simulated vendors know from the start, and the settings of a connection to each.

The credentials are invented, and hard to encode on purpose: they hold what the vendor allows of @ # & + % : / = and
non-ASCII letters. An id that is sent in a raw Basic header cannot hold a ':'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

REDIRECT_URI = "https://broker.example/callback"

# Made for the simulators. It signs for no real account.
_PRIVATE_KEY_BODY = (
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg6CfGl+foGX2MjD8l"  # pragma: allowlist secret
    "xwO1ScosLq6aat1rvZBMl+kxXNGhRANCAASxd52lEKTlwQWm5i4ae40mYkOtKz7x"  # pragma: allowlist secret
    "PwDkEkUaS36u3pvOr05P4SfOgR2Vs3oRx6BaSEKJeiYWn5hsu1sti23p"  # pragma: allowlist secret
)
PRIVATE_KEY = (
    f"-----BEGIN PRIVATE KEY-----\n{_PRIVATE_KEY_BODY}\n-----END PRIVATE KEY-----\n"  # pragma: allowlist secret
)

# The contents of the broker's secret of the connection <slug>/demo.
DEFAULT_ACCOUNTS: dict[str, dict[str, Any]] = {
    "unified-services": {
        "name": "demo",
        "secret": {"client_id": "fake-channel@web#1", "client_secret": "fake:s3cret+100%2B/é&=not-real"},
    },
    "unicommerce": {
        "name": "demo",
        "secret": {"username": "fake.seller+1@shop.example", "password": "fake#p&ss+100%25:w/rd?=ü not-real"},
    },
    "commerce-layer": {
        "name": "demo",
        "secret": {"client_id": "fake-integration-BISG8bb3GWpC8", "client_secret": "fake-secret+%@&:#/not-real"},
    },
    "ucommerce": {
        "name": "demo",
        "secret": {"client_id": "fake-store&eu+1%2F#", "client_secret": "fake:£ecret+50%25@&#é/not-real"},
    },
    "unidy": {
        "name": "demo",
        "secret": {"client_id": "fake-partner-3oyGaZLxkppqDi5V3k", "client_secret": "fake_rXDV5m+%@&:#é_not-real"},
    },
    "oauth2": {
        "name": "demo",
        "secret": {"client_id": "fake-client@any#1+%", "client_secret": "fake:s3cret+100%2B/é&=not-real"},
    },
    "oauth2-private-key-jwt": {
        "name": "demo",
        "secret": {"client_id": "fake-signer#1+%/é", "key_id": "fake-key-1", "private_key": PRIVATE_KEY},
    },
    "oauth2-jwt-bearer": {
        "name": "demo",
        "secret": {"client_id": "fake-issuer#1+%/é", "key_id": "fake-key-1", "private_key": PRIVATE_KEY},
    },
}

# A sales channel has no secret and must name a market. A public client of RFC 6749 has no secret either.
SALES_CHANNEL_ACCOUNT: dict[str, Any] = {"name": "storefront", "secret": {"client_id": "fake-sales-channel-4Xv2"}}
PUBLIC_CLIENT_ACCOUNT: dict[str, Any] = {"name": "public", "secret": {"client_id": "fake-public-client"}}

_FURTHER_ACCOUNTS = {"commerce-layer": [SALES_CHANNEL_ACCOUNT], "oauth2": [PUBLIC_CLIENT_ACCOUNT]}

_SETTINGS: dict[str, dict[str, Any]] = {
    "unified-services": {"token_url": "{root}/oauth2/v2.0/token", "scope": "api://unified/.default"},
    "unicommerce": {"base_url": "{root}"},
    "commerce-layer": {"token_url": "{root}/oauth/token"},
    "ucommerce": {"base_url": "{root}", "redirect_uri": REDIRECT_URI},
    "unidy": {
        "base_url": "{root}",
        "scope": "users:read",
        "allowed_scopes": ["subscriptions:read", "users:read", "users:write"],
    },
    "oauth2": {
        "token_url": "{root}/token",
        "revocation_url": "{root}/revoke",
        "client_auth": "basic",
        "scope": "api.read",
    },
    "oauth2-private-key-jwt": {
        "token_url": "{root}/token",
        "revocation_url": "{root}/revoke",
        "audience": "{root}/token",
        "algorithm": "ES256",
        "scope": "api.read",
    },
    "oauth2-jwt-bearer": {
        "token_url": "{root}/token",
        "audience": "{root}/token",
        "algorithm": "ES256",
        "subject": "somebody@shop.example",
        "scope": "api.read",
    },
}


@dataclass(slots=True)
class Account:
    """One set of credentials at a vendor. `failed_logins` and `locked` are used where a vendor locks accounts."""

    name: str
    secret: dict[str, str] = field(repr=False)
    redirect_uris: tuple[str, ...] = (REDIRECT_URI,)
    failed_logins: int = 0
    locked: bool = False

    @classmethod
    def from_document(cls, document: Any) -> Account:
        """Reads {"name", "secret", "redirect_uris"?}. Raises ValueError for anything else."""
        if not isinstance(document, Mapping) or not set(document) <= {"name", "secret", "redirect_uris"}:
            raise ValueError("account: an object of name, secret and redirect_uris")
        secret = document.get("secret")
        if not isinstance(secret, Mapping) or not secret or not all(isinstance(item, str) for item in secret.values()):
            raise ValueError("account: secret must be an object of strings")
        if not isinstance(document.get("name"), str):
            raise ValueError("account: name must be a string")
        return cls(document["name"], dict(secret), tuple(document.get("redirect_uris", (REDIRECT_URI,))))


def initial_accounts(slug: str) -> dict[str, Account]:
    """The accounts of a simulator after a start or a reset, by name. A vendor that learns from examples has others."""
    documents = [*([DEFAULT_ACCOUNTS[slug]] if slug in DEFAULT_ACCOUNTS else []), *_FURTHER_ACCOUNTS.get(slug, [])]
    return {account.name: account for account in map(Account.from_document, documents)}


def default_settings(slug: str, providers_url: str) -> dict[str, Any]:
    """The settings of the connection <slug>/demo, as PUT takes them, without allowed_callers."""
    root = f"{providers_url.rstrip('/')}/{slug}"
    settings = {
        name: value.replace("{root}", root) if isinstance(value, str) else value
        for name, value in _SETTINGS[slug].items()
    }
    return {**settings, "api_base_url": root}

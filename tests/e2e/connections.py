"""Connections of the tests, created through the API and in the local Secrets Manager."""

from __future__ import annotations

from local.client import BrokerResponse, SignedClient
from local.providers import DEFAULT_ACCOUNTS
from local.providers.accounts import default_settings
from local.stack import Stack
from tests.integration.handlers.world import Aws


def connect(stack: Stack, client: SignedClient, provider: str, name: str) -> str:
    """Creates another connection to the provider's demo account, with its secret. Returns its path."""
    Aws(stack.endpoint_url, stack.resources).create_secret(f"{provider}/{name}", DEFAULT_ACCOUNTS[provider]["secret"])
    response = put(stack, client, provider, name)
    assert response.status == 201, response.body
    return f"/v1/tokens/{provider}/{name}"


def put(stack: Stack, client: SignedClient, provider: str, name: str, **headers: str) -> BrokerResponse:
    """PUTs the provider's default settings, with the stack's caller allowed. `headers`: with _ instead of -."""
    settings = {"allowed_callers": [stack.options.caller.arn], **default_settings(provider, stack.providers_url)}
    named = {header.replace("_", "-"): value for header, value in headers.items()}
    return client.call("PUT", f"/v1/connections/{provider}/{name}", body=settings, headers=named)

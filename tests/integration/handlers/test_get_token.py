"""GET /v1/tokens/{provider}/{connection}: shape and sources, end to end with every provider."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.providers import DEFAULT_ACCOUNTS, PUBLIC_CLIENT_ACCOUNT, SALES_CHANNEL_ACCOUNT

from .functions import BrokerResponse
from .world import PROVIDERS, World

FIELDS = [
    *("access_token", "token_type", "expires_in", "expires_at", "expires_assumed", "renew_at", "scope", "token_id"),
    *("provider", "connection", "headers", "api_base_url", "source", "warnings"),
]
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
GRANTED = {
    "unified-services": "api://unified/.default",
    "unicommerce": "",
    "commerce-layer": "market:all",
    "ucommerce": "",
    "unidy": "users:read",
    "oauth2": "api.read",
}
LIFETIME_S = {
    "unified-services": 3599,
    "unicommerce": 72_000,
    "commerce-layer": 7200,
    "ucommerce": 300,
    "unidy": 7200,
    "oauth2": 3600,
}


def assert_never_stored(response: BrokerResponse) -> None:
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["pragma"] == "no-cache"


def assert_works(world: World, response: BrokerResponse) -> None:
    """The provider's protected resource accepts the headers, and reports the token with the same fingerprint."""
    assert response.status == 200, response
    body = response.body
    assert body["token_id"] == hashlib.sha256(body["access_token"].encode()).hexdigest()[:16]
    accepted = world.resource(response)
    assert accepted.status_code == 200
    assert accepted.json()["token_id"] == body["token_id"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_gives_a_token_that_its_api_accepts(world: World, provider: str) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    response = world.api.token(world.connect(provider))
    assert_works(world, response)
    assert world.report(provider)["token_requests"] == 1
    assert_never_stored(response)
    assert response.headers["content-type"] == "application/json"
    body = response.body
    assert list(body) == FIELDS
    is_login = provider == "unicommerce"
    assert body["token_type"] == ("N_A" if is_login else "Bearer")
    token = body["access_token"]
    assert body["headers"] == ({"apiKey": token} if is_login else {"Authorization": f"Bearer {token}"})
    assert body["scope"] == GRANTED[provider]
    assert body["expires_assumed"] is is_login
    assert LIFETIME_S[provider] - 5 <= body["expires_in"] <= LIFETIME_S[provider]
    assert (body["provider"], body["connection"]) == (provider, "demo")
    assert body["api_base_url"] == f"{world.providers.url}/{provider}"
    assert body["source"] == "provider"
    # No scope was requested, so Commerce Layer's market:all does not differ from it.
    assert body["warnings"] == []
    assert TIMESTAMP.fullmatch(body["expires_at"])
    assert TIMESTAMP.fullmatch(body["renew_at"])
    expires_at, renew_at = (datetime.fromisoformat(body[name]) for name in ("expires_at", "renew_at"))
    assert before < renew_at < expires_at <= datetime.now(UTC) + timedelta(seconds=LIFETIME_S[provider])


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_second_request_is_served_from_memory_and_a_new_instance_from_the_table(world: World, provider: str) -> None:
    name = world.connect(provider)
    first = world.api.token(name)
    second = world.api.token(name)
    world.functions.restart()
    third = world.api.token(name)
    assert [response.body["source"] for response in (first, second, third)] == ["provider", "memory", "table"]
    assert len({response.body["access_token"] for response in (first, second, third)}) == 1
    assert world.report(provider)["token_requests"] == 1


@pytest.mark.parametrize("client_auth", ["basic", "basic-raw", "form", "json", "none"])
@pytest.mark.parametrize("encoding", ["form", "json"])
def test_a_standard_server_works_with_every_client_authentication_and_encoding(
    world: World, client_auth: str, encoding: str
) -> None:
    sent_encoding = client_auth if client_auth in ("form", "json") else encoding
    world.simulator("oauth2").configure(client_auth=(client_auth,), encoding=sent_encoding)
    account: dict[str, Any] = PUBLIC_CLIENT_ACCOUNT if client_auth == "none" else DEFAULT_ACCOUNTS["oauth2"]
    secret = account["secret"]
    if client_auth == "basic-raw":
        # In a raw pair the first colon ends the id: RFC 7617 allows colons only in the secret.
        assert ":" not in secret["client_id"]
    name = world.connect("oauth2", name="plain", secret=secret, client_auth=client_auth, encoding=encoding)
    assert_works(world, world.api.token(name))
    assert world.report("oauth2")["refused"] == 0


def test_extra_parameters_are_sent_to_a_standard_server(world: World) -> None:
    world.simulator("oauth2").configure(required_params={"audience": "https://api.example", "resource": "urn:x"})
    name = world.connect("oauth2", params={"audience": "https://api.example", "resource": "urn:x"})
    assert_works(world, world.api.token(name))


def test_unified_services_can_be_set_to_percent_encode(world: World) -> None:
    world.simulator("unified-services").configure(basic_encoding="percent")
    assert_works(world, world.api.token(world.connect("unified-services", client_auth="basic")))


def test_unicommerce_can_log_in_by_post(world: World) -> None:
    assert_works(world, world.api.token(world.connect("unicommerce", method="POST")))


def test_a_sales_channel_of_commerce_layer_needs_no_secret_but_a_market(world: World) -> None:
    name = world.connect(
        "commerce-layer", name="storefront", secret=SALES_CHANNEL_ACCOUNT["secret"], scope="market:id:xYZkjABcde"
    )
    response = world.api.token(name)
    assert_works(world, response)
    assert response.body["scope"] == "market:id:xYZkjABcde"
    assert response.body["warnings"] == []


def test_a_min_ttl_that_cannot_be_met_gives_a_warning(world: World) -> None:
    name = world.connect("ucommerce")
    response = world.api.token(name, min_ttl="3600")
    assert response.status == 200
    assert "min_ttl_unmet" in response.body["warnings"]


def test_no_header_of_the_response_holds_a_part_of_the_token(world: World) -> None:
    response = world.api.token(world.connect("unidy"))
    assert response.body["access_token"] not in str(response.headers)

"""GET /v1/tokens/{provider}/{connection}: shape and sources, end to end with every provider."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.providers import DEFAULT_ACCOUNTS, PUBLIC_CLIENT_ACCOUNT, SALES_CHANNEL_ACCOUNT

from .functions import Api, BrokerResponse
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


def assert_never_stored(answer: BrokerResponse) -> None:
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"


def assert_works(world: World, answer: BrokerResponse) -> None:
    """The provider's protected resource takes the headers, and knows the token by its fingerprint."""
    assert answer.status == 200, answer
    body = answer.body
    assert body["token_id"] == hashlib.sha256(body["access_token"].encode()).hexdigest()[:16]
    accepted = world.resource(answer)
    assert accepted.status_code == 200
    assert accepted.json()["token_id"] == body["token_id"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_gives_a_token_that_its_api_accepts_with_all_that_is_known_of_it(
    world: World, provider: str
) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    answer = world.api.token(world.connect(provider))
    assert_works(world, answer)
    assert world.report(provider)["token_requests"] == 1
    assert_never_stored(answer)
    assert answer.headers["content-type"] == "application/json"
    body = answer.body
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
    # Commerce Layer's market:all is no other scope than the one asked for: none was.
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
    assert [answer.body["source"] for answer in (first, second, third)] == ["provider", "memory", "table"]
    assert len({answer.body["access_token"] for answer in (first, second, third)}) == 1
    assert world.report(provider)["token_requests"] == 1


@pytest.mark.parametrize("client_auth", ["basic", "basic-raw", "form", "json", "none"])
@pytest.mark.parametrize("encoding", ["form", "json"])
def test_a_standard_server_is_reached_with_every_client_authentication_and_encoding(
    world: World, client_auth: str, encoding: str
) -> None:
    sent_encoding = client_auth if client_auth in ("form", "json") else encoding
    world.simulator("oauth2").configure(client_auth=(client_auth,), encoding=sent_encoding)
    account: dict[str, Any] = PUBLIC_CLIENT_ACCOUNT if client_auth == "none" else DEFAULT_ACCOUNTS["oauth2"]
    secret = account["secret"]
    if client_auth == "basic-raw":
        # Raw, the pair ends at its first colon: RFC 7617 allows none in the id, and any in the secret.
        assert ":" not in secret["client_id"]
    name = world.connect("oauth2", name="plain", secret=secret, client_auth=client_auth, encoding=encoding)
    assert_works(world, world.api.token(name))
    assert world.report("oauth2")["refused"] == 0


def test_extra_parameters_reach_a_standard_server(world: World) -> None:
    world.simulator("oauth2").configure(required_params={"audience": "https://api.example", "resource": "urn:x"})
    name = world.connect("oauth2", params={"audience": "https://api.example", "resource": "urn:x"})
    assert_works(world, world.api.token(name))


def test_unified_services_can_be_told_to_percent_encode(world: World) -> None:
    world.simulator("unified-services").configure(basic_encoding="percent")
    assert_works(world, world.api.token(world.connect("unified-services", client_auth="basic")))


def test_unicommerce_can_log_in_by_post(world: World) -> None:
    assert_works(world, world.api.token(world.connect("unicommerce", method="POST")))


def test_a_sales_channel_of_commerce_layer_has_no_secret_and_names_its_market(world: World) -> None:
    name = world.connect(
        "commerce-layer", name="storefront", secret=SALES_CHANNEL_ACCOUNT["secret"], scope="market:id:xYZkjABcde"
    )
    answer = world.api.token(name)
    assert_works(world, answer)
    assert answer.body["scope"] == "market:id:xYZkjABcde"
    assert answer.body["warnings"] == []


def test_a_sales_channel_without_a_market_is_told_before_the_vendor_is_asked(world: World) -> None:
    name = world.connect("commerce-layer", name="storefront", secret=SALES_CHANNEL_ACCOUNT["secret"])
    answer = world.api.token(name)
    assert (answer.status, answer.code) == (409, "connection_misconfigured")
    assert "market:" in answer.body["detail"]
    assert world.report("commerce-layer")["token_requests"] == 0


def test_an_asked_scope_is_a_key_of_its_own_whatever_its_order(world: World) -> None:
    name = world.connect("unidy")
    both = world.api.token(name, scope="users:write users:read")
    again = world.api.token(name, scope="users:read users:write users:read")
    one = world.api.token(name)
    assert both.body["scope"] == "users:read users:write"
    assert again.body["token_id"] == both.body["token_id"]
    assert one.body["token_id"] != both.body["token_id"]
    assert world.report("unidy")["token_requests"] == 2


def test_min_ttl_that_cannot_be_met_is_warned_of(world: World) -> None:
    name = world.connect("ucommerce")
    answer = world.api.token(name, min_ttl="3600")
    assert answer.status == 200
    assert "min_ttl_unmet" in answer.body["warnings"]


def test_a_reported_token_is_replaced_once_and_only_while_it_is_the_current_one(world: World) -> None:
    name = world.connect("unidy")
    old = world.api.token(name).body["token_id"]
    new = world.api.token(name, rejected=old)
    assert (new.status, new.body["source"]) == (200, "provider")
    assert new.body["token_id"] != old
    late = world.api.token(name, rejected=old)
    assert (late.status, late.body["token_id"]) == (200, new.body["token_id"])
    assert world.report("unidy")["token_requests"] == 2


def test_a_provider_that_reissues_the_reported_token_is_warned_of(world: World) -> None:
    name = world.connect("commerce-layer", scope="market:id:abc")
    old = world.api.token(name).body["token_id"]
    answer = world.api.token(name, rejected=old)
    assert (answer.status, answer.body["token_id"]) == (200, old)
    assert "same_token_reissued" in answer.body["warnings"]


def test_a_failing_provider_takes_no_valid_token_away(world: World) -> None:
    name = world.connect("unidy")
    first = world.api.token(name)
    world.aws.change_token_item(
        name, issued_at=-timedelta(hours=2), expires_at=timedelta(seconds=20), renew_at=-timedelta(hours=1)
    )
    world.simulator("unidy").fail("status", status=503, times=None)
    world.functions.restart()
    answer = world.api.token(name)
    assert answer.status == 200
    assert answer.body["token_id"] == first.body["token_id"]
    assert answer.body["warnings"] == ["renewal_failing", "min_ttl_unmet"]


def test_a_fragment_of_the_token_is_in_no_header_of_the_answer(world: World) -> None:
    answer = world.api.token(world.connect("unidy"))
    assert answer.body["access_token"] not in str(answer.headers)


def test_settings_changed_by_another_instance_act_on_a_new_instance_at_once(world: World, api: Api) -> None:
    name = world.connect("unidy")
    api.token(name)
    assert api.put(name, world.settings("unidy", suspended=True)).status == 200
    assert api.token(name).code == "connection_suspended"

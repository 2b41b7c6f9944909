"""What callers send besides the token: headers from templates, and a base URL whose host is pinned."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import CALLER, World, answering
from token_broker.core.names import ConnectionName
from token_broker.core.provider_files import parse_provider
from token_broker.errors import ConnectionMisconfigured, ProviderInvalidResponse
from token_broker.oauth.grants import GRANTS
from token_broker.service import Broker

NAME = ConnectionName("vendor", "main")
FILE: dict[str, Any] = {
    "title": "Vendor",
    "documentation": "https://docs.vendor.example",
    "grant": "client_credentials",
    "credentials": ["client_id", "client_secret"],
    "request": {"url": "https://login.vendor.example/token", "client_auth": "form"},
    "send": {
        "headers": {"X-Token": "{token}", "X-Key": "{secret:client_id}", "X-Org": "{org}", "X-Team": "{team}"},
        "base_url": {"field": "instance", "hosts": ["*.vendor.example"]},
    },
    "settings": [
        {"name": "org", "kind": "text", "required": True, "help": "Help."},
        {"name": "team", "kind": "text", "help": "Help."},
    ],
}
SETTINGS = {"allowed_callers": [CALLER], "org": "org-1"}
SECRET = {"client_id": "the-client", "client_secret": "the-secret"}


def stage(world: World, **settings: Any) -> Broker:
    """An instance that knows the vendor, whose connection is `vendor/main`."""
    world.secrets.put(NAME, SECRET)
    put(world, "first", **settings)
    return instance(world)


def instance(world: World) -> Broker:
    provider = parse_provider("vendor", FILE, file="vendor.toml", grants=GRANTS)
    return world.instance(catalogue={"vendor": provider})


def put(world: World, version: str, **settings: Any) -> None:
    world.connections.put(NAME, SETTINGS | settings, version=version, expected=None, absent=False)


def at(world: World, api: Any, token: str = "tok-1") -> None:
    """The provider names this base URL from now on."""
    world.provider.to = answering(200, {"access_token": token, "expires_in": 3600, "instance": api})


def test_callers_get_headers_and_base_url_on_every_path_without_another_call(world: World) -> None:
    broker = stage(world, team="Blue Team")
    at(world, "https://eu.vendor.example/v1/")
    for source, asked in (("provider", broker), ("memory", broker), ("table", instance(world))):
        found = world.get_token(asked, NAME)
        world.secrets.delete(NAME)
        assert found.source == source
        assert found.headers == {"X-Token": "tok-1", "X-Key": "the-client", "X-Org": "org-1", "X-Team": "Blue Team"}
        assert found.api_base_url == "https://eu.vendor.example/v1/"
        assert "the-client" not in repr(found)
        assert "tok-1" not in repr(found)
    assert len(world.provider) == 1


def test_a_header_without_a_value_is_left_out(world: World) -> None:
    broker = stage(world)
    at(world, "https://eu.vendor.example")
    assert "X-Team" not in world.get_token(broker, NAME).headers


def test_the_setting_wins_over_the_response(world: World) -> None:
    broker = stage(world, api_base_url="https://proxy.example")
    at(world, None)
    assert world.get_token(broker, NAME).api_base_url == "https://proxy.example"


def test_another_api_host_needs_a_change_of_the_settings(world: World) -> None:
    broker = stage(world)
    at(world, "https://eu.vendor.example")
    world.get_token(broker, NAME)
    world.clock.advance(7200)
    at(world, "https://us.vendor.example", "tok-2")
    with pytest.raises(ProviderInvalidResponse, match="API host"):
        world.get_token(broker, NAME)
    # A path is no other host.
    world.clock.advance(7200)
    at(world, "https://eu.vendor.example/v2", "tok-3")
    assert world.get_token(broker, NAME).api_base_url == "https://eu.vendor.example/v2"
    put(world, "second", scope="moved")
    at(world, "https://us.vendor.example", "tok-4")
    assert world.get_token(instance(world), NAME).api_base_url == "https://us.vendor.example"


def test_a_trial_checks_the_pinned_host_and_pins_none(world: World) -> None:
    broker = stage(world)
    at(world, "https://us.vendor.example")
    broker.trial(NAME, force=False)
    at(world, "https://eu.vendor.example", "tok-2")
    world.get_token(broker, NAME)
    world.secrets.put(NAME, {**SECRET, "client_id": "of-another-account"}, stage="AWSPENDING")
    at(world, "https://us.vendor.example", "tok-3")
    world.clock.advance(600)
    with pytest.raises(ProviderInvalidResponse, match="API host"):
        broker.trial(NAME, force=False)
    at(world, "https://eu.vendor.example", "tok-4")
    world.clock.advance(600)
    assert broker.trial(NAME, force=False).stage == "AWSPENDING"


def test_a_pinned_host_is_remembered_while_it_is_used(world: World) -> None:
    broker = stage(world)
    for month in range(4):
        at(world, "https://eu.vendor.example", f"tok-{month}")
        world.get_token(broker, NAME)
        world.clock.advance(20 * 86_400)
    at(world, "https://us.vendor.example", "tok-9")
    with pytest.raises(ProviderInvalidResponse, match="API host"):
        world.get_token(broker, NAME)


def test_a_base_url_outside_the_vendors_domain_is_no_token(world: World) -> None:
    broker = stage(world)
    at(world, "https://vendor.example.evil.example")
    with pytest.raises(ProviderInvalidResponse, match="host of the provider's file"):
        world.get_token(broker, NAME)


def test_a_client_id_that_no_header_can_hold_is_never_sent(world: World) -> None:
    broker = stage(world)
    world.secrets.put(NAME, {**SECRET, "client_id": "Zürich"})
    with pytest.raises(ConnectionMisconfigured, match="client_id has a character"):
        world.get_token(broker, NAME)
    assert len(world.provider) == 0

"""Which principals may get a token, on every path to one. tests/unit/test_callers.py tests the lists themselves."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import World
from tests.integration.handlers.functions import BrokerResponse
from tests.security.playground import Playground, event, playground, routes
from token_broker.core.names import ConnectionName

ACCOUNT = "123456789012"
ROLE, STS = f"arn:aws:iam::{ACCOUNT}:role", f"arn:aws:sts::{ACCOUNT}:assumed-role"
SSO = "AWSReservedSSO_ReadOnly_0123456789abcdef"
SSO_PATH = f"{ROLE}/aws-reserved/sso.amazonaws.com/eu-west-1/{SSO}"
GET = next(route for route in routes() if route.path.startswith("/v1/tokens") and route.method == "GET")
NAME = ConnectionName("oauth2", "main")


def ask(place: Playground, user_arn: str | None, **query: list[str]) -> BrokerResponse:
    names = {"provider": NAME.provider, "connection": NAME.connection}
    return place.send(GET, event(GET, names, query=query, identity={"userArn": user_arn}))


@pytest.mark.parametrize(
    ("entry", "user_arn", "admitted"),
    [
        # IAM Identity Center's roles have a path, which the ARN of a session lacks.
        (SSO_PATH, f"{STS}/{SSO}/alice@example.com", True),
        (f"{ROLE}/AWSReservedSSO_ReadOnly_*", f"{STS}/{SSO}/alice@example.com", True),
        (SSO_PATH, f"{STS}/AWSReservedSSO_Admin_0123456789abcdef/alice@example.com", False),
        # The session name proves nothing: whoever assumes a role chooses it.
        (f"{ROLE}/shop", f"{STS}/shop/anything", True),
        (f"{ROLE}/shop", f"{STS}/other/shop", False),
        (f"{ROLE}/shop", f"{STS}/other/role/shop", False),
        (f"{ROLE}/shop", f"{STS}/other/x:role/shop", False),
        (f"{ROLE}/shop", f"arn:aws:sts::{ACCOUNT}:federated-user/role/shop", False),
        (f"{ROLE}/shop", f"arn:aws:sts::{ACCOUNT}:federated-user/shop", False),
        # Another account with the same names.
        (f"{ROLE}/shop", "arn:aws:sts::210987654321:assumed-role/shop/s", False),
        (f"{ROLE}/*", "arn:aws:sts::210987654321:assumed-role/shop/s", False),
        ("arn:aws:iam::210987654321:role/shop", "arn:aws:sts::210987654321:assumed-role/shop/s", True),
        (f"arn:aws:iam::{ACCOUNT}:user/dept/bob", f"arn:aws:iam::{ACCOUNT}:user/dept/bob", True),
        (f"arn:aws:iam::{ACCOUNT}:user/bob", f"{STS}/bob/s", False),
        ("*", f"{STS}/anybody/s", True),
        # A request without a verified principal is denied, whatever the list says.
        ("*", None, False),
        ("*", "", False),
    ],
)
def test_a_principal_is_allowed_only_by_its_own_entry(entry: str, user_arn: str | None, admitted: bool) -> None:
    world = World()
    world.connection("oauth2", allowed_callers=[entry])
    with playground(world) as place:
        response = ask(place, user_arn)
    assert (response.status, response.code) == ((200, None) if admitted else (403, "caller_not_allowed"))
    assert len(world.provider) == admitted


@pytest.mark.parametrize("lists", [{"denied_callers": [f"{ROLE}/team/bad*"]}, {"allowed_callers": [f"{ROLE}/shop"]}])
def test_a_caller_that_is_not_allowed_gets_no_token_on_any_path(lists: dict[str, list[str]]) -> None:
    """First token, memory, table, report, memory while the tables fail, cooldown, renewal."""
    world, bad, good = World(), f"{STS}/bad-one/s", f"{STS}/shop/s"
    settings: dict[str, Any] = {"allowed_callers": ["*"], **lists}
    world.connection("oauth2", **settings)

    def refused(place: Playground, **query: list[str]) -> bool:
        response = ask(place, bad, **query)
        assert "access_token" not in response.body
        return response.code == "caller_not_allowed"

    with playground(world) as place:
        assert refused(place)
        assert len(world.provider) == 0
        token_id = ask(place, good).body["token_id"]
        assert ask(place, good).body["source"] == "memory"
        assert refused(place)
        assert refused(place, min_ttl=["3600"])
        assert refused(place, rejected=[token_id])
        assert len(world.provider) == 1
        world.clock.advance(31)
        world.faults.take_down("tokens")
        assert ask(place, good).body["source"] == "memory"
        assert ask(place, bad).code == "broker_unavailable"
        world.faults.bring_up("tokens")
        place.restart()
        assert refused(place)
        assert ask(place, good).body["source"] == "table"
        world.provider.to = world.revoker.to
        world.clock.advance(3600)
        assert ask(place, good).code == "provider_invalid_response"
        assert refused(place)


def test_a_denial_applies_to_cached_tokens_within_thirty_seconds() -> None:
    world, user_arn = World(), f"{STS}/shop/s"
    world.connection("oauth2", allowed_callers=["*"])
    with playground(world) as place:
        assert ask(place, user_arn).status == 200
        world.settings(NAME, allowed_callers=["*"], denied_callers=[f"{ROLE}/shop"])
        world.clock.advance(30.001)
        assert ask(place, user_arn).code == "caller_not_allowed"

"""Real responses of the handlers agree with the document, and its examples are such responses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.events import Event
from tests.integration.handlers.functions import BrokerResponse, Functions
from tests.integration.handlers.test_error_codes import CASES, Case
from tests.integration.handlers.world import World
from tests.openapi.conformance import Documented
from tests.openapi.document import EXAMPLES
from tests.openapi.recording import NewWorld, record

Exchange = tuple[Event, BrokerResponse]


@pytest.fixture
def exchanges(monkeypatch: pytest.MonkeyPatch) -> list[Exchange]:
    """Every request of the test and its response."""
    recorded: list[Exchange] = []
    invoke = Functions.invoke

    def watched(functions: Functions, function: str, event: Event) -> Any:
        result = invoke(functions, function, event)
        if "statusCode" in result:
            recorded.append((event, BrokerResponse.of(result)))
        return result

    monkeypatch.setattr(Functions, "invoke", watched)
    return recorded


def faults(documented: Documented, exchanges: list[Exchange]) -> list[str]:
    # API Gateway adds its id to a function's response.
    return [
        fault
        for event, response in exchanges
        for fault in documented.faults(
            event["httpMethod"],
            event["resource"],
            response.status,
            response.headers | {"x-amzn-requestid": "1"},
            response.body,
        )
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code)
def test_every_error_is_documented_for_its_route(
    world: World, documented: Documented, exchanges: list[Exchange], case: Case
) -> None:
    assert case.cause(world).code == case.code
    assert faults(documented, exchanges) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code)
def test_every_state_after_an_error_is_documented(
    world: World, documented: Documented, exchanges: list[Exchange], case: Case
) -> None:
    case.cause(world)
    world.functions.restart(**world.stack.environments["ManageConnectionsFunction"])
    for provider in ("unidy", "oauth2"):
        world.api.call("GET", f"/v1/connections/{provider}/demo")
    world.api.call("GET", "/v1/connections")
    assert faults(documented, exchanges) == []


def test_a_failure_of_our_own_services_is_documented(
    world: World, documented: Documented, exchanges: list[Exchange]
) -> None:
    name = world.connect("unidy")
    world.functions.restart(SEALING_KEY_ARN="arn:aws:kms:eu-west-1:123456789012:key/none")
    assert world.api.token(name).code == "broker_unavailable"
    shown = world.api.call("GET", f"/v1/connections/{name}")
    assert shown.body["last_failure"]["code"] == "broker_unavailable"
    assert faults(documented, exchanges) == []


def test_the_examples_are_real_responses(
    new_world: NewWorld, documented: Documented, exchanges: list[Exchange]
) -> None:
    assert record(new_world) == json.loads(EXAMPLES.read_text()), "make openapi writes them anew"
    assert {response.status for _, response in exchanges} >= {200, 201, 503}
    assert faults(documented, exchanges) == []

"""The real handlers over stores, queue, network and clock in memory: thousands of events in seconds."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

import pytest

from local.resources import Route, load_template, routes_of, translate
from tests.fakes import World
from tests.integration.handlers.functions import BrokerResponse, Context
from tests.openapi.conformance import Documented
from tests.openapi.document import DOCUMENT
from token_broker import bootstrap

HANDLERS: Final = {
    "GetTokenFunction": "get_token.app",
    "ManageConnectionsFunction": "manage_connections.app",
    "SweepDueFunction": "sweep_due.app",
    "RenewTokenFunction": "renew_token.app",
    "SecretChangedFunction": "secret_changed.app",
    "ObtainConsentFunction": "obtain_consent.app",
    "ExchangeCodeFunction": "exchange_code.app",
}
SESSION: Final = "arn:aws:sts::123456789012:assumed-role/shop/session"


@lru_cache(maxsize=1)
def routes() -> tuple[Route, ...]:
    """The routes of template.yaml."""
    return tuple(routes_of(translate(load_template(), region="eu-west-1")))


@lru_cache(maxsize=1)
def documented() -> Documented:
    """docs/openapi.json, with every object closed."""
    return Documented(json.loads(DOCUMENT.read_text(encoding="utf-8")))


class Playground:
    """One environment of each function over a world. `restart` empties their memory."""

    def __init__(self, world: World) -> None:
        self.world = world
        bootstrap.broker.cache_clear()
        bootstrap.settings.cache_clear()

    def restart(self) -> None:
        bootstrap.broker.cache_clear()

    def invoke(self, function: str, event: Any) -> Any:
        """What the handler returns."""
        handler = importlib.import_module(HANDLERS[function]).lambda_handler
        return handler(event, Context(function))

    def send(self, route: Route, event: Mapping[str, Any]) -> BrokerResponse:
        """Sends a request, and checks that the response is a documented one."""
        before = self.world.clock()
        response = BrokerResponse.of(self.invoke(route.function, event))
        # The function has 28 s. 2 s are reserved for the response.
        assert (self.world.clock() - before).total_seconds() <= 26, response
        # API Gateway adds its id to a function's response.
        headers = {**response.headers, "x-amzn-requestid": "1"}
        assert documented().faults(route.method, route.path, response.status, headers, response.body) == []
        if response.status >= 400:
            assert response.status == response.body.get("status") or response.body.get("status") == "failing"
        return response


@contextmanager
def playground(world: World, **overrides: Any) -> Iterator[Playground]:
    """Handlers over this world until the context ends. `overrides`: replaces fields of the broker's context."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("boto3.session.Session", lambda: None)
        patch.setattr(bootstrap, "build_broker", lambda *_: world.instance(sleep=world.clock.sleep, **overrides))
        patch.setenv("POWERTOOLS_METRICS_NAMESPACE", "TokenBroker")
        yield Playground(world)
    bootstrap.broker.cache_clear()
    bootstrap.settings.cache_clear()


def event(
    route: Route,
    names: Mapping[str, str],
    *,
    path: str | None = None,
    query: Mapping[str, list[str]] | None = None,
    headers: Mapping[str, str] | None = None,
    body: str | None = None,
    is_base64: bool = False,
    identity: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """API Gateway's proxy event of a request. `path`: the sent path, by default the one that the names make up."""
    plain = route.path
    for name, value in names.items():
        plain = plain.replace("{" + name + "}", value)
    return {
        "resource": route.path,
        "path": plain if path is None else path,
        "httpMethod": route.method,
        "headers": dict(headers) if headers else None,
        "multiValueHeaders": {name: [value] for name, value in headers.items()} if headers else None,
        "queryStringParameters": {name: values[-1] for name, values in query.items()} if query else None,
        "multiValueQueryStringParameters": dict(query) if query else None,
        "pathParameters": {name: value for name, value in names.items() if "{" + name + "}" in route.path} or None,
        "stageVariables": None,
        "requestContext": {
            "resourcePath": route.path,
            "httpMethod": route.method,
            "path": f"/api{plain}",
            "requestId": "3f0a2b7e-request",
            "accountId": "123456789012",
            "stage": "api",
            "identity": {"sourceIp": "127.0.0.1", "userAgent": None, "userArn": SESSION, **(identity or {})},
        },
        "body": body,
        "isBase64Encoded": is_base64,
    }


def text_of(response: BrokerResponse) -> bytes:
    """A whole response as bytes."""
    return (json.dumps(response.headers) + response.text + json.dumps(response.body, ensure_ascii=False)).encode()

"""Calls the real functions in this process as Lambda does: with real events, each in its own environment."""

from __future__ import annotations

import importlib
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from typing import Any, Final
from urllib.parse import quote, urlencode

import boto3
import pytest

from local.events import Event, api_gateway_event
from local.front import Route
from local.resources import LocalStack
from local.sigv4 import LOCAL, Caller, ReceivedRequest
from token_broker import bootstrap

LAMBDA_TIMEOUT_MS: Final = 28_000
Query = Mapping[str, str] | Sequence[tuple[str, str]] | str


@dataclass(frozen=True)
class Context:
    """Lambda's context of an invocation."""

    function_name: str
    remaining_ms: int = LAMBDA_TIMEOUT_MS
    memory_limit_in_mb: int = 1024
    invoked_function_arn: str = "arn:aws:lambda:eu-west-1:123456789012:function:local"
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms


@dataclass(frozen=True)
class BrokerResponse:
    """The broker's response, read from a proxy response: header names in lower case, the body as JSON."""

    status: int
    headers: dict[str, str]
    body: Any
    text: str = field(repr=False)

    @classmethod
    def of(cls, response: Mapping[str, Any]) -> BrokerResponse:
        headers = {name.lower(): ", ".join(values) for name, values in response["multiValueHeaders"].items()}
        assert response["isBase64Encoded"] is False
        return cls(response["statusCode"], headers, json.loads(response["body"]), response["body"])

    @property
    def code(self) -> str | None:
        """The problem's code; None for a success."""
        code: str | None = self.body.get("code") if self.status >= 400 else None
        return code


class Clients:
    """Replaces a boto3 session and creates each client once."""

    def __init__(self, session: boto3.session.Session) -> None:
        self._session: Any = session
        self._made: dict[str, Any] = {}

    def client(self, service_name: str, **arguments: Any) -> Any:
        """A client by name and config, as the functions request it."""
        if service_name not in self._made:
            self._made[service_name] = self._session.client(service_name, **arguments)
        return self._made[service_name]


class Functions:
    """Invokes functions by their logical id. A change of function and `restart` give a fresh environment."""

    def __init__(
        self, stack: LocalStack, clients: Clients, variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.stack = stack
        self._clients = clients
        self.context: dict[str, Any] = {}
        self._variables = dict(variables)
        self._monkeypatch = monkeypatch
        self._running: str | None = None

    def invoke(self, function: str, event: Any) -> Any:
        """What the function's handler returns for one event."""
        if function != self._running:
            self._start(function)
        module, _, name = self.stack.handlers[function].rpartition(".")
        handler: Callable[[Any, Any], Any] = getattr(importlib.import_module(module), name)
        return handler(event, Context(function, **self.context))

    def restart(self, **variables: str) -> None:
        """The next invocation runs in a fresh environment. These variables stay changed."""
        self._variables |= variables
        self._running = None

    def _start(self, function: str) -> None:
        for environment in self.stack.environments.values():
            for name in environment:
                self._monkeypatch.delenv(name, raising=False)
        for name, value in {**self.stack.environments[function], **self._variables}.items():
            self._monkeypatch.setenv(name, value)
        # Creating four clients takes longer than most tests. They keep no state between tests.
        self._monkeypatch.setattr("boto3.session.Session", lambda: self._clients)
        bootstrap.broker.cache_clear()
        bootstrap.settings.cache_clear()
        self._running = function


class Api:
    """The HTTP API without HTTP: a request becomes API Gateway's proxy event for the function of its route."""

    def __init__(self, functions: Functions) -> None:
        self.functions = functions

    def event(
        self,
        method: str,
        path: str,
        query: Query = (),
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        caller: Caller = LOCAL,
    ) -> tuple[str, Event]:
        """The function of a request's route, and the event. A body that is not text is sent as JSON."""
        received = Message()
        for name, value in {"Host": "api.local", **(headers or {})}.items():
            received[name] = value
        text = "" if body is None else body if isinstance(body, str) else json.dumps(body)
        encoded = query if isinstance(query, str) else urlencode(query, quote_via=quote)
        request = ReceivedRequest(method, path, encoded, received, text.encode())
        for route in self.functions.stack.routes:
            parameters = Route(route.method, route.path, _NoFunction()).match(method, path)
            if parameters is not None:
                event = api_gateway_event(
                    request,
                    resource=route.path,
                    path_parameters=parameters,
                    stage="api",
                    caller=caller if route.signed else None,
                    request_id=str(uuid.uuid4()),
                    now=datetime.now(UTC),
                )
                return route.function, event
        raise LookupError(f"{method} {path} is no route of the template")

    def call(self, method: str, path: str, query: Query = (), **request: Any) -> BrokerResponse:
        """Sends one request."""
        function, event = self.event(method, path, query, **request)
        return BrokerResponse.of(self.functions.invoke(function, event))

    def token(self, name: str, **query: str) -> BrokerResponse:
        """GET /v1/tokens/{name}. `name`: provider/connection."""
        return self.call("GET", f"/v1/tokens/{name}", query)

    def put(self, name: str, settings: Any, **headers: str) -> BrokerResponse:
        """PUT /v1/connections/{name}. `headers`: with _ instead of - in their names."""
        named = {header.replace("_", "-"): value for header, value in headers.items()}
        return self.call("PUT", f"/v1/connections/{name}", body=settings, headers=named)


class _NoFunction:
    """Stands for a route's function if only the path matters."""

    def invoke(self, event: Any) -> Any:
        raise AssertionError(event)

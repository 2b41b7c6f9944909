"""Schemathesis against a running stack: what it sends, how responses are checked, and what came back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import schemathesis
from hypothesis import strategies
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.hooks import unregister

from local.client import SignedClient
from local.connections import DEMO_PROVIDERS, NAME, aws_client
from local.providers import DEFAULT_ACCOUNTS, default_settings
from local.stack import Stack

Schema = dict[str, Any]
Names = tuple[str, str]

# Longer than the broker's longest wait (12 s for an acquisition). A request without response by then hangs.
LONGEST_S: Final = 20
# The only 5xx responses that are not the broker's fault.
OF_PROVIDERS: Final = (502, 503)
# Connections with a wrong secret, with a failing provider, without a secret, and suspended.
REFUSED: Final = ("unidy", "refused")
FAILING: Final = ("oauth2", NAME)
EMPTY: Final = ("unidy", "empty")
OFF: Final = ("unidy", "off")


@dataclass
class FuzzResult:
    """What a run found: number of requests, statuses, faults in words, bodies."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)


class Ground:
    """A stack with connections in every state. A PUT to one of them always sends its own settings.

    Otherwise the broker would connect to any address in random settings.
    """

    def __init__(self, stack: Stack, client: SignedClient) -> None:
        self._stack = stack
        callers = {"allowed_callers": [stack.options.caller.arn]}
        self.settings: dict[Names, dict[str, Any]] = {
            (slug, NAME): callers | default_settings(slug, stack.providers_url) for slug in (*DEMO_PROVIDERS, "oauth2")
        }
        unidy = self.settings["unidy", NAME]
        self.settings |= {REFUSED: unidy, EMPTY: unidy, OFF: unidy | {"suspended": True}}
        self._secret(FAILING, DEFAULT_ACCOUNTS["oauth2"]["secret"])
        self._secret(REFUSED, {"client_id": "fake-unknown-client", "client_secret": "fake-unknown-secret"})
        self._stack.providers.simulator("oauth2").fail("status", status=503, times=None)
        for (provider, connection), settings in self.settings.items():
            response = client.call("PUT", f"/v1/connections/{provider}/{connection}", body=settings)
            if response.status not in (200, 201):
                raise AssertionError(response)

    def _secret(self, names: Names, value: Mapping[str, str]) -> None:
        aws_client("secretsmanager", self._stack.endpoint_url).create_secret(
            Name="/".join((self._stack.resources.secret_prefix, *names)), SecretString=json.dumps(value)
        )

    def fuzz(self, document: Schema, *, examples: int, seed: int, settings_whole: bool) -> FuzzResult:
        """Sends up to `examples` requests per operation, and the edge cases of the document.

        `settings_whole`: also the edge cases of a PUT's body, which are more than a thousand.
        """
        config = _config(self._stack.url, examples, seed, settings_whole=settings_whole)
        schema = schemathesis.openapi.from_dict(document, config=config)
        known = strategies.sampled_from(sorted(self.settings)).map(lambda names: dict(zip(_NAMES, names, strict=True)))

        @schema.hook
        def flatmap_path_parameters(_: Any, path_parameters: dict[str, Any]) -> Any:
            if not path_parameters:
                return strategies.just(path_parameters)
            return strategies.one_of(known, known, known, strategies.just(path_parameters))

        # Hooks for the requests of all phases exist only globally, not per schema.
        @schemathesis.hook
        def before_call(_: Any, case: Any, **__: Any) -> None:
            names = tuple((case.path_parameters or {}).get(name) for name in _NAMES)
            if case.method == "PUT" and names in self.settings and isinstance(case.body, dict):
                case.body = self.settings[names]

        try:
            result = FuzzResult()
            for event in from_schema(schema).execute():
                _note(event, result)
            return result
        finally:
            unregister(before_call)


_NAMES: Final = ("provider", "connection")


def _config(url: str, examples: int, seed: int, *, settings_whole: bool) -> SchemathesisConfig:
    enabled, disabled = {"enabled": True}, {"enabled": False}
    return SchemathesisConfig.from_dict(
        {
            "base-url": url,
            "seed": seed,
            "continue-on-failure": True,
            "request-timeout": LONGEST_S,
            "max-redirects": 0,
            "generation": {
                "mode": "all",
                "max-examples": examples,
                "no-shrink": True,
                "database": "none",
                "with-security-parameters": False,
            },
            "phases": {
                "examples": enabled,
                "coverage": enabled | {"generate-duplicate-query-parameters": True},
                "fuzzing": enabled,
                "stateful": disabled,
            },
            "operations": [
                {
                    "include-method": "PUT",
                    "phases": {"coverage": {"enabled": settings_whole}},
                    # before_call replaces bodies, so a body meant to be invalid may be valid.
                    "checks": {"negative_data_rejection": disabled},
                }
            ],
            "checks": {
                "enabled": False,
                "not_a_server_error": enabled | {"expected-statuses": ["2xx", "4xx", *OF_PROVIDERS]},
                "status_code_conformance": enabled,
                "content_type_conformance": enabled,
                "response_headers_conformance": enabled,
                "response_schema_conformance": enabled,
                "negative_data_rejection": enabled | {"expected-statuses": ["4xx", *OF_PROVIDERS]},
            },
        }
    )


def _note(event: events.EngineEvent, result: FuzzResult) -> None:
    if isinstance(event, events.NonFatalError):
        result.faults.append(f"{event.label}: {event.value}")
    if isinstance(event, events.FatalError):
        raise event.exception
    if not isinstance(event, events.ScenarioFinished):
        return
    for interaction in event.recorder.interactions.values():
        result.requests += 1
        if interaction.response is None:
            result.faults.append(f"{interaction.request.method} {interaction.request.uri}: no response")
            continue
        result.statuses[interaction.response.status_code] += 1
        if not ("/v1/tokens/" in interaction.request.uri and interaction.response.status_code == 200):
            result.bodies.append((interaction.response.content or b"").decode())
    for checks in event.recorder.checks.values():
        for check in checks:
            if check.failure_info is not None:
                failure = check.failure_info.failure
                result.faults.append(
                    f"{check.name}: {failure.title}: {failure.message}\n{check.failure_info.code_sample}"
                )

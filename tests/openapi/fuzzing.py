"""Schemathesis against a running stack: what it may send, what it holds the answers to, and what it met."""

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

# Longer than the longest wait of the broker (12 s for an acquisition): who is not answered by then hangs.
LONGEST_S: Final = 20
# The only answers of 5xx that are no fault of the broker.
OF_PROVIDERS: Final = (502, 503)
# A connection whose secret is wrong, one whose provider fails, one without a secret, one that is switched off.
REFUSED: Final = ("unidy", "refused")
FAILING: Final = ("oauth2", NAME)
EMPTY: Final = ("unidy", "empty")
OFF: Final = ("unidy", "off")


@dataclass
class Met:
    """What a run brought: how many requests, which answers, and every fault in words."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)


class Ground:
    """A stack with connections of every state, whose settings stay what they are whatever is put.

    What has a secret gets only its own settings: the broker would dial any address that a random PUT names.
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
            answer = client.call("PUT", f"/v1/connections/{provider}/{connection}", body=settings)
            if answer.status not in (200, 201):
                raise AssertionError(answer)

    def _secret(self, names: Names, value: Mapping[str, str]) -> None:
        aws_client("secretsmanager", self._stack.endpoint_url).create_secret(
            Name="/".join((self._stack.resources.secret_prefix, *names)), SecretString=json.dumps(value)
        )

    def fuzz(self, document: Schema, *, examples: int, seed: int, settings_whole: bool) -> Met:
        """Sends up to `examples` requests an operation, beside the edges that the document itself tells of.

        `settings_whole`: of a PUT's body too, whose edges alone are over a thousand.
        """
        config = _config(self._stack.url, examples, seed, settings_whole=settings_whole)
        schema = schemathesis.openapi.from_dict(document, config=config)
        known = strategies.sampled_from(sorted(self.settings)).map(lambda names: dict(zip(_NAMES, names, strict=True)))

        @schema.hook
        def flatmap_path_parameters(_: Any, path_parameters: dict[str, Any]) -> Any:
            if not path_parameters:
                return strategies.just(path_parameters)
            return strategies.one_of(known, known, known, strategies.just(path_parameters))

        # Of the hooks that see every request, of all phases, there are none for a single schema.
        @schemathesis.hook
        def before_call(_: Any, case: Any, **__: Any) -> None:
            names = tuple((case.path_parameters or {}).get(name) for name in _NAMES)
            if case.method == "PUT" and names in self.settings and isinstance(case.body, dict):
                case.body = self.settings[names]

        try:
            met = Met()
            for event in from_schema(schema).execute():
                _note(event, met)
            return met
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
                    # Its bodies are exchanged on the way (see before_call), so that bad ones may be good.
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


def _note(event: events.EngineEvent, met: Met) -> None:
    if isinstance(event, events.NonFatalError):
        met.faults.append(f"{event.label}: {event.value}")
    if isinstance(event, events.FatalError):
        raise event.exception
    if not isinstance(event, events.ScenarioFinished):
        return
    for interaction in event.recorder.interactions.values():
        met.requests += 1
        if interaction.response is None:
            met.faults.append(f"{interaction.request.method} {interaction.request.uri}: no answer")
            continue
        met.statuses[interaction.response.status_code] += 1
        if not ("/v1/tokens/" in interaction.request.uri and interaction.response.status_code == 200):
            met.bodies.append((interaction.response.content or b"").decode())
    for checks in event.recorder.checks.values():
        for check in checks:
            if check.failure_info is not None:
                failure = check.failure_info.failure
                met.faults.append(f"{check.name}: {failure.title}: {failure.message}\n{check.failure_info.code_sample}")

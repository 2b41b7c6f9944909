"""The audit: one line for each token returned, error, purge, trial and change of settings, at any log level."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from local.process import ROOT
from local.sigv4 import LOCAL, Caller
from tests.integration.handlers.world import World
from token_broker import observability

Lines = Callable[[], list[dict[str, Any]]]
AUDIT = observability.audit_log.registered_formatter
LOCAL_CALLER = LOCAL.identity["userArn"]
OTHER = replace(LOCAL, arn="arn:aws:sts::123456789012:assumed-role/other/session")
FACTS = (
    *("message", "decision", "caller", "provider", "connection"),
    *("scope", "token_id", "source", "expires_in", "warnings", "rejected", "request_id", "function_request_id"),
)


@pytest.fixture
def audited(caplog: pytest.LogCaptureFixture) -> Lines:
    """The audit lines since the last call."""

    def read() -> list[dict[str, Any]]:
        lines = [json.loads(AUDIT.format(record)) for record in caplog.records if record.name == "audit"]
        found = [{fact: line.get(fact) for fact in FACTS} for line in lines]
        caplog.clear()
        return found

    return read


def test_every_returned_token_is_audited_with_its_caller(world: World, audited: Lines) -> None:
    name = world.connect("unidy")
    given = [world.api.token(name).body for _ in range(2)]
    world.functions.restart()
    given.append(world.api.token(name).body)
    lines = audited()
    assert [line["source"] for line in lines] == ["provider", "memory", "table"]
    for body, line in zip(given, lines, strict=True):
        assert (line["message"], line["decision"], line["caller"]) == ("token_returned", "served", LOCAL_CALLER)
        assert (line["provider"], line["connection"], line["scope"]) == ("unidy", "demo", "users:read")
        assert line["token_id"] == body["token_id"]
        assert 0 < line["expires_in"] <= body["expires_in"]
        assert line["request_id"]
        assert line["function_request_id"]


@pytest.mark.parametrize(
    ("path", "caller", "decision"),
    [
        ("/v1/tokens/unidy/demo", OTHER, "caller_not_allowed"),
        ("/v1/tokens/unidy/none", LOCAL, "unknown_connection"),
        ("/v1/tokens/unidy/NONE", LOCAL, "invalid_request"),
        ("/v1/connections/unidy/none", OTHER, "unknown_connection"),
    ],
)
def test_every_error_is_audited_with_caller_and_code(
    world: World, audited: Lines, path: str, caller: Caller, decision: str
) -> None:
    world.connect("unidy")
    world.api.call("GET", path, caller=caller)
    (line,) = audited()
    assert (line["message"], line["decision"]) == ("request_failed", decision)
    assert line["caller"] == caller.identity["userArn"]
    assert line["connection"] == (None if "NONE" in path else path.rpartition("/")[2])


def test_changes_purges_and_trials_are_audited(world: World, audited: Lines) -> None:
    path = "/v1/connections/unidy/demo"
    world.connect("unidy")
    for method, route in (
        ("PUT", path),
        ("POST", f"{path}/trial"),
        ("DELETE", "/v1/tokens/unidy/demo"),
        ("DELETE", path),
    ):
        body = world.settings("unidy") if method == "PUT" else None
        assert world.api.call(method, route, body=body).code is None
    assert [(line["message"], line["decision"]) for line in audited()] == [
        ("settings_changed", "replaced"),
        ("trial", "done"),
        ("tokens_purged", "done"),
        ("settings_changed", "deleted"),
    ]


def test_a_change_of_settings_names_what_changed_and_shows_only_what_may_be_logged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def written(**changes: Any) -> list[dict[str, Any]]:
        caplog.clear()
        assert world.api.put("oauth2/demo", world.settings("oauth2", **changes)).status in (200, 201)
        return [json.loads(AUDIT.format(record)) for record in caplog.records if record.name == "audit"]

    written()
    url = f"{world.providers.url}/oauth2/token?tenant=hidden-tenant"
    (line,) = written(lifetime_s=60, params={"audience": "hidden-audience"}, token_url=url, allowed_callers=["*"])
    assert line["message"] == "settings_changed"
    changes = {change.pop("field"): change for change in line["changes"]}
    assert changes["lifetime_s"] == {"new": 60}
    assert changes["allowed_callers"] == {"old": [LOCAL.arn], "new": ["*"]}
    assert set(changes["params"]) == {"new_digest"}
    assert changes["token_url"]["new"] == changes["token_url"]["old"] == world.providers.url
    assert changes["token_url"]["new_digest"] != changes["token_url"]["old_digest"]
    assert "hidden" not in caplog.text

    same = {"lifetime_s": 60, "params": {"audience": "hidden-audience"}, "token_url": url, "allowed_callers": ["*"]}
    assert [line["message"] for line in written(**same, suspended=True)] == ["connection_suspended"]
    assert [line["message"] for line in written(**same | {"lifetime_s": 90})] == [
        "connection_resumed",
        "settings_changed",
    ]
    assert [line["changes"] for line in written(**same | {"lifetime_s": 90})] == [[]]


def test_the_log_level_does_not_silence_it() -> None:
    script = "from token_broker.observability import audit, logger; logger.info('quiet'); audit('token_returned')"
    variables = {**os.environ, "POWERTOOLS_LOG_LEVEL": "ERROR", "PYTHONPATH": str(ROOT / "layers" / "broker")}
    done = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["service"] == "audit"

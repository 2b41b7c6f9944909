"""Metrics in CloudWatch's embedded format. They have few dimensions, and none names a connection."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from aws_lambda_powertools.utilities.typing import LambdaContext

from tests.integration.handlers.functions import Context
from tests.integration.handlers.world import World
from token_broker.http.responses import timestamp
from token_broker.observability import observed

SERVICE = {"service": "token-broker"}
Metrics = Callable[[], dict[str, list[dict[str, Any]]]]


@pytest.fixture
def metrics(capsys: pytest.CaptureFixture[str]) -> Metrics:
    """The metrics since the last call, by name, each with its dimensions and value."""

    def read() -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for line in capsys.readouterr().out.splitlines():
            data = json.loads(line)
            if "_aws" not in data:
                continue
            (directive,) = data["_aws"]["CloudWatchMetrics"]
            (dimensions,), (metric,) = directive["Dimensions"], directive["Metrics"]
            (value,) = data[metric["Name"]]
            found.setdefault(metric["Name"], []).append({**{name: data[name] for name in dimensions}, "value": value})
        return found

    return read


def test_a_returned_token_is_counted_by_provider_and_source(world: World, metrics: Metrics) -> None:
    name = world.connect("unidy")
    for source in ("provider", "table"):
        world.functions.restart()
        metrics()
        assert world.api.token(name).body["source"] == source
        assert metrics()["TokensReturned"] == [{**SERVICE, "provider": "unidy", "source": source, "value": 1}]


def test_an_environments_first_invocation_counts_as_a_cold_start(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "TokenBroker")
    handler = observed(lambda event, _context: event)
    for _ in range(2):
        handler({}, cast("LambdaContext", Context("GetTokenFunction")))
    (cold,) = metrics()["ColdStarts"]
    assert cold["value"] == 1


@pytest.mark.parametrize(("days", "warned"), [(13, True), (60, False)])
def test_credentials_that_expire_soon_are_measured_and_logged(
    world: World, metrics: Metrics, caplog: pytest.LogCaptureFixture, days: int, warned: bool
) -> None:
    end = timestamp(datetime.now(UTC) + timedelta(days=days))
    name = world.connect("unidy", credentials_expire_at=end)
    metrics()
    world.api.token(name)
    (left,) = metrics()["CredentialsDaysLeft"]
    assert left.pop("value") == pytest.approx(days, abs=0.1)
    assert left == {**SERVICE, "provider": "unidy"}
    lines = [record for record in caplog.records if record.message == "credentials_expire"]
    assert [getattr(line, "connection", "") for line in lines] == ["demo"] * warned
    (deadline,) = world.api.call("GET", f"/v1/connections/{name}").body["deadlines"]
    assert deadline == {"what": "credentials", "scope": None, "at": end, "days_left": pytest.approx(days, abs=0.1)}

"""For people on call: each alarm has a runbook entry, and dashboard and outputs are correct."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from local.process import ROOT
from local.resources import Document

from .intrinsics import Resolver

TOPIC = "arn:aws:sns:eu-west-1:123456789012:"
CODE = [*(ROOT / "functions").rglob("*.py"), *(ROOT / "layers" / "broker").rglob("*.py")]
# tests/integration/test_alarms.py tests the metrics of alarms. These are the dashboard's.
OWN_METRIC = re.compile(r"(?:SUM|MIN|MAX)\((\w+)\) FROM SCHEMA\(\"TokenBroker/token-broker\"")


def alarms(translated: Document, **parameters: str) -> dict[str, dict[str, Any]]:
    """Every alarm, that of a gradual deployment too."""
    parameters = {"Deployment": "Canary10Percent5Minutes", **parameters}
    return {
        name: resource["Properties"]
        for name, resource in Resolver(translated, parameters).resources().items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }


def runbook() -> dict[str, tuple[str, str]]:
    """The runbook's entries by alarm: chapter and text."""
    entries: dict[str, tuple[str, str]] = {}
    for chapter in re.split(r"^## ", (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[
        1:
    ]:
        title, *parts = re.split(r"^### ", chapter, flags=re.MULTILINE)
        for part in parts:
            name, _, text = part.partition("\n")
            entries[name.strip()] = (title.strip(), text.strip())
    return entries


def test_every_alarm_has_a_runbook_entry_and_names_it(translated: Document) -> None:
    entries = runbook()
    assert entries.keys() == alarms(translated).keys()
    for name, alarm in alarms(translated).items():
        assert alarm["AlarmDescription"].endswith(f"docs/runbook.md, {name}.")
        for part in ("Look:", "Do:", "Ends:"):
            assert f"\n{part}" in entries[name][1], f"{name}: {part}"


def test_an_alarm_goes_to_the_topic_of_its_runbook_chapter(translated: Document) -> None:
    found = alarms(translated, PageTopicArn=f"{TOPIC}page", NotifyTopicArn=f"{TOPIC}notify")
    for name, (chapter, _) in runbook().items():
        topic = f"{TOPIC}page" if "PageTopicArn" in chapter else f"{TOPIC}notify"
        assert found[name]["AlarmActions"] == found[name]["OKActions"] == [topic], name


def test_without_topics_alarms_have_no_actions(translated: Document) -> None:
    assert not [name for name, alarm in alarms(translated).items() if "AlarmActions" in alarm or "OKActions" in alarm]


def test_every_alarm_defines_missing_data(translated: Document) -> None:
    found = {name: alarm["TreatMissingData"] for name, alarm in alarms(translated).items()}
    assert {name for name, treated in found.items() if treated == "breaching"} == {"SweepNotRunningAlarm"}
    assert {name for name, treated in found.items() if treated == "ignore"} == {"CredentialsExpiringAlarm"}
    assert set(found.values()) == {"breaching", "ignore", "notBreaching"}


@pytest.fixture
def dashboard(translated: Document) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(Resolver(translated).resources()["Dashboard"]["Properties"]["DashboardBody"])
    return body


def test_the_dashboards_metrics_are_written(dashboard: dict[str, Any]) -> None:
    emitted = set()
    for path in CODE:
        text = path.read_text(encoding="utf-8")
        emitted |= set(re.findall(r"(?:count|gauge)\(\s*\"(\w+)\"", text))
        emitted |= set(re.findall(r"(?:CREDENTIALS|REFRESH_TOKEN): \"(\w+)\"", text))
    shown = set(OWN_METRIC.findall(json.dumps(dashboard).replace('\\"', '"')))
    for widget in dashboard["widgets"]:
        for metric in widget["properties"].get("metrics", ()):
            if metric[0] == "TokenBroker/token-broker":
                shown.add(metric[1])
    assert len(shown) >= 8
    assert shown <= emitted


def test_the_output_for_callers_is_a_policy_of_one_connection(translated: Document) -> None:
    policy = json.loads(Resolver(translated)(translated["Outputs"]["CallerPolicy"]["Value"]))
    (statement,) = policy["Statement"]
    assert statement == {
        "Effect": "Allow",
        "Action": "execute-api:Invoke",
        "Resource": ("arn:aws:execute-api:eu-west-1:123456789012:TokenBrokerApi/api/GET/v1/tokens/PROVIDER/CONNECTION"),
    }


@pytest.mark.parametrize(
    ("parameters", "url"),
    [
        ({}, "https://TokenBrokerApi.execute-api.eu-west-1.amazonaws.com/api"),
        ({"DomainName": "tokens.example.com"}, "https://tokens.example.com"),
    ],
)
def test_the_output_of_the_url_is_the_base_url(translated: Document, parameters: dict[str, str], url: str) -> None:
    assert Resolver(translated, parameters)(translated["Outputs"]["ApiUrl"]["Value"]) == url

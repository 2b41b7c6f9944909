"""The same day over the real DynamoDB adapters and moto. It must have the same result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import boto3
from moto import mock_aws

from local.resources import load_template
from tests.simulation.day import Outcome, Plan, Rotation, Stores, in_memory, run
from tests.simulation.population import HOUR, PROVIDERS, crowd
from tests.simulation.scenarios import Line
from tests.simulation.vendors import Trouble
from token_broker.adapters.dynamodb.connection_store import DynamoConnectionStore
from token_broker.adapters.dynamodb.token_store import DynamoTokenStore

TABLE_PROPERTIES = ("AttributeDefinitions", "BillingMode", "GlobalSecondaryIndexes", "KeySchema")


def plan(hours: float) -> Plan:
    """A few keys of each provider, an outage, a time without responses, and a rotation of secrets."""
    keys = [key for provider in PROVIDERS for key in crowd(provider, 3, within_s=120, every_s=300)]
    length_s = hours * HOUR
    troubles = (
        Trouble("ucommerce", "503", 0.3 * length_s, 600),
        Trouble("unified-services", "hang", 0.5 * length_s, 600),
    )
    return Plan("dynamodb", keys, length_s, troubles, Rotation(0.8 * length_s, 60))


def compare(hours: float) -> list[Line]:
    """Runs the day twice. The lines hold if both results are the same, to the millisecond."""
    day = plan(hours)
    expected = run(day, in_memory)
    with dynamodb() as stores:
        found = run(day, stores)
    requests = sum(len(exchanges) for exchanges in found.exchanges.values())
    calls = sum(course.calls for course in found.courses)
    renewals = sum(found.renewals.values())
    return [
        Line("requests to vendors, each at its moment", f"{requests:,}", found.exchanges == expected.exchanges),
        Line("calls, waits, failures and tokens of each key", f"{calls:,}", _courses(found) == _courses(expected)),
        Line("outcomes of the renewals", f"{renewals:,}", found.renewals == expected.renewals),
    ]


@contextmanager
def dynamodb() -> Iterator[Stores]:
    """The stores over empty tables as template.yaml declares them."""
    with mock_aws():
        client = boto3.client(
            "dynamodb", region_name="eu-west-1", aws_access_key_id="local", aws_secret_access_key="local"
        )
        for name in ("ConnectionTable", "TokenTable"):
            properties = load_template()["Resources"][name]["Properties"]
            declared: dict[str, Any] = {part: properties[part] for part in TABLE_PROPERTIES if part in properties}
            client.create_table(TableName=name, **declared)
        yield lambda: (
            DynamoTokenStore(client, token_table="TokenTable", connection_table="ConnectionTable"),
            DynamoConnectionStore(client, table="ConnectionTable"),
        )


def _courses(outcome: Outcome) -> list[dict[str, Any]]:
    return [asdict(course) for course in outcome.courses]

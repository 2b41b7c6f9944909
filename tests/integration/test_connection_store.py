"""The DynamoDB connection store fulfils the contract, and sends the right requests to the table."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from local.resources import LocalStack
from tests.component.connection_store_contract import SETTINGS, ConnectionStoreContract, listed, new_name, put
from tests.integration.conftest import LocalSession
from token_broker.adapters.aws import CLIENT_CONFIG
from token_broker.adapters.dynamodb.connection_store import DynamoConnectionStore
from token_broker.adapters.dynamodb.keys import connection_pk
from token_broker.errors import BrokerUnavailable
from token_broker.ports import StoredSettings


def no_sleep(_seconds: float) -> None:
    """Nothing is unprocessed, so nothing waits."""


@pytest.fixture(scope="module")
def dynamodb(session: boto3.session.Session) -> Any:
    return session.client("dynamodb", config=CLIENT_CONFIG)


@pytest.fixture(scope="module")
def connections(dynamodb: Any, stack: LocalStack) -> DynamoConnectionStore:
    return DynamoConnectionStore(dynamodb, table=stack.connection_table, sleep=no_sleep)


class TestDynamoConnectionStore(ConnectionStoreContract):
    """Over the table of template.yaml."""


@pytest.mark.parametrize("before", [None, "s1"])
def test_a_put_that_aws_repeats_is_recognised_as_ours(before: str | None) -> None:
    """The response was lost, and the AWS client repeats the request: it finds its own version."""
    name = new_name()
    item = {"pk": {"S": connection_pk(name)}, "settings": {"S": json.dumps(SETTINGS)}}
    client = LocalSession("http://127.0.0.1:9").client("dynamodb")
    with Stubber(client) as stubber:
        stubber.add_response("get_item", {"Item": {**item, "version": {"S": before}}} if before else {})
        stubber.add_client_error(
            "put_item", "ConditionalCheckFailedException", modeled_fields={"Item": {**item, "version": {"S": "s2"}}}
        )
        found = put(DynamoConnectionStore(client, table="connections", sleep=no_sleep), name, "s2", expected=before)
    assert found == (StoredSettings(name, SETTINGS, before) if before else None)


def test_a_put_whatever_the_version_tries_again_when_somebody_else_was_first() -> None:
    name = new_name()
    other = {"pk": {"S": connection_pk(name)}, "settings": {"S": json.dumps(SETTINGS)}, "version": {"S": "other"}}
    client = LocalSession("http://127.0.0.1:9").client("dynamodb")
    with Stubber(client) as stubber:
        stubber.add_response("get_item", {})
        stubber.add_client_error("put_item", "ConditionalCheckFailedException", modeled_fields={"Item": other})
        stubber.add_response("get_item", {"Item": other})
        stubber.add_response("put_item", {})
        found = put(DynamoConnectionStore(client, table="connections", sleep=no_sleep), name, "s2")
        stubber.assert_no_pending_responses()
    assert found == StoredSettings(name, SETTINGS, "other")


def test_settings_that_are_not_json_are_read_as_empty(
    connections: DynamoConnectionStore, dynamodb: Any, stack: LocalStack
) -> None:
    name = new_name()
    dynamodb.put_item(TableName=stack.connection_table, Item={"pk": {"S": connection_pk(name)}, "settings": {"S": "{"}})
    stored = connections.get(name)
    assert stored is not None
    assert dict(stored.settings) == {}


def test_items_of_another_kind_are_left_out_of_pages(
    connections: DynamoConnectionStore, dynamodb: Any, stack: LocalStack
) -> None:
    dynamodb.put_item(TableName=stack.connection_table, Item={"pk": {"S": "X#not a connection"}})
    assert all(name.provider for name in listed(connections, 100))


def test_reads_are_strongly_consistent() -> None:
    client = LocalSession("http://127.0.0.1:9").client("dynamodb")
    name = new_name()
    with Stubber(client) as stubber:
        key = {"pk": {"S": connection_pk(name)}}
        stubber.add_response("get_item", {}, {"TableName": "connections", "Key": key, "ConsistentRead": True})
        stubber.add_response("query", {"Items": [key]})
        keys = {"connections": {"Keys": [key], "ConsistentRead": True}}
        stubber.add_response("batch_get_item", {"Responses": {"connections": []}}, {"RequestItems": keys})
        connections = DynamoConnectionStore(client, table="connections", sleep=no_sleep)
        assert connections.get(name) is None
        assert connections.page(5, None) == ([], False)


def test_an_error_of_the_table_is_broker_unavailable() -> None:
    client = LocalSession("http://127.0.0.1:9").client("dynamodb")
    with Stubber(client) as stubber:
        connections = DynamoConnectionStore(client, table="connections", sleep=no_sleep)
        for operation in ("get_item", "get_item", "get_item", "query"):
            stubber.add_client_error(operation, "InternalServerError")
        with pytest.raises(BrokerUnavailable):
            connections.get(new_name())
        with pytest.raises(BrokerUnavailable):
            connections.put(new_name(), SETTINGS, version="s1", expected=None, absent=True)
        with pytest.raises(BrokerUnavailable):
            connections.delete(new_name(), expected=None)
        with pytest.raises(BrokerUnavailable):
            connections.page(5, None)

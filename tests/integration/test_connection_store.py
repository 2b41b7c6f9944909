"""The DynamoDB connection store fulfils the contract, and sends the right requests to the table."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from local.resources import LocalStack
from tests.component.connection_store_contract import SETTINGS, ConnectionStoreContract, new_name, put
from tests.integration.conftest import LocalSession
from token_broker.adapters.aws import CLIENT_CONFIG
from token_broker.adapters.dynamodb.connection_store import DynamoConnectionStore
from token_broker.adapters.dynamodb.keys import connection_pk
from token_broker.errors import BrokerUnavailable


@pytest.fixture(scope="module")
def dynamodb(session: boto3.session.Session) -> Any:
    return session.client("dynamodb", config=CLIENT_CONFIG)


@pytest.fixture(scope="module")
def connections(dynamodb: Any, stack: LocalStack) -> DynamoConnectionStore:
    return DynamoConnectionStore(dynamodb, table=stack.connection_table)


class TestDynamoConnectionStore(ConnectionStoreContract):
    """Over the table of template.yaml."""


def test_a_repeated_creation_is_recognised_as_ours(connections: DynamoConnectionStore) -> None:
    """The response was lost, and the AWS client repeats the request."""
    name = new_name()
    assert put(connections, name, "s1", absent=True) is None
    assert put(connections, name, "s1", absent=True) is None


def test_a_repeated_replacement_is_recognised_as_ours(connections: DynamoConnectionStore) -> None:
    name = new_name()
    put(connections, name, "s1")
    put(connections, name, "s2", expected="s1")
    assert put(connections, name, "s2", expected="s1") is not None


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
    page, _cursor = connections.page(100, None)
    assert all(stored.name.provider for stored in page)


def test_reads_are_strongly_consistent() -> None:
    client = LocalSession("http://127.0.0.1:9").client("dynamodb")
    name = new_name()
    with Stubber(client) as stubber:
        key = {"pk": {"S": connection_pk(name)}}
        stubber.add_response("get_item", {}, {"TableName": "connections", "Key": key, "ConsistentRead": True})
        stubber.add_response("scan", {"Items": []}, {"TableName": "connections", "Limit": 5, "ConsistentRead": True})
        connections = DynamoConnectionStore(client, table="connections")
        assert connections.get(name) is None
        assert connections.page(5, None) == ([], None)


def test_an_error_of_the_table_is_broker_unavailable() -> None:
    client = LocalSession("http://127.0.0.1:9").client("dynamodb")
    with Stubber(client) as stubber:
        connections = DynamoConnectionStore(client, table="connections")
        for operation in ("get_item", "put_item", "delete_item", "scan"):
            stubber.add_client_error(operation, "InternalServerError")
        with pytest.raises(BrokerUnavailable):
            connections.get(new_name())
        with pytest.raises(BrokerUnavailable):
            connections.put(new_name(), SETTINGS, version="s1", expected=None, absent=True)
        with pytest.raises(BrokerUnavailable):
            connections.delete(new_name(), expected=None)
        with pytest.raises(BrokerUnavailable):
            connections.page(5, None)

"""The DynamoDB stores hold their contracts, and use the table as they must."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.stub import Stubber

from local.resources import LocalStack
from tests.component.store_contracts import StoreContracts, Stores
from tests.component.store_contracts.stores import (
    NOW,
    a_retired,
    after,
    full_record,
    new_key,
    read,
    saved,
    some_health,
)
from tests.integration.conftest import LocalSession
from token_broker.adapters.aws import CLIENT_CONFIG
from token_broker.adapters.dynamodb.budgets import DynamoBudgets
from token_broker.adapters.dynamodb.connection_store import DynamoConnectionStore
from token_broker.adapters.dynamodb.consent_session_store import DynamoConsentSessionStore
from token_broker.adapters.dynamodb.consent_store import DynamoConsentStore
from token_broker.adapters.dynamodb.due_index import DynamoDueIndex
from token_broker.adapters.dynamodb.health_store import DynamoHealthStore
from token_broker.adapters.dynamodb.items import FORMAT
from token_broker.adapters.dynamodb.keys import (
    Key,
    connection_pk,
    endpoint_key,
    health_key,
    retired_key,
    token_item_key,
)
from token_broker.adapters.dynamodb.token_store import DynamoTokenStore
from token_broker.core.health import ConnectionHealth
from token_broker.core.names import TokenKey
from token_broker.core.records import TokenRecord
from token_broker.errors import BrokerUnavailable


@pytest.fixture(scope="module")
def dynamodb(session: boto3.session.Session) -> Any:
    return session.client("dynamodb", config=CLIENT_CONFIG)


def stores_over(
    client: Any,
    *,
    token_table: str,
    connection_table: str,
    grant_table: str = "grants",
    sleep: Any = lambda _seconds: None,
) -> Stores:
    return Stores(
        DynamoTokenStore(client, token_table=token_table, connection_table=connection_table, sleep=sleep),
        DynamoHealthStore(client, token_table=token_table),
        DynamoDueIndex(client, token_table=token_table),
        DynamoBudgets(client, token_table=token_table),
        DynamoConnectionStore(client, table=connection_table, sleep=lambda _seconds: None),
        DynamoConsentStore(client, grant_table=grant_table),
        DynamoConsentSessionStore(client, grant_table=grant_table),
    )


@pytest.fixture(scope="module")
def stores(dynamodb: Any, stack: LocalStack) -> Stores:
    return stores_over(
        dynamodb,
        token_table=stack.token_table,
        connection_table=stack.connection_table,
        grant_table=stack.grant_table,
    )


class TestDynamoStores(StoreContracts):
    """Over the tables of template.yaml."""


@contextmanager
def watched(client: Any) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """The calls that a client makes, with their parameters."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        calls.append((model.name, params))

    client.meta.events.register("before-parameter-build.dynamodb", note)
    try:
        yield calls
    finally:
        client.meta.events.unregister("before-parameter-build.dynamodb", note)


@cache
def unreachable_client() -> Any:
    """A client for canned responses: nobody listens at its endpoint."""
    return LocalSession("http://127.0.0.1:9").client("dynamodb", config=Config(retries={"total_max_attempts": 1}))


@contextmanager
def canned(sleep: Any = lambda _seconds: None) -> Iterator[tuple[Stores, Stubber]]:
    """Stores whose table gives canned responses, each of which must be asked for."""
    client = unreachable_client()
    with Stubber(client) as stubber:
        yield stores_over(client, token_table="tokens", connection_table="connections", sleep=sleep), stubber
        stubber.assert_no_pending_responses()


def item_of(dynamodb: Any, stack: LocalStack, item_key: Key) -> dict[str, Any]:
    pk, sk = item_key
    key = {"pk": {"S": pk}, "sk": {"S": sk}}
    found: dict[str, Any] = dynamodb.get_item(TableName=stack.token_table, Key=key, ConsistentRead=True)["Item"]
    return found


def key_of(key: TokenKey) -> Key:
    return token_item_key(key.name, key.scope_id)


class TestReads:
    """P10: one call for settings, token and connection health, strongly consistent."""

    def test_a_read_is_one_consistent_call_over_both_tables(
        self, stores: Stores, dynamodb: Any, stack: LocalStack
    ) -> None:
        with watched(dynamodb) as calls:
            stores.tokens.read(new_key())
        ((operation, params),) = calls
        assert operation == "BatchGetItem"
        assert set(params["RequestItems"]) == {stack.connection_table, stack.token_table}
        assert all(request["ConsistentRead"] is True for request in params["RequestItems"].values())

    def test_the_items_of_a_connection_are_read_consistently(self, stores: Stores, dynamodb: Any) -> None:
        with watched(dynamodb) as calls:
            stores.tokens.items(new_key().name)
        ((operation, params),) = calls
        assert (operation, params["ConsistentRead"]) == ("Query", True)

    def test_unprocessed_keys_are_asked_for_again_after_a_growing_pause(self) -> None:
        pauses: list[float] = []
        key = new_key()
        pk, sk = key_of(key)
        settings = {"pk": {"S": pk}, "settings": {"S": "{}"}, "version": {"S": "s1"}}
        token = {
            "pk": {"S": pk},
            "sk": {"S": sk},
            "scope": {"S": key.scope},
            "keep_warm": {"S": "used"},
            "revision": {"S": "r1"},
        }
        unprocessed = {"tokens": {"Keys": [{"pk": {"S": pk}, "sk": {"S": sk}}], "ConsistentRead": True}}
        with canned(pauses.append) as (stores, stubber):
            first = {"Responses": {"connections": [settings], "tokens": []}, "UnprocessedKeys": unprocessed}
            second = {"Responses": {"tokens": []}, "UnprocessedKeys": unprocessed}
            third = {"Responses": {"tokens": [token]}, "UnprocessedKeys": {}}
            stubber.add_response("batch_get_item", first)
            stubber.add_response("batch_get_item", second, {"RequestItems": unprocessed})
            stubber.add_response("batch_get_item", third, {"RequestItems": unprocessed})
            found, record = stores.tokens.read(key)
        assert found is not None
        assert found.version == "s1"
        assert record.revision == "r1"
        assert pauses == [0.05, 0.1]

    def test_a_table_that_never_processes_is_unavailable(self) -> None:
        unprocessed = {"tokens": {"Keys": [{"pk": {"S": "C#a/b"}, "sk": {"S": "HEALTH"}}], "ConsistentRead": True}}
        with canned() as (stores, stubber):
            for _ in range(5):
                stubber.add_response("batch_get_item", {"Responses": {}, "UnprocessedKeys": unprocessed})
            with pytest.raises(BrokerUnavailable):
                stores.tokens.read(new_key())

    def test_all_pages_of_a_connection_are_read(self) -> None:
        name = new_key().name
        pk = {"S": connection_pk(name)}
        keys = [TokenKey(name, str(number)) for number in range(3)]
        items = [
            {
                "pk": pk,
                "sk": {"S": key_of(key)[1]},
                "scope": {"S": key.scope},
                "keep_warm": {"S": "used"},
                "revision": {"S": "r1"},
            }
            for key in keys
        ]
        last = {"pk": pk, "sk": items[0]["sk"]}
        expected = {
            "TableName": "tokens",
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": pk},
            "ConsistentRead": True,
        }
        with canned() as (stores, stubber):
            stubber.add_response("query", {"Items": items[:1], "LastEvaluatedKey": last}, expected)
            stubber.add_response("query", {"Items": items[1:]}, {**expected, "ExclusiveStartKey": last})
            assert [record.key for record in stores.tokens.items(name).records] == keys

    def test_all_pages_of_a_shard_are_read_an_empty_one_included(self) -> None:
        def scope_id(number: int) -> str:
            return f"{number:064}"

        def entry(number: int) -> dict[str, Any]:
            return {
                "pk": {"S": "C#a/b"},
                "sk": {"S": f"T#{scope_id(number)}"},
                "due_shard": {"N": "3"},
                "due_at": {"N": str(1000 + number)},
            }

        last = entry(0)
        expected = {
            "TableName": "tokens",
            "IndexName": "due",
            "KeyConditionExpression": "due_shard = :shard AND due_at <= :until",
            "ExpressionAttributeValues": {":shard": {"N": "3"}, ":until": {"N": str(int(NOW.timestamp() * 1000))}},
        }
        with canned() as (stores, stubber):
            stubber.add_response("query", {"Items": [last], "LastEvaluatedKey": last}, expected)
            stubber.add_response(
                "query", {"Items": [], "LastEvaluatedKey": last}, {**expected, "ExclusiveStartKey": last}
            )
            stubber.add_response("query", {"Items": [entry(1)]}, {**expected, "ExclusiveStartKey": last})
            assert [due.scope_id for due in stores.due_index.due(3, until=NOW)] == [scope_id(0), scope_id(1)]


class TestItems:
    """What the table holds, beyond what the contracts show."""

    def test_items_have_a_format_version_and_a_ttl(self, stores: Stores, dynamodb: Any, stack: LocalStack) -> None:
        key = new_key()
        stores.tokens.save(TokenRecord(key), full_record(key))
        retired = a_retired(key)
        stores.tokens.put_retired(retired)
        stores.health.save(key.name, ConnectionHealth(), some_health())
        stores.budgets.take(key.name.connection, now=NOW, limit=1)
        keys = (
            key_of(key),
            retired_key(key.name, key.scope_id, retired.token_id),
            health_key(key.name),
            endpoint_key(key.name.connection),
        )
        for item_key in keys:
            item = item_of(dynamodb, stack, item_key)
            assert item["format"] == {"N": str(FORMAT)}
            assert int(item["ttl"]["N"]) >= NOW.timestamp() + 86_400

    def test_a_save_writes_only_what_changed(self, stores: Stores, dynamodb: Any) -> None:
        key = new_key()
        record = full_record(key)
        stores.tokens.save(TokenRecord(key), record)
        with watched(dynamodb) as calls:
            saved(stores, record, last_used_at=after(9), lease=None)
        ((operation, params),) = calls
        assert operation == "UpdateItem"
        assert params["UpdateExpression"] == (
            "SET #last_used_at = :last_used_at, #revision = :revision REMOVE #lease_owner, #lease_since, #lease_until"
        )

    def test_a_key_off_the_index_has_neither_of_its_attributes(
        self, stores: Stores, dynamodb: Any, stack: LocalStack
    ) -> None:
        key = new_key()
        record = saved(stores, TokenRecord(key), due_at=after(1))
        assert item_of(dynamodb, stack, key_of(key)).keys() >= {"due_shard", "due_at"}
        saved(stores, record, due_at=None)
        assert not item_of(dynamodb, stack, key_of(key)).keys() & {"due_shard", "due_at"}

    def test_the_index_holds_keys_and_ttl_only(self, stores: Stores, dynamodb: Any, stack: LocalStack) -> None:
        key = new_key()
        stores.tokens.save(TokenRecord(key), full_record(key))
        shard = item_of(dynamodb, stack, key_of(key))["due_shard"]
        page = dynamodb.query(
            TableName=stack.token_table,
            IndexName="due",
            KeyConditionExpression="due_shard = :shard",
            ExpressionAttributeValues={":shard": shard},
        )
        assert page["Items"]
        assert all(item.keys() <= {"pk", "sk", "due_shard", "due_at", "ttl"} for item in page["Items"])

    def test_an_expired_item_that_the_table_still_holds_is_read_as_it_is(self, stores: Stores) -> None:
        """AWS may take days to delete: expiry is for the decision to judge."""
        key = new_key()
        record = saved(stores, TokenRecord(key), token=full_record(key).token, delete_at=after(-86_400))
        assert read(stores, key) == record


class TestFailures:
    """Whatever DynamoDB does, callers see one error."""

    @pytest.mark.parametrize("code", ["ProvisionedThroughputExceededException", "InternalServerError", "AccessDenied"])
    def test_an_error_of_the_table_is_broker_unavailable(self, code: str) -> None:
        key = new_key()
        record = full_record(key)
        calls: dict[str, Callable[[Stores], object]] = {
            "batch_get_item": lambda stores: stores.tokens.read(key),
            "update_item": lambda stores: stores.tokens.save(TokenRecord(key), record),
            "query": lambda stores: stores.due_index.due(0, until=NOW),
            "put_item": lambda stores: stores.tokens.put_retired(a_retired(key)),
            "delete_item": lambda stores: stores.tokens.delete_retired(a_retired(key)),
            "get_item": lambda stores: stores.budgets.busy_until("host", now=NOW, limit=1),
        }
        for operation, call in calls.items():
            with canned() as (stores, stubber):
                stubber.add_client_error(operation, code, "arn:aws:dynamodb:secret-details")
                with pytest.raises(BrokerUnavailable) as caught:
                    call(stores)
            assert "secret-details" not in str(caught.value)


def test_the_first_request_of_a_minute_takes_one_call_from_the_budget(dynamodb: Any, stores: Stores) -> None:
    host = f"{new_key().name.connection}.example"
    for minute, take in ((0, "first of a host"), (0, "another"), (1, "first of a minute"), (3, "first after a while")):
        now = after(60 * minute)
        with watched(dynamodb) as calls:
            assert stores.budgets.busy_until(host, now=now, limit=5) is None
            assert stores.budgets.take(host, now=now, limit=5) is None
        assert [name for name, _ in calls] == ["GetItem", "UpdateItem"], take

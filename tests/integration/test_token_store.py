"""The DynamoDB token store fulfils the contract, and sends the right requests to the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.stub import Stubber

from local.resources import LocalStack
from tests.component.token_store_contract import TokenStoreContract
from tests.component.token_store_contract.records import (
    NOW,
    SETTINGS,
    a_commit,
    a_failure,
    a_refresh,
    a_token,
    after,
    lease,
    new_key,
    read,
    stored,
)
from tests.integration.conftest import LocalSession
from token_broker.adapters.aws import CLIENT_CONFIG
from token_broker.adapters.dynamodb.connection_store import DynamoConnectionStore
from token_broker.adapters.dynamodb.keys import Key, connection_pk, endpoint_key, health_key, token_key, token_sk
from token_broker.adapters.dynamodb.token_store import DynamoTokenStore
from token_broker.core.records import TokenRecord
from token_broker.errors import BrokerUnavailable


@pytest.fixture(scope="module")
def dynamodb(session: boto3.session.Session) -> Any:
    return session.client("dynamodb", config=CLIENT_CONFIG)


@pytest.fixture(scope="module")
def store(dynamodb: Any, stack: LocalStack) -> DynamoTokenStore:
    return DynamoTokenStore(dynamodb, token_table=stack.token_table, connection_table=stack.connection_table)


@pytest.fixture(scope="module")
def connections(dynamodb: Any, stack: LocalStack) -> DynamoConnectionStore:
    return DynamoConnectionStore(dynamodb, table=stack.connection_table)


class TestDynamoTokenStore(TokenStoreContract):
    """Over the table of template.yaml."""


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
    """A client whose requests fail. It is used with canned responses and without."""
    return LocalSession("http://127.0.0.1:9").client("dynamodb", config=Config(retries={"total_max_attempts": 1}))


@contextmanager
def canned() -> Iterator[tuple[DynamoTokenStore, Stubber]]:
    """A store whose table gives canned responses. The test fails if one is not used."""
    client = unreachable_client()
    with Stubber(client) as stubber:
        yield DynamoTokenStore(client, token_table="tokens", connection_table="connections"), stubber
        stubber.assert_no_pending_responses()


def item_of(dynamodb: Any, stack: LocalStack, item_key: Key) -> dict[str, Any]:
    pk, sk = item_key
    key = {"pk": {"S": pk}, "sk": {"S": sk}}
    found: dict[str, Any] = dynamodb.get_item(TableName=stack.token_table, Key=key, ConsistentRead=True)["Item"]
    return found


class TestReads:
    """P10: one call reads settings, token and connection health, strongly consistent."""

    def test_a_read_is_one_consistent_call_over_both_tables(
        self, store: DynamoTokenStore, dynamodb: Any, stack: LocalStack
    ) -> None:
        with watched(dynamodb) as calls:
            store.read(new_key())
        ((operation, params),) = calls
        assert operation == "BatchGetItem"
        assert set(params["RequestItems"]) == {stack.connection_table, stack.token_table}
        assert all(request["ConsistentRead"] is True for request in params["RequestItems"].values())

    def test_the_keys_of_a_connection_are_read_consistently(self, store: DynamoTokenStore, dynamodb: Any) -> None:
        with watched(dynamodb) as calls:
            store.records(new_key().name)
        ((operation, params),) = calls
        assert (operation, params["ConsistentRead"]) == ("Query", True)

    def test_unprocessed_keys_are_requested_again(self) -> None:
        key = new_key()
        pk, sk = token_key(key)
        settings = {"pk": {"S": pk}, "settings": {"S": "{}"}, "version": {"S": "s1"}}
        token = {"pk": {"S": pk}, "sk": {"S": sk}, "scope": {"S": key.scope}, "rejections": {"N": "2"}}
        unprocessed = {"tokens": {"Keys": [{"pk": {"S": pk}, "sk": {"S": sk}}], "ConsistentRead": True}}
        with canned() as (store, stubber):
            first = {"Responses": {"connections": [settings], "tokens": []}, "UnprocessedKeys": unprocessed}
            second = {"Responses": {"tokens": [token]}, "UnprocessedKeys": {}}
            stubber.add_response("batch_get_item", first)
            stubber.add_response("batch_get_item", second, {"RequestItems": unprocessed})
            found, record = store.read(key)
        assert found is not None
        assert found.version == "s1"
        assert record.rejections == 2

    def test_a_table_that_never_processes_is_unavailable(self) -> None:
        unprocessed = {"tokens": {"Keys": [{"pk": {"S": "C#a/b"}, "sk": {"S": "HEALTH"}}], "ConsistentRead": True}}
        with canned() as (store, stubber):
            for _ in range(5):
                stubber.add_response("batch_get_item", {"Responses": {}, "UnprocessedKeys": unprocessed})
            with pytest.raises(BrokerUnavailable):
                store.read(new_key())

    def test_all_pages_of_a_connection_are_read(self) -> None:
        name = new_key().name
        pk = {"S": connection_pk(name)}
        items = [{"pk": pk, "sk": {"S": f"T#{number}"}, "scope": {"S": str(number)}} for number in range(3)]
        last = {"pk": pk, "sk": {"S": "T#0"}}
        expected = {
            "TableName": "tokens",
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": pk},
            "ConsistentRead": True,
        }
        with canned() as (store, stubber):
            stubber.add_response("query", {"Items": items[:1], "LastEvaluatedKey": last}, expected)
            stubber.add_response("query", {"Items": items[1:]}, {**expected, "ExclusiveStartKey": last})
            assert [record.key.scope for record in store.records(name)] == ["0", "1", "2"]

    def test_all_pages_of_a_shard_are_read_even_after_an_empty_one(self) -> None:
        def scope_id(number: int) -> str:
            return f"{number:064}"

        def entry(number: int) -> dict[str, Any]:
            return {
                "pk": {"S": "C#a/b"},
                "sk": {"S": token_sk(scope_id(number))},
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
        with canned() as (store, stubber):
            stubber.add_response("query", {"Items": [last], "LastEvaluatedKey": last}, expected)
            stubber.add_response(
                "query", {"Items": [], "LastEvaluatedKey": last}, {**expected, "ExclusiveStartKey": last}
            )
            stubber.add_response("query", {"Items": [entry(1)]}, {**expected, "ExclusiveStartKey": last})
            assert [due.scope_id for due in store.due(3, until=NOW)] == [scope_id(0), scope_id(1)]


class TestItems:
    """The stored items, as far as the contract does not show them."""

    def test_items_have_a_format_version_and_a_ttl(
        self, store: DynamoTokenStore, dynamodb: Any, stack: LocalStack
    ) -> None:
        key = new_key()
        stored(store, key)
        store.put_health(key.name, a_failure(), settled=True)
        store.take_budget(key.name.connection, now=NOW, limit=1)
        for item_key in (token_key(key), health_key(key.name), endpoint_key(key.name.connection)):
            item = item_of(dynamodb, stack, item_key)
            assert item["format"] == {"N": "1"}
            assert int(item["ttl"]["N"]) > NOW.timestamp() + 86_400

    def test_an_item_outlives_its_refresh_token(
        self, store: DynamoTokenStore, dynamodb: Any, stack: LocalStack
    ) -> None:
        key, ends = new_key(), NOW + timedelta(days=30)
        stored(store, key, a_commit(refresh=a_refresh(expires_at=ends)))
        assert int(item_of(dynamodb, stack, token_key(key))["ttl"]["N"]) > ends.timestamp()

    def test_making_a_key_due_does_not_shorten_its_ttl(
        self, store: DynamoTokenStore, dynamodb: Any, stack: LocalStack
    ) -> None:
        """A PUT with keep_warm "always" must not let the table delete a refresh token of 30 days after two."""
        key, ends = new_key(), NOW + timedelta(days=30)
        stored(store, key, a_commit(refresh=a_refresh(expires_at=ends)))
        store.make_due(key, after(60))
        assert int(item_of(dynamodb, stack, token_key(key))["ttl"]["N"]) > ends.timestamp()

    def test_a_key_off_the_index_has_no_due_attributes(
        self, store: DynamoTokenStore, dynamodb: Any, stack: LocalStack
    ) -> None:
        key = new_key()
        stored(store, key)
        assert item_of(dynamodb, stack, token_key(key)).keys() >= {"due_shard", "due_at"}
        store.put_off(read(store, key), None)
        assert not item_of(dynamodb, stack, token_key(key)).keys() & {"due_shard", "due_at"}

    def test_the_index_holds_keys_only(self, store: DynamoTokenStore, dynamodb: Any, stack: LocalStack) -> None:
        key = new_key()
        stored(store, key, a_commit(due_at=NOW))
        shard = item_of(dynamodb, stack, token_key(key))["due_shard"]
        page = dynamodb.query(
            TableName=stack.token_table,
            IndexName="due",
            KeyConditionExpression="due_shard = :shard",
            ExpressionAttributeValues={":shard": shard},
        )
        assert all(item.keys() == {"pk", "sk", "due_shard", "due_at"} for item in page["Items"])

    def test_an_expired_item_that_is_still_stored_is_read(self, store: DynamoTokenStore) -> None:
        """AWS may delete an item days after its ttl. `decide` checks the expiry."""
        key, token = new_key(), a_token(expires_at=NOW - timedelta(days=3), issued_at=NOW - timedelta(days=4))
        assert stored(store, key, a_commit(token)).token == token


class TestFailures:
    """Every failure of DynamoDB raises the same error."""

    @pytest.mark.parametrize("code", ["ProvisionedThroughputExceededException", "InternalServerError", "AccessDenied"])
    def test_an_error_of_the_table_is_broker_unavailable(self, code: str) -> None:
        key = new_key()
        with canned() as (store, stubber):
            stubber.add_client_error("batch_get_item", code, "arn:aws:dynamodb:secret-details")
            with pytest.raises(BrokerUnavailable) as caught:
                store.read(key)
        assert "secret-details" not in str(caught.value)
        with canned() as (store, stubber):
            stubber.add_client_error("update_item", code)
            with pytest.raises(BrokerUnavailable):
                store.put_off(TokenRecord(key), None)
        with canned() as (store, stubber):
            stubber.add_client_error("query", code)
            with pytest.raises(BrokerUnavailable):
                store.due(0, until=NOW)

    def test_a_table_that_cannot_be_reached_is_broker_unavailable(self) -> None:
        store = DynamoTokenStore(unreachable_client(), token_table="tokens", connection_table="connections")
        with pytest.raises(BrokerUnavailable):
            store.read(new_key())

    def test_a_lease_is_recognised_as_ours_after_a_lost_response(self, store: DynamoTokenStore, dynamodb: Any) -> None:
        key = new_key()
        with lost_responses(dynamodb, "UpdateItem") as lost:
            assert lease(store, key, "a")
        assert lost["UpdateItem"] == 1

    def test_a_commit_is_recognised_as_ours_after_a_lost_response(self, store: DynamoTokenStore, dynamodb: Any) -> None:
        key = new_key()
        assert lease(store, key, "a")
        with lost_responses(dynamodb, "UpdateItem") as lost:
            assert store.commit(key, "a", a_commit()) is None
        assert lost["UpdateItem"] == 1
        assert read(store, key).token == a_token()

    def test_a_purge_returns_the_tokens_to_revoke_after_a_lost_response(
        self, store: DynamoTokenStore, dynamodb: Any
    ) -> None:
        key = new_key()
        record: TokenRecord = stored(store, key)
        with lost_responses(dynamodb, "UpdateItem") as lost:
            before = store.purge(record, SETTINGS, after(60))
        assert lost["UpdateItem"] == 1
        assert [item.token_id for item in before.tokens_to_revoke(after(60))] == [a_token().token_id]
        assert [item.token_id for item in read(store, key).retired] == [a_token().token_id]


@contextmanager
def lost_responses(client: Any, operation: str) -> Iterator[Counter[str]]:
    """The table carries out the first call of an operation, but the response is lost. botocore repeats the request."""
    lost: Counter[str] = Counter()

    def lose(**_: Any) -> int | None:
        if lost[operation]:
            return None
        lost[operation] += 1
        return 0  # seconds to wait before the retry

    # Registered first, before botocore's own check of the response.
    event = f"needs-retry.dynamodb.{operation}"
    client.meta.events.register_first(event, lose)
    try:
        yield lost
    finally:
        client.meta.events.unregister(event, lose)

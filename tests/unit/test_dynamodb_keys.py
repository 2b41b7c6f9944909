"""The keys of DynamoDB items, and what can be read from them."""

from __future__ import annotations

import pytest

from token_broker.adapters.dynamodb.keys import (
    connection_of,
    connection_pk,
    endpoint_key,
    health_key,
    scope_id_of,
    token_key,
    token_sk,
)
from token_broker.core.names import ConnectionName, TokenKey

NAME = ConnectionName("unidy", "eu-main")
KEY = TokenKey(NAME, "a b")


def test_each_item_has_its_key() -> None:
    assert connection_pk(NAME) == "C#unidy/eu-main"
    assert token_key(KEY) == ("C#unidy/eu-main", f"T#{KEY.scope_id}")
    assert health_key(NAME) == ("C#unidy/eu-main", "HEALTH")
    assert endpoint_key("id.example:443") == ("H#id.example:443", "BUDGET")


def test_a_key_names_its_connection_and_scope_set() -> None:
    pk, sk = token_key(KEY)
    assert (connection_of(pk), scope_id_of(sk)) == (NAME, KEY.scope_id)


@pytest.mark.parametrize(
    "pk", ["", "C#", "C#unidy", "C#unidy/", "C#/main", "H#id.example", "unidy/main", "C#Unidy/main"]
)
def test_other_text_names_no_connection(pk: str) -> None:
    assert connection_of(pk) is None


@pytest.mark.parametrize(
    "sk", ["", "HEALTH", "T#", "T#abc", f"T#{'G' * 64}", KEY.scope_id, token_sk(KEY.scope_id) + "0"]
)
def test_other_text_names_no_scope_set(sk: str) -> None:
    assert scope_id_of(sk) is None

"""The keys of DynamoDB items, and what can be read from them."""

from __future__ import annotations

import pytest

from token_broker.adapters.dynamodb.keys import (
    connection_of,
    connection_pk,
    endpoint_key,
    health_key,
    is_retired_sk,
    is_token_sk,
    parse_due_sk,
    retired_key,
    token_item_key,
)
from token_broker.core.names import ConnectionName, TokenKey

NAME = ConnectionName("unidy", "eu-main")
SCOPE_ID = TokenKey(NAME, "a b").scope_id
TOKEN_ID = "9f86d081884c7d65"
TOKEN_SK, RETIRED_SK = f"T#{SCOPE_ID}", f"R#{SCOPE_ID}#{TOKEN_ID}"


def test_each_item_has_its_key() -> None:
    assert connection_pk(NAME) == "C#unidy/eu-main"
    assert token_item_key(NAME, SCOPE_ID) == ("C#unidy/eu-main", TOKEN_SK)
    assert retired_key(NAME, SCOPE_ID, TOKEN_ID) == ("C#unidy/eu-main", RETIRED_SK)
    assert health_key(NAME) == ("C#unidy/eu-main", "HEALTH")
    assert endpoint_key("id.example:443") == ("H#id.example:443", "BUDGET")


def test_a_key_names_its_connection_scope_set_and_token() -> None:
    pk, sk = token_item_key(NAME, SCOPE_ID)
    assert (connection_of(pk), parse_due_sk(sk)) == (NAME, (SCOPE_ID, None))
    assert parse_due_sk(RETIRED_SK) == (SCOPE_ID, TOKEN_ID)


def test_items_are_told_apart_by_their_sk() -> None:
    sks = [TOKEN_SK, RETIRED_SK, "HEALTH", "BUDGET"]
    assert [sk for sk in sks if is_token_sk(sk)] == [TOKEN_SK]
    assert [sk for sk in sks if is_retired_sk(sk)] == [RETIRED_SK]


@pytest.mark.parametrize(
    "pk", ["", "C#", "C#unidy", "C#unidy/", "C#/main", "H#id.example", "unidy/main", "C#Unidy/main"]
)
def test_other_text_names_no_connection(pk: str) -> None:
    assert connection_of(pk) is None


@pytest.mark.parametrize(
    "sk",
    [
        "",
        "HEALTH",
        "T#",
        "T#abc",
        f"T#{'G' * 64}",
        SCOPE_ID,
        TOKEN_SK + "0",
        TOKEN_SK + "\n",
        f"R#{SCOPE_ID}",
        f"R#{SCOPE_ID}#",
        RETIRED_SK + "0",
        f"T#{SCOPE_ID}#{TOKEN_ID}",
    ],
)
def test_other_text_names_no_entry_of_the_due_index(sk: str) -> None:
    assert parse_due_sk(sk) is None

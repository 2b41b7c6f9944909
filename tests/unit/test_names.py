"""Names, scope sets, token keys and fingerprints."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_broker.core.names import (
    SCOPE_ID,
    ConnectionName,
    TokenKey,
    canonical_scope,
    fingerprint,
    is_name,
    scope_items,
)
from token_broker.errors import InvalidRequest


@pytest.mark.parametrize("name", ["a", "0", "eu-main", "a--b", "a" * 63, "unified-services"])
def test_a_name_is_accepted(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "ä", "a\n", "a" * 64, "..", "%61", "a b", None, 7, "١"]
)
def test_other_text_is_not_a_name(name: object) -> None:
    assert not is_name(name)


def test_two_wrong_names_are_both_reported() -> None:
    with pytest.raises(InvalidRequest) as caught:
        ConnectionName.of("Unidy", "eu_main")
    assert [fault.field for fault in caught.value.errors] == ["provider", "connection"]


def test_a_connection_name_is_its_path() -> None:
    assert str(ConnectionName.of("unidy", "eu-main")) == "unidy/eu-main"


@pytest.mark.parametrize(
    ("scope", "canonical"),
    [
        ("a", "a"),
        ("b a", "a b"),
        ("a b a", "a b"),
        ("a A", "A a"),
        ("users:read market:id:x", "market:id:x users:read"),
        ("https://api.example.com/.default", "https://api.example.com/.default"),
        ("!#[]~", "!#[]~"),
        (" ".join(f"s{n:02}" for n in range(50)), " ".join(f"s{n:02}" for n in range(50))),
        ("x" * 1000, "x" * 1000),
    ],
)
def test_a_scope_is_deduplicated_and_sorted_by_bytes(scope: str, canonical: str) -> None:
    assert canonical_scope(scope) == canonical


@pytest.mark.parametrize(
    "scope",
    [
        *("", " ", " a", "a ", "a  b", "a\tb", "a\nb", 'a"b', "a\\b", "ä", "\x7f", "a\u00a0b", "x" * 1001),
        " ".join(map(str, range(51))),
    ],
)
def test_an_invalid_scope_says_why(scope: str) -> None:
    with pytest.raises(ValueError, match=r"is |items |has "):
        canonical_scope(scope)


@given(st.lists(st.text(st.characters(min_codepoint=0x23, max_codepoint=0x5B), min_size=1, max_size=8), min_size=1))
def test_a_canonical_scope_is_stable_and_the_same_for_every_order(items: list[str]) -> None:
    items = items[:40]
    scope = canonical_scope(" ".join(items))
    assert canonical_scope(scope) == scope == canonical_scope(" ".join(reversed(items)))
    assert scope_items(scope) == set(items)


def test_the_empty_scope_has_no_items() -> None:
    assert scope_items("") == frozenset()


def test_a_scope_id_is_the_sha_256_of_the_scope_set() -> None:
    key = TokenKey(ConnectionName("unidy", "main"), "a b")
    assert key.scope_id == hashlib.sha256(b"a b").hexdigest()
    assert SCOPE_ID.fullmatch(key.scope_id)


def test_a_fingerprint_is_16_hex_digits_of_the_sha_256() -> None:
    assert fingerprint("test") == "9f86d081884c7d65"

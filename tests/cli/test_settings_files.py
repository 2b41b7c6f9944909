"""A file that `connections export` writes is read back as it was."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_broker_cli.problems import Problem
from token_broker_cli.settings_files import to_toml

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda values: st.lists(values) | st.dictionaries(TEXTS, values),
    max_leaves=10,
)


@given(st.dictionaries(st.tuples(TEXTS, TEXTS), st.dictionaries(TEXTS, VALUES)))
def test_toml_holds_every_setting(connections: dict[tuple[str, str], dict[str, Any]]) -> None:
    expected: dict[str, dict[str, Any]] = {}
    for (provider, name), settings in connections.items():
        expected.setdefault(provider, {})[name] = settings
    assert tomllib.loads(to_toml(connections)) == expected


def test_null_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(Problem, match="null") as raised:
        to_toml({("unidy", "demo"): {"scope": None}})
    assert "--json" in raised.value.todo

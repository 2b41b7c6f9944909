"""The generated pages of docs/ agree with the code, and what they say about limits is what is checked."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.docs import errors, setting_values
from tests.docs.pages import PAGES, path_of, render
from token_broker.catalogue import load_catalogue
from token_broker.core.connections import MAX_CA_BUNDLE, MAX_PARAMS, parse_connection
from token_broker.core.names import ConnectionName
from token_broker.errors import InvalidRequest
from token_broker.http.problems import STATUS

CALLER = "arn:aws:iam::123456789012:role/orders"


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name: str) -> None:
    assert path_of(name).read_text(encoding="utf-8") == render(name), "make docs writes it"


def test_every_error_code_has_one_row_with_its_status_and_advice() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([0-9]{3}) \| (.+) \| (.+) \|$", render("errors.md"), re.MULTILINE)
    assert len(rows) == len({code for code, *_ in rows})
    assert {code: int(status) for code, status, *_ in rows} == dict(errors.statuses())
    assert {error.code for error in STATUS} < set(errors.statuses())
    assert set(errors.WHAT_TO_DO) == set(errors.statuses())


def accepts(provider: str = "oauth2", **changes: Any) -> bool:
    """Whether a connection can have these settings."""
    settings = {"token_url": "https://id.example.com/token", "allowed_callers": [CALLER], **changes}
    try:
        parse_connection(ConnectionName(provider, "mine"), load_catalogue()[provider], settings)
    except InvalidRequest:
        return False
    return True


def test_the_limits_of_the_page_are_those_that_are_checked() -> None:
    entries = setting_values.MAX_ENTRIES
    callers = [f"{CALLER}{number}" for number in range(entries + 1)]
    assert accepts(allowed_callers=callers[:entries])
    assert not accepts(allowed_callers=callers)
    assert accepts(lifetime_s=1)
    assert accepts(lifetime_s=2_592_000)
    assert not accepts(lifetime_s=0)
    assert not accepts(lifetime_s=2_592_001)
    assert accepts(scope=" ".join(f"item{number}" for number in range(50)))
    assert not accepts(scope=" ".join(f"item{number}" for number in range(51)))
    params = {f"name{number}": "value" for number in range(MAX_PARAMS + 1)}
    assert not accepts(params=params)
    del params["name0"]
    assert accepts(params=params)
    assert MAX_CA_BUNDLE % 1024 == 0

"""The generated pages of docs/ agree with the code, and what they say about limits is what is checked."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.docs import errors, providers, setting_values
from tests.docs.pages import PAGES, path_of, render
from tests.docs.tables import duration, table
from token_broker.catalogue import load_catalogue
from token_broker.core.connections import COMMON_SETTINGS, MAX_CA_BUNDLE, MAX_PARAMS, parse_connection
from token_broker.core.names import ConnectionName
from token_broker.core.providers import SETTING_KINDS
from token_broker.errors import InvalidRequest
from token_broker.http.problems import STATUS
from token_broker.oauth.grants import GRANTS

CALLER = "arn:aws:iam::123456789012:role/orders"


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name: str) -> None:
    assert path_of(name).read_text(encoding="utf-8") == render(name), "make docs writes it"


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_says_how_it_is_made(name: str) -> None:
    assert "`make docs` writes this page" in render(name)


def test_every_common_setting_has_a_row() -> None:
    page = render("connections.md")
    for setting in COMMON_SETTINGS:
        assert re.search(rf"^\| `{setting.name}` \| {re.escape(setting.help)} \| .", page, re.MULTILINE)
    assert set(setting_values.COMMON) == {setting.name for setting in COMMON_SETTINGS}


def test_every_provider_has_a_section_with_its_settings_and_credentials() -> None:
    chapters = re.split(r"^## ", render("providers.md"), flags=re.MULTILINE)
    sections = {chapter.partition("\n")[0]: chapter for chapter in chapters}
    for slug, provider in load_catalogue().items():
        assert f"{provider.title}. [Documentation]({provider.documentation})." in sections[slug]
        for spec in provider.settings:
            assert re.search(rf"^\| `{spec.name}` \| {re.escape(spec.help)} \| .", sections[slug], re.MULTILINE)
        for name in provider.credentials + provider.optional_credentials:
            assert f"`{name}`" in sections[slug]


def test_every_grant_and_kind_of_setting_has_its_words() -> None:
    assert set(providers.GRANTS) == set(GRANTS)
    assert {*setting_values.KINDS, "choice"} == set(SETTING_KINDS)


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


@pytest.mark.parametrize(
    ("caller", "accepted"),
    [
        ("*", True),
        ("arn:aws:iam::123456789012:role/orders-*", True),
        ("arn:aws:iam::*:role/orders", False),
        ("arn:aws:sts::123456789012:assumed-role/orders/session", False),
    ],
)
def test_callers_are_as_the_page_says(caller: str, accepted: bool) -> None:
    assert accepts(allowed_callers=[caller]) is accepted


@pytest.mark.parametrize(
    ("seconds", "text"), [(2, "2 s"), (90, "90 s"), (900, "15 min"), (3600, "1 h"), (172_800.0, "48 h")]
)
def test_a_duration_has_its_usual_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_pipe_in_a_cell_does_not_end_it() -> None:
    assert table(("a", "b"), [("x|y", "")]) == "| a | b |\n|---|---|\n| x\\|y |  |"

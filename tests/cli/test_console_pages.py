"""The console's pages over a running broker."""

from collections.abc import Iterator

import pytest

from local.stack import Stack

from .conftest import Cli
from .console import Console, running_console


@pytest.fixture
def console(running: Stack) -> Iterator[Console]:
    with running_console(running) as console:
        yield console


def test_the_overview_lists_what_fails_first_and_says_why(cli: Cli, console: Console) -> None:
    good = cli.connect()
    assert cli.token("unidy", good).status == 200
    bad = cli.connect(credentials={"client_id": "nobody", "client_secret": "wrong"})
    assert cli.token("unidy", bad).status == 502
    text = console.visitor().get("/").text
    assert text.index(f"/connections/unidy/{bad}") < text.index(f"/connections/unidy/{good}")
    assert "The provider refused the credentials (invalid_client)" in text
    assert "Callers get no token." in text


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("state=failing", ["bad"]),
        ("state=ok", ["good"]),
        ("provider=unidy", ["bad", "good"]),
        ("provider=ucommerce", []),
        ("text=INVALID_CLIENT", ["bad"]),
        ("text=no%20such%20text", []),
        ("state=ok&provider=unidy&page=99", ["good"]),
    ],
)
def test_the_overview_can_be_filtered(cli: Cli, console: Console, query: str, shown: list[str]) -> None:
    names = {
        "good": cli.connect(),
        "bad": cli.connect(credentials={"client_id": "nobody", "client_secret": "wrong"}),
    }
    for name in names.values():
        cli.token("unidy", name)
    text = console.visitor().get(f"/?{query}").text
    table = text.partition("<aside>")[0]
    assert [key for key, name in sorted(names.items()) if f"/connections/unidy/{name}" in table] == shown

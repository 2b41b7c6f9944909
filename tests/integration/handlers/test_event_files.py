"""Each file of `events/` gets an answer from the function that docs/sam-local.md names for it."""

from __future__ import annotations

import json
import re
from typing import Final

import pytest

from local.process import ROOT

from .world import World

PAGE: Final = (ROOT / "docs" / "sam-local.md").read_text(encoding="utf-8")
EVENTS: Final = [
    (function, file)
    for function, files in re.findall(r"^\| (\w+Function) \| (.*) \|$", PAGE, re.MULTILINE)
    for file in re.findall(r"`(\w+\.json)`", files)
]


def test_the_page_names_every_event() -> None:
    assert sorted(file for _, file in EVENTS) == sorted(path.name for path in (ROOT / "events").iterdir())


@pytest.mark.parametrize(("function", "file"), EVENTS, ids=[file for _, file in EVENTS])
def test_an_event_gets_its_answer(world: World, function: str, file: str) -> None:
    world.connect("unidy")
    response = world.functions.invoke(function, json.loads((ROOT / "events" / file).read_text(encoding="utf-8")))
    # A message that was handled is in no list of failures.
    assert response.get("statusCode", 200) in (200, 201), response
    assert not response.get("batchItemFailures")

"""Properties try the same examples on every run; `make soak` (SOAK=1) tries many more, and new ones."""

import os

import pytest
from hypothesis import is_hypothesis_test, settings

SOAK = os.environ.get("SOAK") == "1"

settings.register_profile("quick", deadline=None, database=None, derandomize=True, max_examples=60)
settings.register_profile("soak", deadline=None, database=None, max_examples=2000)
settings.load_profile("soak" if SOAK else "quick")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.soak)

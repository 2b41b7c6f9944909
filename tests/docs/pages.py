"""The generated files of docs/: each is a template beside this file, filled from the code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from string import Template
from typing import Final

from local.process import ROOT
from tests.docs import connections, errors, provider_schema, providers

# What fills each template's `$names`, by the page's name.
PAGES: Final[Mapping[str, Callable[[], Mapping[str, str]]]] = {
    "connections.md": connections.values,
    "providers.md": providers.values,
    "errors.md": errors.values,
    "provider.schema.json": provider_schema.values,
}


def path_of(name: str) -> Path:
    return ROOT / "docs" / name


def render(name: str) -> str:
    """The text of the page. Raises KeyError if the template has a name that nothing fills."""
    template = Path(__file__).with_name(f"{name}.in").read_text(encoding="utf-8")
    return Template(template).substitute(PAGES[name]())

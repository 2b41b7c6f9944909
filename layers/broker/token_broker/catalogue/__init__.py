"""The providers that the broker speaks with: one TOML file each, beside this module."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from token_broker.core.names import is_name
from token_broker.core.providers import CatalogueError, Provider, parse_provider
from token_broker.errors import FieldError


def read_provider(path: Path) -> Provider:
    """One catalogue file, checked whole. Raises CatalogueError with file and field."""
    if not is_name(path.stem):
        raise CatalogueError(path.name, [FieldError("file name", "must be a provider's name")])
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogueError(path.name, [FieldError("file", f"is not TOML: {error}")]) from None
    return parse_provider(path.stem, data, file=path.name)


@lru_cache(maxsize=1)
def load_catalogue() -> Mapping[str, Provider]:
    """All providers by their slug. Read and checked once per process."""
    return {path.stem: read_provider(path) for path in sorted(Path(__file__).parent.glob("*.toml"))}

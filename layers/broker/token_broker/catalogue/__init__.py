"""The catalogue: one TOML file per provider, beside this module."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from token_broker.core.names import is_name
from token_broker.core.provider_files import CatalogueError, parse_provider
from token_broker.core.providers import Provider
from token_broker.errors import FieldError
from token_broker.oauth.grants import GRANTS


def read_provider(path: Path) -> Provider:
    """One catalogue file. Raises CatalogueError with every fault."""
    if not is_name(path.stem):
        raise CatalogueError(path.name, [FieldError("file name", "must be a provider's name")])
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogueError(path.name, [FieldError("file", f"is not TOML: {error}")]) from None
    return parse_provider(path.stem, data, file=path.name, grants=GRANTS)


@lru_cache(maxsize=1)
def load_catalogue() -> Mapping[str, Provider]:
    """All providers by their slug. Read and checked once per process."""
    return {path.stem: read_provider(path) for path in sorted(Path(__file__).parent.glob("*.toml"))}

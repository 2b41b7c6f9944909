"""The catalogue: one TOML file per provider, beside this module."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
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


class Catalogue(Mapping[str, Provider]):
    """The providers of one folder by their slug. A file is read and checked at its first use, and kept."""

    def __init__(self, folder: Path) -> None:
        self._files = {path.stem: path for path in sorted(folder.glob("*.toml"))}
        self._providers: dict[str, Provider] = {}

    def __getitem__(self, slug: str) -> Provider:
        """Raises KeyError, or CatalogueError for a file with faults."""
        if slug not in self._providers:
            self._providers[slug] = read_provider(self._files[slug])
        return self._providers[slug]

    def __contains__(self, slug: object) -> bool:
        return slug in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


@lru_cache(maxsize=1)
def load_catalogue() -> Mapping[str, Provider]:
    """The providers that come with the broker. A cold start reads the one that it is asked for."""
    return Catalogue(Path(__file__).parent)

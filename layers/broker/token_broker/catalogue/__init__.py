"""The catalogue: one TOML file per provider, beside this module, and those that a platform team adds in a layer."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from token_broker.catalogue.proof import proof_of
from token_broker.core.names import is_name
from token_broker.core.provider_files import CatalogueError, parse_provider
from token_broker.core.providers import Provider
from token_broker.errors import ConnectionMisconfigured, FieldError
from token_broker.oauth.grants import GRANTS

BUILT_IN = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class FaultyFile:
    """A file of the platform team that is not used, and why."""

    name: str
    faults: tuple[FieldError, ...]


def read_provider(path: Path) -> Provider:
    """One catalogue file. Raises CatalogueError with every fault, or OSError."""
    if not is_name(path.stem):
        raise CatalogueError(path.name, [FieldError("file name", "must be a provider's name")])
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogueError(path.name, [FieldError("file", f"is not TOML: {error}")]) from None
    return parse_provider(path.stem, data, file=path.name, grants=GRANTS)


class Catalogue(Mapping[str, Provider]):
    """The providers of the broker's folder and of a platform team's (`own`), by their slug.

    A file is read and checked at its first use, and kept. `own` is looked at only for a slug that the broker's folder
    does not have. A file there that has faults, or the name of one of the broker's, is not used and disturbs no other.
    `on_fault` hears of each such file once.
    """

    def __init__(
        self, folder: Path, own: Path | None = None, on_fault: Callable[[FaultyFile], None] | None = None
    ) -> None:
        self._folder = folder
        self._own_folder = own
        self._on_fault = on_fault
        self._providers: dict[str, Provider] = {}
        self._faulty: dict[str, FaultyFile] = {}

    def __getitem__(self, slug: str) -> Provider:
        """Raises KeyError; CatalogueError for a faulty file of the broker, ConnectionMisconfigured for an own one."""
        if slug not in self._providers:
            # The folder is not listed for this: a cold start waits for it.
            path = self._folder / f"{slug}.toml"
            is_built_in = is_name(slug) and path.is_file()
            self._providers[slug] = read_provider(path) if is_built_in else self._read_own(slug)
        return self._providers[slug]

    def __contains__(self, slug: object) -> bool:
        return slug in self._files or slug in self._own_files

    def __iter__(self) -> Iterator[str]:
        """All but those whose file has faults."""
        yield from self._files
        faulty = {Path(found.name).stem for found in self.faulty_files()}
        yield from (slug for slug in self._own_files if slug not in faulty)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def faulty_files(self) -> tuple[FaultyFile, ...]:
        """The files of the platform team that are not used. Reads all of them."""
        for slug in self._own_files:
            try:
                self[slug]
            except ConnectionMisconfigured:
                continue
        return tuple(self._faulty.values())

    def proof(self, slug: str) -> str:
        """How sure a provider's file is. Raises KeyError."""
        return proof_of(self._files.get(slug) or self._own_files[slug])

    @cached_property
    def _files(self) -> Mapping[str, Path]:
        return {path.stem: path for path in sorted(self._folder.glob("*.toml"))}

    @cached_property
    def _own_files(self) -> Mapping[str, Path]:
        if self._own_folder is None:
            return {}
        if not self._own_folder.is_dir():
            self._add_fault(self._own_folder.name, [FieldError("folder", "is not in the layer")])
        found = {path.stem: path for path in sorted(self._own_folder.glob("*.toml"))}
        for slug in found.keys() & self._files.keys():
            taken = FieldError("file name", "is the name of one of the broker's providers")
            self._add_fault(found.pop(slug).name, [taken])
        return found

    def _read_own(self, slug: str) -> Provider:
        path = self._own_files[slug]
        if path.name not in self._faulty:
            try:
                return read_provider(path)
            except CatalogueError as error:
                self._add_fault(path.name, error.faults)
            except OSError as error:
                self._add_fault(path.name, [FieldError("file", f"cannot be read: {error.strerror}")])
        raise ConnectionMisconfigured(
            f"The file of the provider {slug} has faults. It works once they are mended and the layer is deployed.",
            errors=self._faulty[path.name].faults,
        )

    def _add_fault(self, name: str, faults: Iterable[FieldError]) -> None:
        self._faulty[name] = FaultyFile(name, tuple(faults))
        if self._on_fault is not None:
            self._on_fault(self._faulty[name])


@lru_cache(maxsize=1)
def load_catalogue(own: str | None = None, on_fault: Callable[[FaultyFile], None] | None = None) -> Catalogue:
    """The broker's providers, and those of the folder `own`. A cold start reads only what it is asked for."""
    return Catalogue(BUILT_IN, Path(own) if own else None, on_fault)

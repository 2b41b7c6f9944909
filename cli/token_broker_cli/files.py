"""Settings in files: TOML, or JSON where the name ends so. Secrets do not belong into files, and are refused."""

import json
import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final

from token_broker_cli.problems import Exit, Problem

SECRET_FIELDS: Final = frozenset({"client_id", "client_secret", "username", "password", "credentials"})


def read_settings(path: Path) -> dict[str, Any]:
    """One connection's settings. Raises Problem."""
    settings = _read(path)
    _refuse_secrets(path, "", settings)
    return settings


def read_connections(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Connections as code: a table [provider.name] of settings for each. Raises Problem."""
    found = {}
    for provider, connections in _read(path).items():
        if not isinstance(connections, Mapping):
            raise _wrong(path, f"{provider} stands alone")
        for name, settings in connections.items():
            if not isinstance(settings, Mapping):
                raise _wrong(path, f"{provider}.{name} is no table")
            _refuse_secrets(path, f"{provider}.{name}.", settings)
            found[provider, name] = dict(settings)
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}.", exit_code=Exit.USAGE) from None
    except ValueError as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise Problem(f"{path} is not {kind}: {error}.", exit_code=Exit.USAGE) from None
    if not isinstance(data, dict):
        raise Problem(f"{path} holds no object.", exit_code=Exit.USAGE)
    plain: dict[str, Any] = _plain(data)
    return plain


def _plain(value: Any) -> Any:
    """TOML knows moments; the broker takes them as texts."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, date) else value


def _refuse_secrets(path: Path, prefix: str, settings: Mapping[str, Any]) -> None:
    if found := sorted(SECRET_FIELDS & set(settings)):
        todo = "Take them out: `connections add` and `connections rotate` ask for them, or read them from a pipe."
        raise Problem(f"{path}: {prefix}{found[0]} is a credential.", todo, exit_code=Exit.USAGE)


def _wrong(path: Path, what: str) -> Problem:
    return Problem(
        f"{path}: {what}.", "Write a table for each connection, as in [unidy.eu-main].", exit_code=Exit.USAGE
    )

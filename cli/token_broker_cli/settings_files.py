"""Files with connection settings: TOML, or JSON if the name ends in .json. Credentials in a file are an error.

The name - is standard input, which holds TOML.
"""

import json
import re
import sys
import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final

from token_broker_cli.problems import Exit, Problem
from token_broker_cli.screen import cell, safe

Json = dict[str, Any]
BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
STANDARD_INPUT: Final = Path("-")
SECRET_FIELDS: Final = frozenset({"client_id", "client_secret", "username", "password", "credentials"})


def read_settings(path: Path) -> dict[str, Any]:
    """One connection's settings. Raises Problem."""
    settings = _read(path)
    _check_no_secrets(path, "", settings)
    return settings


def read_connections(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The settings of several connections, each in a table [provider.name]. Raises Problem."""
    found = {}
    for provider, connections in _read(path).items():
        if not isinstance(connections, Mapping):
            raise _not_a_table(path, f"{provider}")
        for name, settings in connections.items():
            if not isinstance(settings, Mapping):
                raise _not_a_table(path, f"{provider}.{name}")
            _check_no_secrets(path, f"{provider}.{name}.", settings)
            found[provider, name] = dict(settings)
    return found


def diff_lines(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Each setting that differs, as `- before` and `+ after`."""
    lines = []
    for setting in sorted({*before, *after}):
        if before.get(setting) == after.get(setting):
            continue
        for sign, side in (("-", before), ("+", after)):
            if setting in side:
                lines.append(f"    {sign} {cell(setting)} = {cell(repr(side[setting]))}")
    return lines


def table_of(settings: Json) -> str:
    """One connection's settings as TOML, one a line."""
    return "".join(f"{toml_key(setting)} = {safe(toml_value(value))}\n" for setting, value in settings.items())


def to_toml(connections: Mapping[tuple[str, str], Json]) -> str:
    """What `read_connections` reads from a file. Raises Problem for a setting that TOML cannot hold."""
    lines = []
    for (provider, name), settings in connections.items():
        lines += [f"[{toml_key(provider)}.{toml_key(name)}]", table_of(settings)]
    return "\n".join(lines)


def toml_key(name: str) -> str:
    return name if BARE_KEY.fullmatch(name) else toml_value(name)


def toml_value(value: Any) -> str:
    if value is None:
        raise Problem("A setting is null, which TOML cannot hold.", "Export with --json.")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml_key(name)} = {toml_value(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    # JSON's strings, numbers and booleans are TOML's, but TOML escapes the character DEL too.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _read(path: Path) -> Json:
    kind = "JSON" if path.suffix == ".json" else "TOML"
    try:
        text = sys.stdin.read() if path == STANDARD_INPUT else path.read_text(encoding="utf-8")
        data = json.loads(text) if kind == "JSON" else tomllib.loads(text)
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}.", exit_code=Exit.USAGE) from None
    except ValueError as error:
        raise Problem(f"{path} is not {kind}: {error}.", exit_code=Exit.USAGE) from None
    if not isinstance(data, dict):
        raise Problem(f"{path} is not an object.", exit_code=Exit.USAGE)
    return {name: _json_value(item) for name, item in data.items()}


def _json_value(value: Any) -> Any:
    """TOML has dates and times. The broker takes them as strings."""
    if isinstance(value, dict):
        return {name: _json_value(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, date) else value


def _check_no_secrets(path: Path, prefix: str, settings: Mapping[str, Any]) -> None:
    if found := sorted(SECRET_FIELDS & set(settings)):
        todo = "Remove it. `connections add` and `connections rotate` ask for credentials, or read them from a pipe."
        raise Problem(f"{path}: {prefix}{found[0]} is a credential.", todo, exit_code=Exit.USAGE)


def _not_a_table(path: Path, name: str) -> Problem:
    what = f"{path}: {name} is not a table."
    return Problem(what, "Write a table for each connection, as in [unidy.eu-main].", exit_code=Exit.USAGE)

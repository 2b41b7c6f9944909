"""Credentials from a file or from another secret, for scripts and for many connections at once."""

import json
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from token_broker_cli.connection_secret import CURRENT, secret_values
from token_broker_cli.problems import Exit, Problem
from token_broker_cli.target import Target

SECRET: Final = "secret:"  # noqa: S105  # what stands before a secret's name
HELP: Final = "credentials from a JSON or TOML file, or from a secret in Secrets Manager as secret:NAME"


def read_credentials(target: Target, source: str) -> dict[str, Any]:
    """The object in a file, or in the secret after `secret:`. Raises Problem, which never quotes it."""
    if source.startswith(SECRET):
        name = source.removeprefix(SECRET)
        response = target.aws("secretsmanager").get_secret_value(SecretId=name, VersionStage=CURRENT)
        found = secret_values(response)
    else:
        found = _in_file(target, Path(source))
    if found is None:
        raise Problem(f"{source} holds no object of credentials.", "It must be JSON or TOML.", exit_code=Exit.USAGE)
    return found


def credentials_by_connection(found: Mapping[str, Any], source: str) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The credentials of several connections, each in an object `provider` → `name`. Raises Problem."""
    credentials = {}
    for provider, connections in found.items():
        for name, values in connections.items() if isinstance(connections, Mapping) else [("", None)]:
            if not isinstance(values, Mapping):
                todo = 'Write {"unidy": {"eu-main": {"client_id": "…"}}}, or in TOML a table [unidy.eu-main].'
                raise Problem(f"{source} has no object for each connection.", todo, exit_code=Exit.USAGE)
            credentials[provider, name] = values
    return credentials


def _in_file(target: Target, path: Path) -> dict[str, Any] | None:
    try:
        if stat.S_ISREG(path.stat().st_mode) and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            target.screen.say(f"warning: others on this machine can read {path}.", "yellow")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Problem(f"{path} cannot be read: {reason}.", exit_code=Exit.USAGE) from None
    try:
        found = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None

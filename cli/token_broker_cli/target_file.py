"""The default target, and named ones, from a file of the user's.

# ~/.config/token-broker.toml, or the file that TOKEN_BROKER_CONFIG names
default = "dev"

[dev]
local = true

[prod]
stack = "token-broker"
profile = "platform"
region = "eu-west-1"
"""

import argparse
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from token_broker_cli.problems import Exit, Problem
from token_broker_cli.target import STACK_VARIABLE, TARGET_OPTIONS
from token_broker_client.client import URL_VARIABLE

CONFIG_VARIABLE: Final = "TOKEN_BROKER_CONFIG"
TARGET_VARIABLE: Final = "TOKEN_BROKER_TARGET"
DEFAULT_FILE: Final = "token-broker.toml"
KNOWN: Final = frozenset({"local", *TARGET_OPTIONS})


def with_target(options: argparse.Namespace) -> argparse.Namespace:
    """The options with those of the target: of --target, TOKEN_BROKER_TARGET, or the file's default.

    An option that was given counts more. The default counts only if neither an option nor a variable names a broker.
    Raises Problem.
    """
    named = options.target or os.environ.get(TARGET_VARIABLE)
    is_given = options.local or options.stack or options.url or os.environ.get(STACK_VARIABLE)
    if named is None and (is_given or os.environ.get(URL_VARIABLE)):
        return options
    file = _path()
    if named is None and not file.is_file():
        return options
    found = _read(file)
    name = named or found.get("default")
    if name is None:
        return options
    target = found.get(name)
    if not isinstance(target, Mapping):
        names = ", ".join(sorted(key for key, value in found.items() if isinstance(value, Mapping)))
        raise Problem(f"{file} has no target {name}.", f"It has: {names or 'none'}.", exit_code=Exit.USAGE)
    if unknown := sorted(set(target) - KNOWN):
        todo = f"A target can have: {', '.join(sorted(KNOWN))}."
        raise Problem(f"{file}: {name} has no option {unknown[0]}.", todo, exit_code=Exit.USAGE)
    merged = vars(options) | {key: value for key, value in target.items() if not getattr(options, key)}
    return argparse.Namespace(**merged)


def _path() -> Path:
    given = os.environ.get(CONFIG_VARIABLE)
    if given:
        return Path(given)
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / DEFAULT_FILE


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Problem(f"{file} cannot be read: {reason}.", exit_code=Exit.USAGE) from None
    except tomllib.TOMLDecodeError as error:
        raise Problem(f"{file} is not TOML: {error}.", exit_code=Exit.USAGE) from None

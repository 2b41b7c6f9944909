"""Completion in bash, zsh and fish. The shell asks the command itself, which knows its options and the connections."""

import argparse
import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from token_broker_cli.screen import Screen
from token_broker_cli.target import TARGET_OPTIONS, Target
from token_broker_cli.target_file import with_target

SHELLS: Final = ("bash", "zsh", "fish")
SCRIPTS: Final = {
    "bash": """\
_token_broker() {
  local IFS=$'\\n'
  COMPREPLY=($(token-broker complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _token_broker token-broker""",
    "zsh": """\
_token_broker() {
  local -a found
  found=(${(f)"$(token-broker complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
  compadd -- $found || _files
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _token_broker token-broker""",
    "fish": """\
complete -c token-broker -a '(token-broker complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'""",
}
FRESH_S: Final = 60.0
# What completes the value of an option, by the option's name.
OF_OPTIONS: Final = {"connection": "connections", "allow": "connections", "provider_filter": "providers"}


class Names:
    """The names of connections and providers, remembered for a minute in the user's cache directory."""

    def __init__(self, read: Callable[[], dict[str, list[str]]], file: Path) -> None:
        self._read = read
        self._file = file

    @classmethod
    def of(cls, words: Sequence[str]) -> "Names":
        """Those of the broker that a command line names."""
        options = argparse.Namespace(**dict.fromkeys((*TARGET_OPTIONS, "target")), local="--local" in words)
        for option, value in itertools.pairwise(words):
            name = option.removeprefix("--").replace("-", "_")
            if option.startswith("--") and name in vars(options):
                setattr(options, name, value)
        options = with_target(options)
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "token-broker"
        variables = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "TOKEN_BROKER_"))}
        of = json.dumps(
            [vars(options), variables.get("AWS_PROFILE"), variables.get("TOKEN_BROKER_URL")], sort_keys=True
        )
        file = folder / f"names-{hashlib.sha256(of.encode()).hexdigest()[:16]}.json"

        def read() -> dict[str, list[str]]:
            api = Target(options, Screen(as_json=True)).api
            connections = [f"{item['provider']}/{item['connection']}" for item in api.connections()]
            return {"connections": connections, "providers": [provider["slug"] for provider in api.providers()]}

        return cls(read, file)

    def get(self) -> dict[str, list[str]]:
        """`connections` (provider/name) and `providers`."""
        try:
            if time.time() - self._file.stat().st_mtime < FRESH_S:
                cached: dict[str, list[str]] = json.loads(self._file.read_text(encoding="utf-8"))
                return cached
        except (OSError, ValueError):
            pass
        found = self._read()
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file.write_text(json.dumps(found), encoding="utf-8")
        except OSError:
            pass  # without a cache each completion asks the broker
        return found


def candidates(parser: argparse.ArgumentParser, words: Sequence[str], names: Callable[[], Names]) -> list[str]:
    """What the last word can become, after the words before it."""
    *before, current = words or [""]
    positionals: list[str] = []
    awaiting: argparse.Action | None = None
    for word in before:
        if awaiting is not None:
            awaiting = None
        elif word.startswith("-"):
            option = next((action for action in parser._actions if word in action.option_strings), None)  # noqa: SLF001  # argparse has no public list
            awaiting = option if option is not None and option.nargs != 0 else None
        elif (commands := _commands(parser)) and word in commands:
            parser = commands[word]
            positionals = []
        else:
            positionals.append(word)
    if awaiting is not None:
        found = _values(awaiting, [], current, names)
    elif current.startswith("-"):
        found = [option for action in parser._actions for option in action.option_strings]  # noqa: SLF001  # as above
    else:
        found = sorted(_commands(parser))
        asked = [action for action in parser._actions if not action.option_strings and not _is_commands(action)]  # noqa: SLF001  # as above
        if len(positionals) < len(asked):
            found += _values(asked[len(positionals)], positionals, current, names)
    return [word for word in found if word.startswith(current)]


def _values(action: argparse.Action, before: Sequence[str], current: str, names: Callable[[], Names]) -> list[str]:
    if action.choices is not None:
        return list(map(str, action.choices))
    kind = OF_OPTIONS.get(action.dest)
    if kind is not None:
        return names().get()[kind]
    if action.dest == "provider":
        known = names().get()
        return known["connections"] if "/" in current else [f"{slug}" for slug in known["providers"]]
    if action.dest == "name":
        prefix = f"{before[-1]}/" if before else ""
        known = names().get()
        if not prefix:
            return known["providers"]
        return [name.removeprefix(prefix) for name in known["connections"] if name.startswith(prefix)]
    return []


def _commands(parser: argparse.ArgumentParser) -> dict[str, Any]:
    return next((dict(action.choices or {}) for action in parser._actions if _is_commands(action)), {})  # noqa: SLF001  # as above


def _is_commands(action: argparse.Action) -> bool:
    return isinstance(action, argparse._SubParsersAction)  # noqa: SLF001  # as above

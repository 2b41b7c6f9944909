"""Asking a person, field by field, for what the catalogue says that a connection needs."""

import getpass
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

from token_broker_cli.problems import Exit, Problem
from token_broker_cli.screen import Screen

Spec = Mapping[str, Any]
# Names, not secrets: whoever types them wants to see them.
SHOWN: Final = frozenset({"client_id", "username"})
LISTS: Final = frozenset({"allowed_callers", "denied_callers", "allowed_scopes"})
# Asked one by one; the other common settings are rarely needed and are given together.
USUAL: Final = ("allowed_callers", "scope", "allowed_scopes")


def read_value(spec: Spec, text: str) -> Any:
    """A setting as it was typed: lists by spaces, numbers where the name ends in _s, objects as JSON. ValueError."""
    name = spec["name"]
    if name in LISTS:
        return [item.strip(",") for item in text.split()]
    if isinstance(spec["default"], bool):
        if text not in ("true", "false"):
            raise ValueError("must be true or false")
        return text == "true"
    if name.endswith("_s"):
        if not text.isdecimal():
            raise ValueError("must be a whole number of seconds")
        return int(text)
    if text.startswith("{"):
        try:
            return json.loads(text)
        except ValueError:
            raise ValueError('must be JSON, such as {"audience": "https://api.example"}') from None
    return text


class Questions:
    """Asks on the terminal. Nothing that is typed for a secret is shown."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def settings(self, provider: Spec, suggested: Mapping[str, str]) -> dict[str, Any]:
        """The settings of a connection. `suggested`: what Enter stands for, by name."""
        usual = [name for name in USUAL if provider["grant"] != "login" or name == "allowed_callers"]
        specs: dict[str, Spec] = {spec["name"]: spec for spec in provider["settings"]}
        common = set(specs) - {spec["name"] for spec in own_settings(provider)}
        settings: dict[str, Any] = {}
        for name, spec in specs.items():
            if name not in common or name in usual or spec["required"]:
                self._ask_into(settings, spec, suggested.get(name))
        self._further(settings, {name: specs[name] for name in specs if name in common and name not in USUAL})
        return settings

    def again(self, settings: dict[str, Any], provider: Spec, faults: Iterable[Mapping[str, str]]) -> None:
        """Asks anew for the fields that the broker found wrong. Raises Problem where one is none of the provider's."""
        specs = {spec["name"]: spec for spec in provider["settings"]}
        for fault in faults:
            name, reason = fault["field"].partition(".")[0], fault["reason"]
            if name not in specs:
                raise Problem(f"{fault['field']} {reason}.", "Take it out of the settings.", exit_code=Exit.USAGE)
            self._screen.say(f"{name} {reason}.", "yellow")
            settings.pop(name, None)
            self._ask_into(settings, specs[name], None)

    def credentials(self, provider: Spec, known: Mapping[str, Any]) -> dict[str, str]:
        """The credentials, secrets without echo. Enter keeps a `known` name, and leaves an optional one out."""
        given = {}
        for spec in provider["credentials"]:
            name = spec["name"]
            keeps = name in SHOWN and name in known
            note = " (Enter: unchanged)" if keeps else "" if spec["required"] else " (optional)"
            while not (text := self._line(name, note)) and spec["required"] and not keeps:
                self._screen.say(f"{name} is required.", "yellow")
            if text:
                given[name] = text
        return given

    def _line(self, name: str, note: str) -> str:
        prompt = f"{name}{note}: "
        return input(prompt).strip() if name in SHOWN else getpass.getpass(prompt)

    def _ask_into(self, settings: dict[str, Any], spec: Spec, suggested: str | None) -> None:
        name, default = spec["name"], suggested or spec["default"]
        self._screen.say(f"\n{spec['help']}", "dim")
        note = f" [{default}]" if default else "" if spec["required"] else " (optional)"
        while True:
            text = input(f"{name}{note}: ").strip() or (suggested or "")
            if not text and spec["required"]:
                self._screen.say(f"{name} is required.", "yellow")
                continue
            try:
                if text:
                    settings[name] = read_value(spec, text)
                return
            except ValueError as error:
                self._screen.say(f"{name} {error}.", "yellow")

    def _further(self, settings: dict[str, Any], specs: Mapping[str, Spec]) -> None:
        self._screen.say(f"\nFurther settings, as name=value: {', '.join(specs)}", "dim")
        while text := input("setting (Enter: none): ").strip():
            name, _, value = (part.strip() for part in text.partition("="))
            if name not in specs or not value:
                self._screen.say("Type name=value, with one of the names above.", "yellow")
                continue
            try:
                settings[name] = read_value(specs[name], value)
            except ValueError as error:
                self._screen.say(f"{name} {error}.", "yellow")


def own_settings(provider: Spec) -> list[Spec]:
    """The provider's own settings, which its answer names before those of every connection."""
    specs: list[Spec] = provider["settings"]
    first_common = next(index for index, spec in enumerate(specs) if spec["name"] == "allowed_callers")
    return specs[:first_common]


def piped_credentials(provider: Spec, *, known: Mapping[str, Any]) -> dict[str, str]:
    """The credentials as a JSON object on standard input. Raises Problem, which names fields and never values."""
    names = {spec["name"] for spec in provider["credentials"]}
    required = {spec["name"] for spec in provider["credentials"] if spec["required"]}
    example = "{" + ", ".join(f'"{name}": "…"' for name in sorted(required)) + "}"
    todo = f"Pipe one in, e.g. from a password manager: {example}"
    try:
        given = json.loads(sys.stdin.read())
    except ValueError:
        given = None
    if not isinstance(given, dict) or not all(isinstance(value, str) and value for value in given.values()):
        what = "Standard input is no terminal and holds no JSON object of credentials."
        raise Problem(what, todo, exit_code=Exit.USAGE)
    if unknown := sorted(set(given) - names):
        raise Problem(f"{provider['slug']} has no credential {', '.join(unknown)}.", todo, exit_code=Exit.USAGE)
    if missing := sorted(required - set(given) - set(known)):
        raise Problem(f"{', '.join(missing)} is missing.", todo, exit_code=Exit.USAGE)
    return given

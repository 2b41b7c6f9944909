"""Prompts for settings and credentials, field by field as the catalogue names them."""

import getpass
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from token_broker_cli.problems import Exit, Problem
from token_broker_cli.screen import Screen

# A setting or credential as GET /v1/providers describes it: name, required, default, help.
Spec = Mapping[str, Any]
# The faults of settings, each with field and reason.
Check = Callable[[Mapping[str, Any]], Sequence[Mapping[str, str]]]
# These are names and not secrets, so they are shown while typed.
SHOWN: Final = frozenset({"client_id", "username"})
# PEM texts have several lines. A terminal is asked for the path of a file instead.
PEM_FIELDS: Final = frozenset({"private_key", "certificate"})
LISTS: Final = frozenset({"allowed_callers", "denied_callers", "allowed_scopes"})
# Common settings with a prompt of their own. The others are rarely needed and share one prompt.
USUAL: Final = ("allowed_callers", "scope", "allowed_scopes")
# A connection with such a grant has one token, whatever the scope.
GRANTS_WITHOUT_SCOPES: Final = frozenset({"login"})


def read_value(spec: Spec, text: str) -> Any:
    """A setting from its typed text. Raises ValueError.

    A list has spaces between its items, and parameters are JSON.
    """
    kind = spec["kind"]
    if kind == "list":
        return [item.strip(",") for item in text.split()]
    if kind == "flag":
        if text not in ("true", "false"):
            raise ValueError("must be true or false")
        return text == "true"
    if kind == "whole":
        if not re.fullmatch("-?[0-9]+", text):
            raise ValueError("must be a whole number" + (" of seconds" if spec["name"].endswith("_s") else ""))
        return int(text)
    if kind == "params":
        try:
            return json.loads(text)
        except ValueError:
            raise ValueError('must be JSON, such as {"audience": "https://api.example"}') from None
    return text


def as_typed(value: Any) -> str:
    """A setting as `read_value` reads it."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class Prompts:
    """Asks on the terminal. A secret is not shown while it is typed."""

    def __init__(self, screen: Screen, check: Check | None = None) -> None:
        """`check`: the faults of the settings so far, with which each field is checked when it is typed."""
        self._screen = screen
        self._check = check

    def connection_settings(self, provider: Spec, suggested: Mapping[str, str]) -> dict[str, Any]:
        """The settings of a connection. `suggested`: what Enter stands for, by name."""
        usual = {"allowed_callers"} if provider["grant"] in GRANTS_WITHOUT_SCOPES else set(USUAL)
        own = {spec["name"] for spec in own_settings(provider)}
        asked = [spec for spec in provider["settings"] if spec["name"] in own | usual or spec["required"]]
        settings = self.settings(asked, suggested)
        further = {spec["name"]: spec for spec in provider["settings"] if spec["name"] not in own | set(USUAL)}
        settings |= {name: read_value(further[name], text) for name, text in suggested.items() if name in further}
        self._further_settings(settings, further)
        return settings

    def settings(self, specs: Iterable[Spec], suggested: Mapping[str, str]) -> dict[str, Any]:
        """These settings, each with a prompt of its own."""
        settings: dict[str, Any] = {}
        for spec in specs:
            self._ask_into(settings, spec, suggested.get(spec["name"]))
        return settings

    def correct(self, settings: dict[str, Any], provider: Spec, faults: Iterable[Mapping[str, str]]) -> None:
        """Asks again for the fields at fault. Raises Problem if one is not a setting of the provider."""
        specs = {spec["name"]: spec for spec in provider["settings"]}
        for fault in faults:
            name = fault["field"].partition(".")[0]
            reason = fault["reason"]
            if name not in specs:
                raise Problem(f"{fault['field']} {reason}.", "Remove it from the settings.", exit_code=Exit.USAGE)
            self._screen.say(f"{name} {reason}.", "yellow")
            settings.pop(name, None)
            self._ask_into(settings, specs[name], None)

    def credentials(
        self, specs: Iterable[Spec], known: Mapping[str, Any], typed: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """The credentials. Enter keeps a `known` name, or what was `typed` before, and skips an optional field."""
        typed = typed or {}
        given = {}
        for spec in specs:
            name = spec["name"]
            keeps = name in typed or (name in SHOWN and name in known)
            note = " (Enter: as before)" if name in typed else " (Enter: unchanged)" if keeps else optional_note(spec)
            while not (text := self._read_credential(name, note)) and spec["required"] and not keeps:
                self._screen.say(f"{name} is required.", "yellow")
            if text or name in typed:
                given[name] = text or typed[name]
        return given

    def _read_credential(self, name: str, note: str) -> str:
        if name in PEM_FIELDS:
            return self._read_file(f"{name}{note} (path of a PEM file): ")
        prompt = f"{name}{note}: "
        return input(prompt).strip() if name in SHOWN else getpass.getpass(prompt)

    def _read_file(self, prompt: str) -> str:
        """The text of a file whose path is asked for; empty after Enter alone."""
        while path := input(prompt).strip():
            try:
                return Path(path).expanduser().read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not text"
                self._screen.say(f"{path} cannot be read: {reason}.", "yellow")
        return ""

    def _ask_into(self, settings: dict[str, Any], spec: Spec, suggested: str | None) -> None:
        name = spec["name"]
        default = suggested or spec["default"]
        self._screen.say(f"\n{spec['help']}", "dim")
        note = f" [{default}]" if default else optional_note(spec)
        while True:
            text = input(f"{name}{note}: ").strip() or (suggested or "")
            if not text and spec["required"]:
                self._screen.say(f"{name} is required.", "yellow")
                continue
            if not text or self._take(settings, spec, text):
                return

    def _take(self, settings: dict[str, Any], spec: Spec, text: str) -> bool:
        """Adds a typed setting, if nothing is wrong with it. Else says what."""
        name = spec["name"]
        before = dict(settings)
        try:
            settings[name] = read_value(spec, text)
            reason = self._fault(settings, name)
        except ValueError as error:
            reason = str(error)
        if reason is None:
            return True
        settings.clear()
        settings.update(before)
        self._screen.say(f"{name} {reason}.", "yellow")
        return False

    def _fault(self, settings: Mapping[str, Any], name: str) -> str | None:
        """What the broker finds wrong with one setting."""
        faults = self._check(settings) if self._check is not None else ()
        return next((fault["reason"] for fault in faults if fault["field"].partition(".")[0] == name), None)

    def _further_settings(self, settings: dict[str, Any], specs: Mapping[str, Spec]) -> None:
        self._screen.say(f"\nFurther settings, as name=value: {', '.join(specs)}", "dim")
        while text := input("setting (Enter: none): ").strip():
            name, _, value = (part.strip() for part in text.partition("="))
            if name not in specs or not value:
                self._screen.say("Type name=value with one of the names above.", "yellow")
                continue
            self._take(settings, specs[name], value)


def suggestions(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as suggestions for their prompts."""
    return {name: as_typed(value) for name, value in settings.items()}


def optional_note(spec: Spec) -> str:
    """What a prompt or a list adds to the name of an optional field."""
    return "" if spec["required"] else " (optional)"


def own_settings(provider: Spec) -> list[Spec]:
    """The settings that only this provider has. GET /v1/providers lists them before the common ones."""
    specs: list[Spec] = provider["settings"]
    first_common = next(index for index, spec in enumerate(specs) if spec["name"] == "allowed_callers")
    return specs[:first_common]


def piped_credentials(provider: Spec, *, known: Mapping[str, Any]) -> dict[str, str]:
    """The credentials from a JSON object on standard input. Raises Problem, which names fields and never values."""
    required = sorted(spec["name"] for spec in provider["credentials"] if spec["required"])
    example = "{" + ", ".join(f'"{name}": "…"' for name in required) + "}"
    todo = f"Pipe one in, e.g. from a password manager: {example}"
    return checked_credentials(provider, piped_object(todo), known=known, todo=todo)


def checked_credentials(
    provider: Spec, given: Mapping[str, Any], *, known: Mapping[str, Any], todo: str
) -> dict[str, str]:
    """The credentials that were given, if the provider has these. Raises Problem, which names fields and never values.

    `known`: those that need not be given.
    """
    names = {spec["name"] for spec in provider["credentials"]}
    required = {spec["name"] for spec in provider["credentials"] if spec["required"]}
    if not all(isinstance(value, str) and value for value in given.values()):
        raise Problem("Each credential must be a string that is not empty.", todo, exit_code=Exit.USAGE)
    if unknown := sorted(set(given) - names):
        raise Problem(f"{provider['slug']} has no credential {', '.join(unknown)}.", todo, exit_code=Exit.USAGE)
    if missing := sorted(required - set(given) - set(known)):
        raise Problem(f"{', '.join(missing)} is missing.", todo, exit_code=Exit.USAGE)
    return dict(given)


def piped_object(todo: str) -> dict[str, Any]:
    """The JSON object on standard input. Raises Problem with `todo`, which does not quote the input."""
    try:
        given = json.loads(sys.stdin.read())
    except ValueError:
        given = None
    if not isinstance(given, dict):
        what = "Standard input is not a terminal and has no JSON object of credentials."
        raise Problem(what, todo, exit_code=Exit.USAGE)
    return given

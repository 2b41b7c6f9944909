"""Forms of settings, field by field as the catalogue names them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from token_broker_cli.prompts import GRANTS_WITHOUT_SCOPES, USUAL, own_settings, read_value
from token_broker_cli.screen import safe

Json = Mapping[str, Any]
PREFIX: Final = "setting."
# It has actions of its own.
SUSPENDED: Final = "suspended"
# Kinds of settings that have several lines.
LONG: Final = frozenset({"list", "pem", "params"})
EMPTY: Final[tuple[object, ...]] = (None, "", [], {})


@dataclass(frozen=True)
class Field:
    """A setting in a form. `text`: what the field holds. `fault`: what is wrong with it."""

    name: str
    kind: str
    help: str
    required: bool
    default: str
    choices: tuple[str, ...]
    text: str
    fault: str
    is_usual: bool

    @property
    def is_long(self) -> bool:
        return self.kind in LONG or "\n" in self.text


@dataclass(frozen=True)
class Typed:
    """A form that was read. `texts`: as typed. `faults`: by setting."""

    texts: Mapping[str, str]
    settings: dict[str, Any]
    faults: dict[str, str]


def settings_fields(provider: Json, texts: Mapping[str, str], faults: Mapping[str, str]) -> list[Field]:
    """The form's fields: the provider's own settings and the usual ones first."""
    usual = {"allowed_callers"} if provider["grant"] in GRANTS_WITHOUT_SCOPES else set(USUAL)
    usual |= {spec["name"] for spec in own_settings(provider)}
    fields = [
        Field(
            name=spec["name"],
            kind=spec["kind"],
            help=spec["help"],
            required=spec["required"],
            default="" if spec["default"] in EMPTY else setting_as_typed(spec["default"]),
            choices=tuple(spec["choices"]),
            text=texts.get(spec["name"], ""),
            fault=faults.get(spec["name"], ""),
            is_usual=spec["required"] or spec["name"] in usual or spec["name"] in faults,
        )
        for spec in provider["settings"]
        if spec["name"] != SUSPENDED
    ]
    return sorted(fields, key=lambda field: not field.is_usual)


def setting_as_typed(value: Any) -> str:
    """A setting as a person types it: a list item by item on lines of their own."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) and " " not in item for item in value):
        return "\n".join(value)
    return json.dumps(value, ensure_ascii=False)


def texts_of(settings: Json) -> dict[str, str]:
    """What the fields of stored settings hold. Invisible characters stand as escapes."""
    return {name: safe(setting_as_typed(value)) for name, value in settings.items()}


def read_form(provider: Json, form: Mapping[str, str], stored: Json) -> Typed:
    """The settings that a form asks for. A field whose text was not changed keeps its stored value as it is."""
    texts: dict[str, str] = {}
    faults: dict[str, str] = {}
    known = {spec["name"] for spec in provider["settings"]} - {SUSPENDED}
    settings = {name: value for name, value in stored.items() if name not in known}
    before = texts_of(stored)
    for spec in provider["settings"]:
        name = spec["name"]
        if name not in known:
            continue
        text = form.get(f"{PREFIX}{name}", "").replace("\r\n", "\n")
        texts[name] = text
        if name in stored and text == before[name]:
            settings[name] = stored[name]
        elif not text.strip():
            if spec["required"]:
                faults[name] = "is required"
        else:
            try:
                settings[name] = read_value(spec, text if spec["kind"] == "pem" else text.strip())
            except ValueError as error:
                faults[name] = str(error)
    return Typed(texts, settings, faults)


def faults_by_setting(faults: Iterable[Mapping[str, str]], provider: Json) -> tuple[dict[str, str], list[str]]:
    """The broker's faults by setting, and as sentences those that belong to no field of the form."""
    known = {spec["name"] for spec in provider["settings"]} - {SUSPENDED}
    by_setting: dict[str, str] = {}
    others = []
    for fault in faults:
        name, _, inner = fault["field"].partition(".")
        if name in known:
            by_setting[name] = f"{inner}: {fault['reason']}" if inner else fault["reason"]
        else:
            others.append(f"{fault['field']} {fault['reason']}.")
    return by_setting, others


@dataclass(frozen=True)
class Change:
    """A setting that differs. An absent value is None."""

    name: str
    before: str | None
    after: str | None


def changes(before: Json, after: Json) -> list[Change]:
    """The settings that differ, as texts."""
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return [Change(name, _text(before, name), _text(after, name)) for name in names]


def _text(settings: Json, name: str) -> str | None:
    return setting_as_typed(settings[name]) if name in settings else None

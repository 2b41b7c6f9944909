"""Reads the parts of a provider's file: sections, templates, URLs, and words. Every fault is kept.

`provider_files` and `consent_files` read whole sections with it. `provider_file_checks` checks fields against others.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from token_broker.core.assertions import PEM_FIELDS
from token_broker.core.providers import ExpiryForm, ExpirySpec, Path, SettingSpec
from token_broker.core.templates import (
    SECRET,
    Template,
    UrlTemplate,
    header_value,
    host_label,
    names_in,
    parse_template,
    parse_url_template,
    parse_value,
    templates_in,
)
from token_broker.core.validation import Fields, absolute_url, one_of, text

EXPIRY_FORMS = ("seconds", "ms", "minutes", "epoch", "epoch_ms", "iso", "none")
URL_KINDS = ("url", "base_url")
# What a template of a token request can name besides settings and the secret's fields.
REQUEST_NAMES = frozenset({"scope", "scope_list", "endpoint", "uuid", "now", "now_ms"})
SCOPE_NAMES = frozenset({"scope", "scope_list"})
# The secret's refresh token. A template names the stored one, {refresh_token}, and only where the grant sends it.
REFRESH_TOKEN = "refresh_token"  # noqa: S105  # a field's name
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PATH = re.compile(r"[^.]+(\.[^.]+)*")


@dataclass(slots=True)
class FileReader:
    """A file while it is read. `sections`: those read so far, by name, and dotted names for the ones inside others.

    `credentials`, `settings`: those that the file declares. `kept`: what it keeps of a redirect. They are set before
    the templates that can name them are read. `used`: the names that templates use. Faults are in `top`.
    """

    top: Fields
    sections: dict[str, Fields] = field(default_factory=dict)
    credentials: tuple[str, ...] = ()
    settings: tuple[SettingSpec, ...] = ()
    kept: frozenset[str] = frozenset()
    used: set[str] = field(default_factory=set)

    def section(self, name: str, of: Fields | None = None, *, required: bool = False) -> Fields:
        found = (of or self.top).section(name, required=required)
        self.sections[found.prefix.rstrip(".")] = found
        return found

    # ------------------------------------------------------------------ names that templates can use

    @property
    def has_assertion(self) -> bool:
        return "assertion" in self.top.data

    @property
    def setting_names(self) -> set[str]:
        """The settings that can stand in a template."""
        return {spec.name for spec in self.settings if spec.kind != "params"}

    @property
    def request_names(self) -> set[str]:
        """All that a template of the token request can name."""
        fields = set(self.credentials) - {REFRESH_TOKEN}
        if self.has_assertion:
            fields -= set(PEM_FIELDS)
        return self.setting_names | {SECRET + name for name in fields} | REQUEST_NAMES

    # ------------------------------------------------------------------ templates

    def template(
        self, fields: Fields, name: str, value: Any, allowed: Collection[str], *, in_json: bool = False
    ) -> Any:
        """A parsed value that uses allowed names only. `in_json`: it can be a table, list or number."""
        if not in_json and isinstance(value, (Mapping, list)):
            fields.fault(name, "can be a table or list only where fields_in is json")
        try:
            found = parse_value(value)
        except ValueError as error:
            fields.fault(name, str(error))
            return parse_template("")
        names = set(names_in(found))
        self.used |= names
        for unknown in sorted(names - set(allowed)):
            fields.fault(name, f"uses {{{unknown}}}. Here it can use {', '.join(sorted(allowed)) or 'no name'}")
        if not in_json and any(template.is_number for template in templates_in(found)):
            fields.fault(name, "can be a number only where fields_in is json")
        return found

    def text_template(self, fields: Fields, name: str, value: str, allowed: Collection[str]) -> Template:
        return cast("Template", self.template(fields, name, value, allowed))

    def word(self, fields: Fields, name: str, words: tuple[str, ...], default: str) -> Template:
        """One of a few words, or a setting that is a choice among them."""
        written: str = fields.take(name, text, default)
        template = self.text_template(fields, name, written, self.setting_names)
        setting = template.only_name
        spec = next((spec for spec in self.settings if spec.name == setting), None)
        if spec is not None:
            if spec.kind != "choice" or not set(spec.choices) <= set(words):
                fields.fault(name, f"needs {{{setting}}} to be a choice among {', '.join(words)}")
            if not spec.required and spec.default is None:
                fields.fault(name, f"uses {{{setting}}}, which must be required or have a default")
        elif setting is None and written not in words:
            fields.fault(name, f"must be one of {', '.join(words)}")
        return template

    def fields(
        self,
        of: Fields,
        name: str,
        *,
        own: Mapping[str, Any] | None = None,
        allowed: Collection[str] | None = None,
        may_nest: bool = False,
    ) -> dict[str, Any]:
        """A table of fields, laid over `own`: those that are sent unless the file says otherwise. "" removes one."""
        fields = self.section(name, of)
        found = dict(own or {})
        for field_name, value in fields.data.items():
            fields.known.add(field_name)
            if value == "":
                if found.pop(field_name, None) is None:
                    fields.fault(field_name, "is empty, so it has no effect: there is no such field to remove")
                continue
            names = allowed or self.request_names
            found[field_name] = self.template(fields, field_name, value, names, in_json=may_nest)
        self.used |= set(names_in(found))
        return found

    def headers(self, section: Fields, allowed: Collection[str]) -> dict[str, Template]:
        headers = self.section("headers", section)
        found = {}
        for name in headers.data:
            value: str = headers.take(name, text, "")
            template = self.text_template(headers, name, value, allowed)
            literal = "".join(part for part in template.parts if isinstance(part, str))
            if not _HEADER_NAME.fullmatch(name):
                headers.fault(name, "is not the name of a header")
            try:
                header_value(f"x{literal}x")
            except ValueError as error:
                headers.fault(name, str(error))
            found[name] = template
        return found

    # ------------------------------------------------------------------ URLs

    def url(self, fields: Fields, name: str, *, required: bool = False, **more: bool) -> UrlTemplate | None:
        """A URL with settings. `relative`: it may be relative. `may_be_absent`: its settings need no value.

        `with_kept`: what is kept of a redirect can stand behind its host.
        """
        url: str | None = fields.take(name, text, "", required=required) or None
        if url is None:
            return None
        try:
            found = parse_url_template(url)
        except ValueError as error:
            fields.fault(name, str(error))
            return None
        self._check_url(fields, name, url, found, **more)
        return found

    def _check_url(
        self,
        fields: Fields,
        name: str,
        url: str,
        found: UrlTemplate,
        *,
        may_be_absent: bool = False,
        relative: bool = False,
        with_kept: bool = False,
    ) -> None:
        if not relative and not url.startswith(("https://", "{")):
            fields.fault(name, "must start with https:// or a setting")
        specs = {spec.name: spec for spec in reversed(self.settings)}
        for setting, place in found.named_places:
            self.used.add(setting)
            spec = specs.get(setting)
            if spec is None:
                if not (with_kept and setting in self.kept and place in ("path", "query")):
                    fields.fault(name, f"uses {{{setting}}}, which is not one of the settings")
            elif not spec.kind:
                continue  # a fault of its own
            elif place == "start" and spec.kind not in URL_KINDS:
                fields.fault(name, f"begins with {{{setting}}}, so its kind must be url or base_url")
            elif place == "host" and not _is_label(spec):
                fields.fault(
                    name, f"has {{{setting}}} in its host, so its kind must be label, or choice with such choices"
                )
            elif place in ("path", "query") and spec.kind in (*URL_KINDS, "params"):
                fields.fault(name, f"has {{{setting}}} behind its host, so its kind cannot be {spec.kind}")
            elif not may_be_absent and not spec.required and spec.default is None:
                fields.fault(name, f"uses {{{setting}}}, which must be required or have a default")

    # ------------------------------------------------------------------ parts of a response

    def expiry(self, response: Fields, name: str) -> ExpirySpec | None:
        if name not in response.data:
            return None
        fields = self.section(name, response)
        form: str = fields.take("as", one_of(EXPIRY_FORMS), "seconds")
        path: Path = fields.take("field", dotted_path, (), required=form != "none")
        if form == "none" and path:
            fields.fault("field", "has no effect with none")
        return ExpirySpec(path, cast("ExpiryForm", form))


def _is_label(spec: SettingSpec) -> bool:
    """Whether each value of a setting is one part of a host name."""
    known = [*spec.choices, *([spec.default] if isinstance(spec.default, str) else [])]
    try:
        for value in known:
            host_label(value)
    except ValueError:
        return False
    return spec.kind in ("label", "choice")


def tables(value: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise ValueError("must be a list of tables")
    return tuple(value)


def page(value: Any) -> str:
    """The URL of a page, which may have a query and a fragment."""
    found = text(value)
    absolute_url(found.partition("#")[0], query=True)
    return found


def dotted_path(value: Any) -> Path:
    """A dotted path: the names of fields, and indexes of lists."""
    found = text(value)
    if not _PATH.fullmatch(found):
        raise ValueError("must be a path such as data.token or errors.0.code")
    return tuple(found.split("."))


def path_or_body(value: Any) -> Path:
    return () if value == "" else dotted_path(value)


def scalar(value: Any) -> Any:
    if not isinstance(value, (str, int, float)):
        raise ValueError("must be a string, a number or a boolean")
    return value


def scope_separator(value: Any) -> str:
    if value not in (" ", ",", ";", "|", "+"):
        raise ValueError("must be a space or one of , ; | +")
    return str(value)


def regular_expression(value: Any) -> re.Pattern[str]:
    try:
        return re.compile(text(value))
    except re.error:
        raise ValueError("is not a regular expression") from None

"""Writes a provider's file and its examples from a sample request and response. No value of a credential is kept."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

from token_broker_cli.sample_requests import SampleRequest
from token_broker_cli.settings_files import toml_key, toml_value

IN_URL: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]*)\}")
BEARER: Final = "Authorization: Bearer {token}"
# The fields of the grants, which a file does not repeat.
OF_THE_GRANT: Final = frozenset({"grant_type", "client_id", "client_secret", "username", "password", "scope"})
SECONDS_IN: Final = {"seconds": 1, "minutes": 60, "ms": 0.001}


@dataclass
class Draft:
    """All that the two files say.

    `secrets`: sample values by the fields of the secret. `settings`: example values by name. `replaced`: templates of
    the request's fields, query and headers by their name, where the value is not fixed. `url`: with settings in braces.
    `expiry`: path and unit; the unit is empty for a field that every response may have.
    """

    name: str
    title: str
    documentation: str
    sample: SampleRequest
    url: str
    proof: str
    read_on: date
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    settings: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    response: Any = field(default=None, repr=False)
    token: str = "access_token"  # noqa: S105  # a path
    expiry: tuple[str, str] | None = None
    header: str = BEARER

    # ------------------------------------------------------------------ what the sample says

    @property
    def is_in_query(self) -> bool:
        return not self.sample.kind

    @property
    def fields(self) -> Mapping[str, Any]:
        """The fields of the grant: in the body, or in the query of a request without one."""
        return self.sample.query if self.is_in_query else self.sample.fields

    @property
    def grant(self) -> str:
        """By grant_type. Another one than the standard's is sent by client_credentials. Without one it is a login."""
        grant_type = self.fields.get("grant_type")
        if grant_type is None:
            return "login"
        return "password" if grant_type == "password" else "client_credentials"

    @property
    def client_auth(self) -> str:
        if self.grant == "login":
            return "none"
        if self.sample.basic is not None:
            return "basic"
        in_body = "client_secret" in self.sample.fields
        return self.sample.kind if in_body and self.sample.kind else "none"

    # ------------------------------------------------------------------ the provider's file

    def provider_file(self) -> str:
        top: dict[str, Any] = {
            "title": self.title,
            "documentation": self.documentation,
            "grant": self.grant,
            "credentials": list(self.secrets),
        }
        lines = [*_lines(top), "", "[request]", *_lines(self._request())]
        for name, values in (
            ("fields", self._own_fields()),
            ("query", {} if self.is_in_query else self._templates(self.sample.query)),
            ("headers", self._templates(self.sample.headers)),
        ):
            if values:
                lines += ["", f"[request.{name}]", *_lines(values)]
        if response := self._response():
            lines += ["", "[response]", *_lines(response)]
        if self.header != BEARER:
            name, _, value = self.header.partition(":")
            lines += ["", "[send]", 'token_type = "N_A"', "[send.headers]", *_lines({name.strip(): value.strip()})]
        for name in self.settings:
            lines += ["", "[[settings]]", *_lines(self._setting(name))]
        return "\n".join(lines) + "\n"

    def _request(self) -> dict[str, Any]:
        is_login = self.grant == "login"
        request = {"url": self.url}
        if self.sample.method == "GET":
            request["method"] = "GET"
        usual = "json" if is_login else "form"
        place = "query" if self.is_in_query else self.sample.kind
        if place != usual:
            request["fields_in"] = place
        if not is_login and self.client_auth != "basic":
            request["client_auth"] = self.client_auth
        if self.fields.get("grant_type") not in (None, "password", "client_credentials"):
            request["grant_type"] = str(self.fields["grant_type"])
        in_body = {"client_id_in_body": True} if self.client_auth == "basic" and "client_id" in self.fields else {}
        return request | in_body

    def _own_fields(self) -> dict[str, Any]:
        """The fields that the grant does not send by itself."""
        fields = self._templates(self.fields)
        if self.grant == "login":
            plain = {name: f"{{secret:{name}}}" for name in self.secrets}
            return {} if fields == plain else fields
        kept = {name for name in fields if name not in OF_THE_GRANT}
        if self.client_auth == "none" and "client_secret" in fields:
            kept.add("client_secret")
        return {name: fields[name] for name in fields if name in kept}

    def _templates(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.replaced.get(name, _literal(value)) for name, value in values.items()}

    def _response(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.token != "access_token":  # noqa: S105  # a path
            found["token"] = self.token
        if self.expiry is not None and self.expiry[1]:
            found["expiry"] = {"field": self.expiry[0], "as": self.expiry[1]}
        token_type = self.response.get("token_type") if isinstance(self.response, dict) else None
        if self.header == BEARER and isinstance(token_type, str) and token_type.lower() != "bearer":
            found["token_types"] = [token_type]
        return found

    def _setting(self, name: str) -> dict[str, Any]:
        if self.url.startswith(f"{{{name}}}"):
            kind = "base_url"
            what = f"The base URL in {self.url}."
        elif f"{{{name}}}" in urlsplit(self.url).netloc:
            kind = "label"
            what = f"The part {{{name}}} of the host in {self.url}."
        elif f"{{{name}}}" in self.url:
            kind = "text"
            what = f"The part {{{name}}} of {self.url}."
        else:
            kind = "text"
            what = f"The value of {name} in the token request."
        return {"name": name, "kind": kind, "required": True, "help": what}

    # ------------------------------------------------------------------ its examples

    def examples_file(self) -> str:
        top = {"proof": self.proof, "source": self.documentation, "read_on": self.read_on}
        example: dict[str, Any] = {
            "title": "The token request of the page",
            "settings": self.settings,
            "secret": {name: _invented(name) for name in self.secrets},
        }
        if isinstance(scope := self.fields.get("scope"), str) and scope and self.grant != "login":
            example["scope"] = scope
        lines = [
            *_lines(top),
            "",
            "# The credentials and tokens are invented. Of the response only what the file reads is kept.",
            "[[example]]",
            *_lines({name: value for name, value in example.items() if value != {}}),
            "[example.request]",
            *_lines(self._expected_request()),
            "[example.response]",
            "status = 200",
            *_lines({"text" if isinstance(self.response, str) else "json": self._kept_response()}),
            "[example.result]",
            *_lines(self._result()),
        ]
        return "\n".join(lines) + "\n"

    def _expected_request(self) -> dict[str, Any]:
        """The sample with the example's values in it."""
        query = self._examples(self.sample.query)
        url = IN_URL.sub(lambda found: self.settings.get(found[1], found[0]), self.url)
        request: dict[str, Any] = {
            "method": self.sample.method,
            "url": f"{url}?{urlencode(query)}" if query else url,
        }
        headers = self._examples(self.sample.headers)
        if self.sample.basic is not None:
            pair = ":".join(quote_plus(_invented(name), safe="") for name in ("client_id", "client_secret"))
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        if headers:
            request["headers"] = headers
        if self.sample.kind:
            request[self.sample.kind] = self._examples(self.sample.fields)
        return request

    def _examples(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._example(self.replaced.get(name), value) for name, value in values.items()}

    def _example(self, template: str | None, value: Any) -> Any:
        """The value of a field in the example: an invented one for a credential, and a setting's own."""
        if template is None or template == "{scope}":
            return value
        name = template.strip("{}")
        return _invented(name.removeprefix("secret:")) if name.startswith("secret:") else self.settings[name]

    def _kept_response(self) -> Any:
        if not self.token:
            return _invented("token")
        kept: dict[str, Any] = {}
        for path in (self.token, self.expiry[0] if self.expiry else "", "token_type", "scope", "refresh_token"):
            value = value_at(self.response, path)
            if path and value is not None:
                is_secret = path in (self.token, "refresh_token")
                _put(kept, path, _invented(path.rpartition(".")[2]) if is_secret else value)
        return kept

    def _result(self) -> dict[str, Any]:
        token = _invented(self.token.rpartition(".")[2] or "token")
        result: dict[str, Any] = {"token": token}
        if self.expiry is not None:
            path, unit = self.expiry
            value = value_at(self.response, path)
            seconds = _seconds(value, unit or "seconds")
            if seconds is not None:
                result["expires_in_s"] = seconds
        name, _, value = self.header.partition(":")
        if IN_URL.findall(self.header) == ["token"]:
            result["headers"] = {name.strip(): value.strip().replace("{token}", token)}
        return result


def value_at(data: Any, path: str) -> Any:
    """The value at a dotted path of a JSON document; None if there is none."""
    for step in path.split("."):
        data = data.get(step) if isinstance(data, dict) else None
    return data


def _put(data: dict[str, Any], path: str, value: Any) -> None:
    *steps, last = path.split(".")
    for step in steps:
        data = data.setdefault(step, {})
    data[last] = value


def _seconds(value: Any, unit: str) -> int | None:
    """A lifetime that is a number of this unit, below what counts as a moment."""
    if unit not in SECONDS_IN or isinstance(value, bool) or not str(value).isdecimal() or int(value) >= 10**9:
        return None
    return round(int(value) * SECONDS_IN[unit])


def _invented(name: str) -> str:
    return f"invented-{name.replace('_', '-').lower()}"


def _literal(value: Any) -> Any:
    """A fixed value as a template: braces are doubled."""
    if isinstance(value, str):
        return value.replace("{", "{{").replace("}", "}}")
    if isinstance(value, dict):
        return {name: _literal(item) for name, item in value.items()}
    return [_literal(item) for item in value] if isinstance(value, list) else value


def _lines(values: Mapping[str, Any]) -> list[str]:
    return [
        f"{toml_key(name)} = {value.isoformat() if isinstance(value, date) else toml_value(value)}"
        for name, value in values.items()
    ]


def read_response(text: str) -> Any:
    """A response's body: JSON, or its text. What stands before an empty line after a status line is left out."""
    text = text.strip()
    if text.startswith("HTTP/"):
        text = text.replace("\r\n", "\n").partition("\n\n")[2].strip()
    try:
        return json.loads(text)
    except ValueError:
        return text
